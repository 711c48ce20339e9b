"""A copy has every snapshot of the source, bit for bit, needs nothing of it, and goes on from where it was."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest
from pyiceberg.catalog import Catalog

from core.errors import ConflictError, CorruptDataError
from iceberg.catalog import open_catalog
from iceberg.checks import check_lake
from iceberg.expiry import expire_snapshots
from iceberg.history import read_as_of
from iceberg.registering import adopt_tables
from iceberg.replication import Copied, Target, catalog_source, found_sources, replicate, replicate_table
from iceberg.sink import ExactlyOnceTable
from iceberg.storage import Storage


def some_rows(*numbers: int) -> pa.Table:
    size = len(numbers)
    return pa.table({"tenant_id": [f"t{n % 3}" for n in numbers], "sink": ["a"] * size, "n": pa.array(numbers, pa.int64())})


@pytest.fixture
def grown(catalog: Catalog, table: str) -> str:
    """Appends, a merge that leaves position deletes, and a deletion that rewrites files."""
    sink = ExactlyOnceTable(catalog, table, uuid.UUID(int=1))
    sink.append(1, some_rows(1, 2, 3, 4))
    sink.append(2, some_rows(5, 6, 7, 8))
    sink.merge(3, key=["n"], upserts=some_rows(2, 9), deletes=pa.table({"n": pa.array([5], pa.int64())}))
    assert 1 in catalog.load_table(table).inspect.files().column("content").to_pylist(), "position deletes are there"
    catalog.load_table(table).delete("n = 7")
    sink.append(4, some_rows(10))
    return table


def history(catalog: Catalog, table: str) -> Mapping[int, pa.Table]:
    """What each snapshot holds, in a fixed order."""
    return {
        snapshot.snapshot_id: read_as_of(catalog, table, snapshot_id=snapshot.snapshot_id, order_by=["n"])
        for snapshot in catalog.load_table(table).metadata.snapshots
    }


def opened(folder: Path) -> Catalog:
    return open_catalog("jdbc", f"jdbc:sqlite:{folder / 'catalog.db'}", str(folder / "warehouse"))


def copy_to(folder: Path, catalog: Catalog, table: str, *, dry_run: bool = False) -> Copied:
    target = Target(Storage({}), f"file://{folder}/warehouse", None if dry_run else opened(folder))
    [done] = replicate([partial(catalog_source, catalog, table)], Storage({}), target, dry_run=dry_run)
    return done


def wipe(tmp_path: Path, catalog: Catalog) -> None:
    """Remove the first warehouse and its catalog altogether."""
    catalog.close()
    shutil.rmtree(tmp_path / "warehouse")
    for name in ("catalog.db", "catalog.db-wal", "catalog.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)


def check(folder: Path) -> list[object]:
    return list(check_lake(lambda: opened(folder), f"file://{folder}/warehouse", deep=True).findings)


def test_a_copy_has_all_history_and_goes_on_when_the_first_is_gone(catalog: Catalog, grown: str, tmp_path: Path) -> None:
    before = history(catalog, grown)
    told = copy_to(tmp_path / "second", catalog, grown, dry_run=True)
    assert not (tmp_path / "second").exists()
    done = copy_to(tmp_path / "second", catalog, grown)
    assert (done.files, done.snapshots, done.registered) == (told.files, 5, True)
    wipe(tmp_path, catalog)

    second = opened(tmp_path / "second")
    after = history(second, grown)
    assert after.keys() == before.keys()
    assert all(after[snapshot].equals(before[snapshot]) for snapshot in before)
    assert check(tmp_path / "second") == []
    for path in (tmp_path / "second").rglob("*"):
        if path.suffix in (".json", ".avro"):
            assert str(tmp_path / "warehouse").encode() not in path.read_bytes(), path

    sink = ExactlyOnceTable(second, grown, uuid.UUID(int=1))
    assert sink.last_epoch() == 4
    assert not sink.append(4, some_rows(10)), "the epoch came along"
    assert sink.append(5, some_rows(11))
    sink.merge(6, key=["n"], upserts=some_rows(3), deletes=pa.table({"n": pa.array([1], pa.int64())}))
    expire_snapshots(second, grown, older_than=datetime(2200, 1, 1, tzinfo=UTC), keep_last=1)
    assert sorted(read_as_of(second, grown, order_by=["n"]).column("n").to_pylist()) == [2, 3, 4, 6, 8, 9, 10, 11]
    assert check(tmp_path / "second") == []


def test_a_second_run_copies_what_is_new_only(catalog: Catalog, grown: str, tmp_path: Path) -> None:
    first = copy_to(tmp_path / "second", catalog, grown)
    again = copy_to(tmp_path / "second", catalog, grown)
    assert (again.files, again.metadata) == (0, first.metadata)
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "second/warehouse/lake").rglob("*") if path.is_file()}
    ExactlyOnceTable(catalog, grown, uuid.UUID(int=1)).append(5, some_rows(11))
    more = copy_to(tmp_path / "second", catalog, grown)
    assert more.files == 4, "data file, manifest, manifest list, metadata"
    assert all(path.stat().st_mtime_ns == time for path, time in times.items())
    after, before = history(opened(tmp_path / "second"), grown), history(catalog, grown)
    assert all(after[snapshot].equals(rows) for snapshot, rows in before.items())


def test_a_copy_that_was_interrupted_anywhere_is_finished_by_the_next_run(catalog: Catalog, grown: str, tmp_path: Path) -> None:
    class Failing(Storage):
        left = 0

        def write(self, location: str, content: object) -> None:
            if self.left == 0:
                raise OSError("the cable was pulled")
            self.left -= 1
            super().write(location, content)  # type: ignore[arg-type]

    total = copy_to(tmp_path / "whole", catalog, grown).files
    failing, runs = Failing({}), 0
    target = Target(failing, f"file://{tmp_path}/second/warehouse", opened(tmp_path / "second"))
    finished = False
    while not finished:
        failing.left, runs = 3, runs + 1
        try:
            list(replicate([partial(catalog_source, catalog, grown)], Storage({}), target))
            finished = True
        except OSError:
            assert not opened(tmp_path / "second").table_exists(grown), "what is not whole is not seen"
    assert runs > total // 3
    after, before = history(opened(tmp_path / "second"), grown), history(catalog, grown)
    assert all(after[snapshot].equals(rows) for snapshot, rows in before.items())
    assert check(tmp_path / "second") == []


def test_a_copy_that_lived_on_is_not_overwritten(catalog: Catalog, grown: str, tmp_path: Path) -> None:
    copy_to(tmp_path / "second", catalog, grown)
    ExactlyOnceTable(opened(tmp_path / "second"), grown, uuid.UUID(int=1)).append(5, some_rows(500))
    ExactlyOnceTable(catalog, grown, uuid.UUID(int=1)).append(5, some_rows(11))
    with pytest.raises(ConflictError, match="written to since it was made"):
        copy_to(tmp_path / "second", catalog, grown)
    assert 500 in read_as_of(opened(tmp_path / "second"), grown, order_by=["n"]).column("n").to_pylist()


def test_bytes_alone_that_were_moved_elsewhere_become_a_table_again(catalog: Catalog, grown: str, tmp_path: Path) -> None:
    before = history(catalog, grown)
    shutil.copytree(tmp_path / "warehouse", tmp_path / "backup")
    wipe(tmp_path, catalog)
    found = found_sources(Storage({}), f"file://{tmp_path}/backup")
    assert [source.name for source in found] == [grown]
    target = Target(Storage({}), f"file://{tmp_path}/second/warehouse", opened(tmp_path / "second"))
    list(replicate([lambda: found[0]], Storage({}), target))
    shutil.rmtree(tmp_path / "backup")
    after = history(opened(tmp_path / "second"), grown)
    assert after.keys() == before.keys()
    assert all(after[snapshot].equals(before[snapshot]) for snapshot in before)


def test_a_copy_of_bytes_is_adopted_by_a_catalog_later(catalog: Catalog, grown: str, tmp_path: Path) -> None:
    before = history(catalog, grown)
    target = Target(Storage({}), f"file://{tmp_path}/second/warehouse", None)
    [done] = replicate([partial(catalog_source, catalog, grown)], Storage({}), target)
    assert not done.registered
    wipe(tmp_path, catalog)
    fresh = open_catalog("jdbc", f"jdbc:sqlite:{tmp_path}/second/catalog.db", f"{tmp_path}/second/warehouse", claims=False)
    assert [each.table for each in adopt_tables(fresh, f"file://{tmp_path}/second/warehouse")] == [grown]
    after = history(opened(tmp_path / "second"), grown)
    assert all(after[snapshot].equals(before[snapshot]) for snapshot in before)


def test_a_source_that_expires_meanwhile_is_begun_again(
    catalog: Catalog, grown: str, tmp_path: Path, open_lake: Callable[[], Catalog]
) -> None:
    states = 0

    def source() -> object:
        nonlocal states
        found = catalog_source(open_lake(), grown)
        states += 1
        if states == 1:
            expire_snapshots(catalog, grown, older_than=datetime(2200, 1, 1, tzinfo=UTC), keep_last=1)
        return found

    target = Target(Storage({}), f"file://{tmp_path}/second/warehouse", opened(tmp_path / "second"))
    done = replicate_table(source, Storage({}), target)  # type: ignore[arg-type]
    assert (done.snapshots, states) == (1, 3)
    assert history(opened(tmp_path / "second"), grown).keys() == history(catalog, grown).keys()


def test_a_broken_source_is_told_and_nothing_is_registered(catalog: Catalog, grown: str, tmp_path: Path) -> None:
    lost = sorted((tmp_path / "warehouse/lake/rows/data").rglob("*.parquet"))[0]
    lost.unlink()
    with pytest.raises(CorruptDataError, match="a file of the table is missing"):
        copy_to(tmp_path / "second", catalog, grown)
    assert not opened(tmp_path / "second").table_exists(grown)
