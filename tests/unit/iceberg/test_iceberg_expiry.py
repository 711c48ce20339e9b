"""Expiry forgets what it should, and removes no file that a kept snapshot needs."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.catalog import Catalog

import iceberg.expiry
import iceberg.manifests
from core.errors import InvalidInputError, NotFoundError
from core.fakes.clock import ManualClock
from iceberg.expiry import expire_snapshots
from iceberg.history import read_as_of, snapshots
from iceberg.sink import ExactlyOnceTable

START = datetime(2100, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def one_row(n: int) -> pa.Table:
    return pa.table({"tenant_id": [f"t{n % 2}"], "sink": ["a"], "n": pa.array([n], pa.int64())})


@pytest.fixture
def grown(catalog: Catalog, table: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """20 appends, a minute apart, with merged manifests."""
    monkeypatch.setattr(iceberg.manifests, "FAN_IN", 4)
    clock = ManualClock(START)
    sink = ExactlyOnceTable(catalog, table, uuid.UUID(int=1), clock=clock)
    for n in range(1, 21):
        sink.append(n, one_row(n))
        clock.advance(MINUTE)
    return table


def files(tmp_path: Path) -> set[str]:
    return {f"file://{path}" for path in (tmp_path / "warehouse/lake/rows").rglob("*") if path.is_file()}


def reachable(catalog: Catalog, identifier: str) -> set[str]:
    """Lists, manifests and data files of all snapshots, by PyIceberg's own inspection."""
    table = catalog.load_table(identifier)
    found = {snapshot.manifest_list for snapshot in table.metadata.snapshots}
    found |= set(table.inspect.all_manifests().column("path").to_pylist())
    found |= set(table.inspect.all_files().column("file_path").to_pylist())
    return found


def numbers(rows: pa.Table) -> list[int]:
    return sorted(rows.column("n").to_pylist())


def read(catalog: Catalog, table: str, **when: Any) -> list[int]:
    return numbers(read_as_of(catalog, table, order_by=["n"], **when))


def test_kept_snapshots_read_as_before_and_exactly_the_unreachable_files_go(
    catalog: Catalog, grown: str, tmp_path: Path
) -> None:
    before = {info.snapshot_id: read(catalog, grown, snapshot_id=info.snapshot_id) for info in snapshots(catalog, grown)}
    present = files(tmp_path)
    expired = expire_snapshots(catalog, grown, older_than=START + 15 * MINUTE, keep_last=2)
    assert len(expired.snapshots) == 15
    kept = snapshots(catalog, grown)
    assert [info.committed_at for info in kept] == [START + n * MINUTE for n in range(19, 14, -1)]
    assert all(read(catalog, grown, snapshot_id=info.snapshot_id) == before[info.snapshot_id] for info in kept)
    assert present - files(tmp_path) == set(expired.files)
    left = {path for path in files(tmp_path) if not path.endswith(".metadata.json")}
    assert left == reachable(catalog, grown)


def test_files_that_a_deletion_replaced_go_with_the_last_snapshot_that_needs_them(
    catalog: Catalog, grown: str, tmp_path: Path
) -> None:
    catalog.load_table(grown).delete("n <= 5")
    sink = ExactlyOnceTable(catalog, grown, uuid.UUID(int=2))
    for n in range(1, 4):
        sink.append(n, one_row(100 + n))
    now = read(catalog, grown)
    expired = expire_snapshots(catalog, grown, older_than=datetime(2101, 1, 1, tzinfo=UTC), keep_last=1)
    assert sum("/data/" in path for path in expired.files) == 5
    assert read(catalog, grown) == now == [*range(6, 21), 101, 102, 103]
    assert {path for path in files(tmp_path) if not path.endswith(".metadata.json")} == reachable(catalog, grown)


def test_a_dry_run_tells_the_same_and_changes_nothing(catalog: Catalog, grown: str, tmp_path: Path) -> None:
    present, location = files(tmp_path), catalog.load_table(grown).metadata_location
    told = expire_snapshots(catalog, grown, older_than=START + 9 * MINUTE, dry_run=True, keep_last=1)
    assert (files(tmp_path), catalog.load_table(grown).metadata_location) == (present, location)
    assert expire_snapshots(catalog, grown, older_than=START + 9 * MINUTE, keep_last=1) == told
    assert len(told.snapshots) == 9


