"""Orphan removal finds what nobody needs, and leaves everything that somebody might."""

from __future__ import annotations

import json
import os
import threading
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from onnx import TensorProto, helper
from pyiceberg.catalog import Catalog

from core.errors import ConflictError, CorruptDataError
from core.fakes.clock import ManualClock
from iceberg.catalog import open_catalog
from iceberg.expiry import expire_snapshots
from iceberg.holds import HeldError, hold
from iceberg.orphans import remove_orphaned_artifacts, remove_orphans
from iceberg.registry import Registry
from iceberg.sink import ExactlyOnceTable
from iceberg.tables import create_table_for_arrow
from iceberg.usage import measure_rest, measure_table

AGE = timedelta(hours=1)
LONG_AGO = time.time() - 7200
FAR = datetime(2200, 1, 1, tzinfo=UTC)


def one_row(n: int) -> pa.Table:
    return pa.table({"tenant_id": ["t"], "sink": ["a"], "n": pa.array([n], pa.int64())})


@pytest.fixture
def filled(catalog: Catalog, table: str) -> str:
    sink = ExactlyOnceTable(catalog, table, uuid.UUID(int=1))
    for n in range(1, 6):
        sink.append(n, one_row(n))
    return table


def place_of(catalog: Catalog, table: str) -> Path:
    return Path(catalog.load_table(table).location().removeprefix("file://"))


def put(path: Path, *, old: bool = True, content: bytes = b"left behind") -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    if old:
        os.utime(path, (LONG_AGO, LONG_AGO))
    return f"file://{path}"


def make_old(folder: Path) -> None:
    for path in folder.rglob("*"):
        os.utime(path, (LONG_AGO, LONG_AGO))


def numbers(catalog: Catalog, table: str) -> list[int]:
    return sorted(catalog.load_table(table).scan().to_arrow().column("n").to_pylist())


def model(value: float) -> bytes:
    node = helper.make_node("Constant", [], ["y"], value_floats=[value])
    graph = helper.make_graph([node], "constant", [], [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])])
    made: bytes = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()
    return made


def register(registry: Registry, value: float) -> str:
    made = registry.register(
        "constant", model(value), kind="x", metrics={}, tags={}, training_data={}, code_hash="", duration=timedelta(0)
    )
    return made.artifact


def test_exactly_the_old_files_that_nobody_needs_go(catalog: Catalog, filled: str) -> None:
    place = place_of(catalog, filled)
    make_old(place)
    old = {put(place / "data/tenant_id_bucket=1/lost.parquet"), put(place / "metadata/lost-m0.avro")}
    half = put(place / "metadata/00099-lost.metadata.json", content=b'{"table-uu')
    young = put(place / "data/in-flight.parquet", old=False)
    before = {str(path) for path in place.rglob("*") if path.is_file()}
    told = remove_orphans(catalog, filled, older_than=AGE, dry_run=True)
    assert {str(path) for path in place.rglob("*") if path.is_file()} == before
    done = remove_orphans(catalog, filled, older_than=AGE)
    assert set(done.files) == set(told.files) == {*old, half}
    assert (done.young, done.failed) == (1, ())
    assert Path(young.removeprefix("file://")).exists()
    assert len({str(path) for path in place.rglob("*") if path.is_file()}) == len(before) - 3
    assert numbers(catalog, filled) == [1, 2, 3, 4, 5]
    assert remove_orphans(catalog, filled, older_than=AGE).files == ()


def test_history_that_is_kept_keeps_its_files(catalog: Catalog, filled: str) -> None:
    catalog.load_table(filled).delete("n <= 3")
    make_old(place_of(catalog, filled))
    assert remove_orphans(catalog, filled, older_than=AGE).files == ()
    first = catalog.load_table(filled).metadata.snapshots[2]
    rows = catalog.load_table(filled).scan(snapshot_id=first.snapshot_id).to_arrow()
    assert sorted(rows.column("n").to_pylist()) == [1, 2, 3]


