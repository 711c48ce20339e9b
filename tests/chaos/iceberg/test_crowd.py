"""Many processes append, merge and compact one table at once: nothing is lost, nothing comes twice, nobody fails."""

from __future__ import annotations

import uuid
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from iceberg.compaction import compact
from iceberg.sink import ExactlyOnceTable, epoch_property
from tests.chaos.iceberg import crowd, world
from tests.chaos.iceberg.readers import files, plain_table, read_by_duckdb, read_by_pyiceberg

COLUMNS = ("tenant_id", "n", "text")


def crowd_writes(folder: Path, appenders: int, epochs: int, mergers: int, turns: int) -> None:
    world.create(str(folder))
    done = folder / "done"
    compactor = crowd.start(crowd.compact_until, str(folder), str(done))
    writers = [crowd.start(crowd.append_epochs, str(folder), number, epochs) for number in range(appenders)]
    writers += [crowd.start(crowd.merge_shared, str(folder), number, turns) for number in range(mergers)]
    codes = crowd.join(writers, timedelta(seconds=200))
    done.touch()
    codes += crowd.join([compactor], timedelta(seconds=60))
    assert codes == [0] * (appenders + mergers + 1)


def must_hold_what_was_written(folder: Path, appenders: int, epochs: int, mergers: int, turns: int) -> None:
    table = plain_table(folder / "catalog.db", world.IDENTIFIER)
    rows: list[tuple[Any, ...]] = read_by_pyiceberg(table, COLUMNS)
    assert read_by_duckdb(table, COLUMNS) == rows
    own = Counter(row[:2] for row in rows if row[0].startswith("w"))
    assert own == Counter(
        (f"w{writer}", key)
        for writer in range(appenders)
        for epoch in range(1, epochs + 1)
        for key in crowd.own_keys(writer, epoch)
    )
    # Merges of the same keys are serialised: every key once, and all of them from the merge that came last.
    shared = [row for row in rows if row[0] == "shared"]
    assert [row[1] for row in shared] == list(range(crowd.SHARED_KEYS))
    assert len({row[2] for row in shared}) == 1
    assert shared[0][2] in {f"m{writer}.{turns - 1}" for writer in range(mergers)}
    stored = [int(table.properties[epoch_property(uuid.UUID(int=100 + writer))]) for writer in range(appenders)]
    assert stored == [epochs] * appenders


@pytest.mark.timeout(280)
def test_eight_processes_append_merge_and_compact_at_once(tmp_path: Path) -> None:
    crowd_writes(tmp_path, appenders=5, epochs=8, mergers=2, turns=5)
    must_hold_what_was_written(tmp_path, appenders=5, epochs=8, mergers=2, turns=5)
    snapshots = plain_table(tmp_path / "catalog.db", world.IDENTIFIER).snapshots()
    operations = Counter(snapshot.summary.operation.value for snapshot in snapshots if snapshot.summary is not None)
    assert operations["replace"] > 0, "the compaction never won"


@pytest.mark.nightly
@pytest.mark.timeout(1200)
def test_eight_processes_for_long(tmp_path: Path) -> None:
    crowd_writes(tmp_path, appenders=5, epochs=60, mergers=2, turns=40)
    must_hold_what_was_written(tmp_path, appenders=5, epochs=60, mergers=2, turns=40)


@pytest.mark.timeout(280)
@pytest.mark.parametrize("commits", [60, pytest.param(1000, marks=[pytest.mark.nightly, pytest.mark.timeout(1200)])])
def test_small_commits_are_compacted_while_writing_goes_on(tmp_path: Path, commits: int) -> None:
    world.create(str(tmp_path))
    catalog = world.open_lake(str(tmp_path))
    sink = ExactlyOnceTable(catalog, world.IDENTIFIER, uuid.UUID(int=1))
    for epoch in range(1, commits + 1):
        sink.append(epoch, pa.table([["a"], [epoch], ["before"]], schema=world.SCHEMA))
    before = plain_table(tmp_path / "catalog.db", world.IDENTIFIER)
    rows, named = read_by_pyiceberg(before, COLUMNS), files(before)
    size = sum(Path(path).stat().st_size for path in named[0])
    head = before.metadata.current_snapshot_id

    beside = [crowd.start(crowd.append_epochs, str(tmp_path), writer, 10) for writer in range(2)]
    beside.append(crowd.start(crowd.merge_shared, str(tmp_path), 0, 5))
    done = compact(catalog, world.IDENTIFIER)
    assert crowd.join(beside, timedelta(seconds=120)) == [0, 0, 0]

    after = plain_table(tmp_path / "catalog.db", world.IDENTIFIER)
    assert (done.given_up, done.rows >= commits) == (0, True)
    assert [row for row in read_by_pyiceberg(after, COLUMNS) if row[0] == "a"] == rows
    must_hold_what_was_written(tmp_path, appenders=2, epochs=10, mergers=1, turns=5)
    assert read_by_pyiceberg(after, COLUMNS, head) == rows
    assert read_by_duckdb(after, COLUMNS, head) == rows
    assert len(named[0]) == commits
    assert done.files_after <= 3
    assert done.bytes_after < size / 5
    print(f"{commits} files of {size} bytes became {done.files_after} of {done.bytes_after}")