def test_tags_and_the_newest_are_kept_whatever_their_age(catalog: Catalog, grown: str) -> None:
    tagged = snapshots(catalog, grown)[-3].snapshot_id
    catalog.load_table(grown).manage_snapshots().create_tag(tagged, "training").commit()
    expire_snapshots(catalog, grown, older_than=datetime(2101, 1, 1, tzinfo=UTC), keep_last=3)
    left = {info.snapshot_id for info in snapshots(catalog, grown)}
    assert len(left) == 4
    assert tagged in left
    assert read(catalog, grown, snapshot_id=tagged) == [1, 2, 3]
    assert expire_snapshots(catalog, grown, older_than=datetime(2101, 1, 1, tzinfo=UTC), keep_last=3).snapshots == ()


def test_sinks_keep_their_epochs_and_append_while_snapshots_expire(
    catalog: Catalog, open_lake: Callable[[], Catalog], grown: str, tmp_path: Path
) -> None:
    failures: list[Exception] = []

    def write() -> None:
        try:
            sink = ExactlyOnceTable(open_lake(), grown, uuid.UUID(int=2))
            for n in range(1, 25):
                assert sink.append(n, one_row(1000 + n))
        except Exception as error:  # noqa: BLE001  # reported by the main thread
            failures.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    rounds = 0
    while writer.is_alive():
        expire_snapshots(catalog, grown, older_than=datetime(2101, 1, 1, tzinfo=UTC), keep_last=2)
        rounds += 1
    writer.join()
    assert failures == []
    assert rounds > 1
    expire_snapshots(catalog, grown, older_than=datetime(2101, 1, 1, tzinfo=UTC), keep_last=1)
    assert read(catalog, grown) == [*range(1, 21), *range(1001, 1025)]
    assert ExactlyOnceTable(catalog, grown, uuid.UUID(int=1)).last_epoch() == 20
    assert ExactlyOnceTable(catalog, grown, uuid.UUID(int=2)).last_epoch() == 24
    assert {path for path in files(tmp_path) if not path.endswith(".metadata.json")} == reachable(catalog, grown)


def test_malformed_arguments_are_refused(catalog: Catalog, table: str) -> None:
    with pytest.raises(InvalidInputError, match="has no time zone"):
        expire_snapshots(catalog, table, older_than=datetime(2026, 1, 1))  # noqa: DTZ001
    with pytest.raises(InvalidInputError, match="cannot be kept"):
        expire_snapshots(catalog, table, older_than=START, keep_last=0)
    assert expire_snapshots(catalog, table, older_than=START).snapshots == ()


def test_the_snapshot_that_answers_at_the_limit_is_kept(catalog: Catalog, grown: str) -> None:
    limit = START + 7 * MINUTE + timedelta(seconds=30)
    expected = read(catalog, grown, as_of=limit)
    expire_snapshots(catalog, grown, older_than=limit, keep_last=1)
    assert read(catalog, grown, as_of=limit) == expected == [*range(1, 9)]
    with pytest.raises(NotFoundError, match="before the history that is kept"):
        read(catalog, grown, as_of=limit - MINUTE)


def test_a_branch_keeps_its_own_newest_and_a_ref_that_comes_meanwhile_keeps_its_snapshot(
    catalog: Catalog, grown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_age = [info.snapshot_id for info in reversed(snapshots(catalog, grown))]
    catalog.load_table(grown).manage_snapshots().create_branch(by_age[9], "audit", min_snapshots_to_keep=3).commit()
    real = iceberg.expiry.reach_snapshots

    def tagged_meanwhile(*args: Any) -> Any:
        monkeypatch.setattr(iceberg.expiry, "reach_snapshots", real)
        catalog.load_table(grown).manage_snapshots().create_tag(by_age[1], "late").commit()
        return real(*args)

    monkeypatch.setattr(iceberg.expiry, "reach_snapshots", tagged_meanwhile)
    done = expire_snapshots(catalog, grown, older_than=datetime(2101, 1, 1, tzinfo=UTC), keep_last=2)
    left = [snapshot.snapshot_id for snapshot in catalog.load_table(grown).metadata.snapshots]
    assert set(left) == {by_age[1], *by_age[7:10], *by_age[18:]}
    assert by_age[1] not in done.snapshots
    assert read(catalog, grown, snapshot_id=by_age[1]) == [1, 2]
    assert read(catalog, grown, snapshot_id=by_age[7]) == [*range(1, 9)]
    assert read(catalog, grown) == [*range(1, 21)]