def test_a_table_inside_the_folder_of_another_is_left_alone(catalog: Catalog, filled: str, tmp_path: Path) -> None:
    inner = f"{catalog.load_table(filled).location()}/inner"
    made = catalog.create_table("lake.inner", catalog.load_table(filled).schema(), location=inner)
    made.append(pa.table({**{c: one_row(9).column(c) for c in ("tenant_id", "sink", "n")}, "sink_epoch": [1]}))
    make_old(tmp_path / "warehouse")
    assert remove_orphans(catalog, filled, older_than=AGE).files == ()
    assert made.scan().to_arrow().num_rows == 1


def test_commits_that_go_on_meanwhile_lose_nothing(catalog: Catalog, open_lake: Callable[[], Catalog], filled: str) -> None:
    failures: list[Exception] = []

    def write() -> None:
        try:
            sink = ExactlyOnceTable(open_lake(), filled, uuid.UUID(int=2))
            for n in range(1, 21):
                assert sink.append(n, one_row(100 + n))
        except Exception as error:  # noqa: BLE001  # reported by the main thread
            failures.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    rounds = 0
    while writer.is_alive():
        assert remove_orphans(catalog, filled, older_than=timedelta(seconds=10)).files == ()
        rounds += 1
    writer.join()
    assert failures == []
    assert rounds > 1
    assert numbers(catalog, filled) == [*range(1, 6), *range(101, 121)]


def test_two_catalogs_on_one_folder_are_noticed_and_nothing_is_removed(catalog: Catalog, filled: str, tmp_path: Path) -> None:
    place = place_of(catalog, filled)
    stranger = json.loads(Path(catalog.load_table(filled).metadata_location.removeprefix("file://")).read_text())
    stranger["table-uuid"] = str(uuid.uuid4())
    put(place / "metadata/00000-stranger.metadata.json", content=json.dumps(stranger).encode())
    lost = put(place / "data/of-the-stranger.parquet")
    with pytest.raises(ConflictError, match="belongs to another table"):
        remove_orphans(catalog, filled, older_than=AGE)
    assert Path(lost.removeprefix("file://")).exists()


def test_a_catalog_that_was_set_back_is_noticed_and_nothing_is_removed(
    catalog: Catalog, filled: str, open_lake: Callable[[], Catalog], tmp_path: Path
) -> None:
    import sqlite3

    earlier = catalog.load_table(filled).metadata_location
    sink = ExactlyOnceTable(catalog, filled, uuid.UUID(int=1))
    for n in range(6, 9):
        sink.append(n, one_row(n))
    with sqlite3.connect(tmp_path / "catalog.db") as connection:  # as a restored backup of the file would
        connection.execute("UPDATE iceberg_tables SET metadata_location = ? WHERE table_name = 'rows'", (earlier,))
    make_old(place_of(catalog, filled))
    with pytest.raises(ConflictError, match="points to an older state"):
        remove_orphans(open_lake(), filled, older_than=AGE)


def test_what_cannot_be_read_is_never_taken_for_an_orphan(catalog: Catalog, filled: str) -> None:
    manifest = catalog.load_table(filled).current_snapshot().manifest_list  # type: ignore[union-attr]
    Path(manifest.removeprefix("file://")).write_bytes(b"Obj\x01 broken")
    lost = put(place_of(catalog, filled) / "data/lost.parquet")
    with pytest.raises(CorruptDataError, match="cannot be told"):
        remove_orphans(catalog, filled, older_than=AGE)
    assert Path(lost.removeprefix("file://")).exists()


def test_a_hold_stops_expiry_and_orphan_removal(catalog: Catalog, filled: str) -> None:
    hold(catalog, "table", filled, reason="case 1")
    with pytest.raises(HeldError, match="case 1"):
        remove_orphans(catalog, filled, older_than=AGE)
    with pytest.raises(HeldError, match="case 1"):
        expire_snapshots(catalog, filled, older_than=FAR, keep_last=1)
    assert len(catalog.load_table(filled).metadata.snapshots) == 5


def test_artifacts_of_deleted_versions_go_when_history_has_forgotten_them(catalog: Catalog, tmp_path: Path) -> None:
    warehouse = tmp_path / "warehouse"
    registry = Registry(catalog, warehouse)
    kept, deleted = register(registry, 1.0), register(registry, 2.0)
    interrupted = put(warehouse / "artifacts/sha256/ab" / f"{'ab' * 32}.onnx")
    half = put(warehouse / "artifacts/sha256/cd" / f".{'cd' * 32}.onnx.{uuid.uuid4().hex}.tmp")
    stranger = warehouse / "artifacts/sha256/readme.txt"
    put(stranger)
    make_old(warehouse / "artifacts")
    catalog.load_table("registry.model_versions").delete("version = 2")

    first = remove_orphaned_artifacts(catalog, f"file://{warehouse}", older_than=AGE)
    assert set(first.files) == {interrupted, half}, "history still names the deleted version"
    expire_snapshots(catalog, "registry.model_versions", older_than=FAR, keep_last=1)
    told = remove_orphaned_artifacts(catalog, f"file://{warehouse}", older_than=AGE, dry_run=True)
    done = remove_orphaned_artifacts(catalog, f"file://{warehouse}", older_than=AGE)
    assert done.files == told.files == (f"file://{warehouse}/{deleted}",)
    assert registry.load_artifact("constant", 1) == (warehouse / kept).read_bytes()
    assert stranger.exists()


def test_a_reader_has_the_grace_to_finish(catalog: Catalog, table: str) -> None:
    clock = ManualClock(datetime(2100, 1, 1, tzinfo=UTC))
    sink = ExactlyOnceTable(catalog, table, uuid.UUID(int=1), clock=clock)
    sink.append(1, one_row(1))
    clock.advance(timedelta(days=30))
    sink.append(2, one_row(2))
    clock.advance(timedelta(minutes=5))
    what = {"older_than": FAR, "keep_last": 1, "grace": timedelta(minutes=10), "clock": clock}
    assert expire_snapshots(catalog, table, **what).snapshots == (), "it was current five minutes ago"  # type: ignore[arg-type]
    clock.advance(timedelta(minutes=6))
    assert len(expire_snapshots(catalog, table, **what).snapshots) == 1  # type: ignore[arg-type]


def test_du_adds_up_to_what_lies_there(catalog: Catalog, filled: str, tmp_path: Path) -> None:
    place = place_of(catalog, filled)
    catalog.load_table(filled).delete("n <= 2")
    put(place / "data/lost.parquet", content=b"x" * 1000)
    found = measure_table(catalog, filled, columns=True)
    on_disk = [path.stat().st_size for path in place.rglob("*") if path.is_file()]
    assert found.live.size_bytes + found.historic.size_bytes + found.orphan.size_bytes == sum(on_disk)
    assert found.live.files + found.historic.files + found.orphan.files == len(on_disk)
    assert (found.orphan.size_bytes, found.rows, found.snapshots, found.missing) == (1000, 3, 6, 0)
    assert set(found.columns) >= {"tenant_id", "sink", "n", "sink_epoch"}
    assert all(size > 0 for size in found.columns.values())
    current = catalog.load_table(filled).inspect.files().column("file_path").to_pylist()
    Path(current[0].removeprefix("file://")).unlink()
    assert measure_table(catalog, filled).missing == 1


def test_du_tells_what_lies_outside_of_tables(catalog: Catalog, filled: str, tmp_path: Path) -> None:
    warehouse = tmp_path / "warehouse"
    registry = Registry(catalog, warehouse)
    register(registry, 1.0)
    put(warehouse / "artifacts/sha256/ab" / f"{'ab' * 32}.onnx", content=b"12345")
    create_table_for_arrow(catalog, "lake.dropped", pa.schema([("n", pa.int64())]))
    catalog.drop_table("lake.dropped")
    rest = measure_rest(catalog, str(warehouse))
    assert (rest.artifacts.files, rest.orphan_artifacts.files, rest.orphan_artifacts.size_bytes) == (1, 1, 5)
    assert {folder: share.files for folder, share in rest.unclaimed.items()} == {"lake/dropped": 1}


def test_another_catalog_object_sees_the_same(open_lake: Callable[[], Catalog], filled: str, tmp_path: Path) -> None:
    other = open_catalog("jdbc", f"jdbc:sqlite:{tmp_path / 'catalog.db'}", f"file:{tmp_path / 'warehouse'}")
    assert measure_table(other, filled) == measure_table(open_lake(), filled)
