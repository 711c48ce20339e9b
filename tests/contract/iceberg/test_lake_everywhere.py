"""What the lake promises, on the SQLite catalog and on Iceberg's REST catalog, with files in a folder and in S3."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
from onnx import TensorProto, helper
from pyiceberg.catalog import Catalog

from core.errors import ConflictError, CorruptDataError
from headrace.doctor import diagnose
from headrace.ports import free_port
from headrace.replicating import replicate_lake
from iceberg.catalog import warehouse_location
from iceberg.checks import Report, check_lake
from iceberg.compaction import compact
from iceberg.compaction_plan import EVERYTHING
from iceberg.expiry import expire_snapshots
from iceberg.history import read_as_of, snapshots
from iceberg.holds import HeldError, hold, list_holds, release
from iceberg.merge import merge
from iceberg.orphans import remove_orphaned_artifacts, remove_orphans
from iceberg.registering import register_table
from iceberg.registry import Registry
from iceberg.sink import ExactlyOnceTable
from iceberg.storage import Storage
from iceberg.tables import create_table_for_arrow
from iceberg.usage import measure_rest, measure_table
from tests.contract.iceberg.conftest import Lake

pytestmark = pytest.mark.service

FAR = datetime(2200, 1, 1, tzinfo=UTC)
NOW = timedelta(0)


def rows(*numbers: int) -> pa.Table:
    return pa.table({"tenant_id": [f"t{n % 2}" for n in numbers], "n": pa.array(numbers, pa.int64())})


def keys(*numbers: int) -> pa.Table:
    return pa.table({"n": pa.array(numbers, pa.int64())})


def read(catalog: Catalog, table: str, snapshot_id: int | None = None) -> list[int]:
    found: list[int] = read_as_of(catalog, table, snapshot_id=snapshot_id, order_by=["n"], descending=False)["n"].to_pylist()
    return found


def check(lake: Lake, table: str, *, deep: bool = True) -> Report:
    return check_lake(lambda: lake.open(claims=False), warehouse_location(lake.warehouse), tables=(table,), deep=deep)


@pytest.fixture
def table(lake: Lake) -> str:
    """Four epochs: appends, a merge with position deletes, and an append."""
    catalog, name = lake.open(), f"lake.t{uuid.uuid4().hex[:10]}"
    create_table_for_arrow(catalog, name, rows(0).schema)
    sink = ExactlyOnceTable(catalog, name, uuid.UUID(int=1))
    assert sink.append(1, rows(1, 2, 3))
    assert sink.append(2, rows(4, 5))
    assert sink.merge(3, key=["n"], upserts=rows(3), deletes=keys(5))
    assert sink.append(4, rows(6))
    return name


def model(value: float) -> bytes:
    node = helper.make_node("Constant", [], ["y"], value_floats=[value])
    graph = helper.make_graph([node], "constant", [], [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])])
    made: bytes = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()
    return made


def test_a_sink_is_exactly_once_and_history_reads_as_it_was(lake: Lake, table: str) -> None:
    catalog = lake.open()
    sink = ExactlyOnceTable(catalog, table, uuid.UUID(int=1))
    assert not sink.append(4, rows(6))
    assert sink.last_epoch() == 4
    newest_first = [read(catalog, table, each.snapshot_id) for each in snapshots(catalog, table)]
    assert newest_first == [[1, 2, 3, 4, 6], [1, 2, 3, 4], [1, 2, 3, 4, 5], [1, 2, 3]]


def test_a_compaction_beside_a_merge_changes_files_and_no_rows(lake: Lake, table: str) -> None:
    before = [(each.snapshot_id, read(lake.open(), table, each.snapshot_id)) for each in snapshots(lake.open(), table)]
    raced = []

    def race(step: str) -> None:
        if step == "staged" and not raced:
            raced.append(step)
            merge(lake.open(), table, key=["n"], upserts=rows(1), deletes=keys(4))

    done = compact(lake.open(), table, policy=EVERYTHING, failpoint=race)
    assert (done.commits, done.attempts, done.given_up) == (1, 2, 0)
    assert read(lake.open(), table) == [1, 2, 3, 6]
    assert compact(lake.open(), table, policy=EVERYTHING).dead_rows == 2
    assert read(lake.open(), table) == [1, 2, 3, 6]
    assert [(snapshot_id, read(lake.open(), table, snapshot_id)) for snapshot_id, _ in before] == before
    assert ExactlyOnceTable(lake.open(), table, uuid.UUID(int=1)).last_epoch() == 4


def test_expiry_orphans_and_du_agree_with_what_lies_there(lake: Lake, table: str) -> None:
    catalog, storage = lake.open(), Storage(lake.open().properties)
    place = catalog.load_table(table).location()
    told = expire_snapshots(catalog, table, older_than=FAR, keep_last=1, dry_run=True)
    done = expire_snapshots(catalog, table, older_than=FAR, keep_last=1)
    assert (done, len(done.snapshots)) == (told, 3)
    lying = {file.location for file in storage.files(place)}
    assert not lying & set(done.files)
    assert read(catalog, table) == [1, 2, 3, 4, 6]

    left = [f"{place}/data/left.parquet", f"{place}/metadata/left-m0.avro"]
    for location in left:
        storage.write(location, b"left behind")
    young = remove_orphans(catalog, table, older_than=timedelta(hours=1))
    assert set(left).isdisjoint(young.files), "young files may belong to a commit in flight"
    assert young.young >= 2
    before = measure_table(catalog, table)
    removed = remove_orphans(catalog, table, older_than=NOW)
    assert set(left) <= set(removed.files)
    assert (len(removed.files), removed.size_bytes) == (before.orphan.files, before.orphan.size_bytes)
    after = measure_table(catalog, table)
    lying_bytes = sum(file.size_bytes for file in storage.files(place))
    assert after.live.size_bytes + after.historic.size_bytes == lying_bytes
    assert (after.orphan.files, after.missing, after.rows) == (0, 0, 5)
    assert read(catalog, table) == [1, 2, 3, 4, 6]
    assert check(lake, table).findings == []


def test_a_missing_and_a_changed_file_are_told(lake: Lake, table: str) -> None:
    catalog, storage = lake.open(), Storage(lake.open().properties)
    assert check(lake, table).findings == []
    paths = catalog.load_table(table).inspect.files().column("file_path").to_pylist()
    gone, garbled = sorted(path for path in paths if "deletes" not in path)[:2]
    storage.remove([gone])
    storage.write(garbled, b"\x00" * (storage.size_bytes(garbled) or 0))
    found = {(each.where, each.problem) for each in check(lake, table).findings}
    assert found == {(gone, "data-missing"), (garbled, "data-unreadable")}


@pytest.mark.nightly  # Iceberg's server tries twenty times, 90 seconds, before it says that it cannot read a metadata file
@pytest.mark.parametrize("lake", ["rest-folder", "rest-s3"], indirect=True)
def test_broken_metadata_behind_a_rest_server_is_told(lake: Lake, table: str) -> None:
    storage = Storage(lake.open().properties)
    location = lake.open().load_table(table).metadata_location
    whole = storage.read(location)
    storage.write(location, whole[: len(whole) // 2])
    [finding] = check(lake, table).findings
    assert (finding.table, finding.problem) == (table, "metadata-unreadable")
    storage.write(location, whole)
    assert check(lake, table).findings == []


@pytest.mark.parametrize("lake", ["sqlite-folder", "sqlite-s3"], indirect=True)
def test_broken_metadata_is_told_and_there_is_a_way_back(lake: Lake, table: str) -> None:
    catalog, storage = lake.open(), Storage(lake.open().properties)
    location = catalog.load_table(table).metadata_location
    whole = storage.read(location)
    storage.write(location, whole[: len(whole) // 2])
    [finding] = check(lake, table).findings
    assert finding.table == table
    assert finding.problem == "metadata-not-json"
    files = sorted(f.location for f in storage.files(location.rpartition("/")[0]) if f.location.endswith(".metadata.json"))
    earlier = files[-2]
    fresh = lake.open()
    with pytest.raises(ConflictError, match="knows the table already"):
        register_table(fresh, table, earlier)
    register_table(fresh, table, earlier, replace=True)
    assert read(lake.open(), table) == [1, 2, 3, 4], "the last commit is gone, nothing else"
    assert ExactlyOnceTable(lake.open(), table, uuid.UUID(int=1)).append(4, rows(6)), "and is delivered again"
    assert read(lake.open(), table) == [1, 2, 3, 4, 6]


def test_models_are_sealed_loaded_and_their_artifacts_kept_while_named(lake: Lake) -> None:
    catalog, name = lake.open(), f"m{uuid.uuid4().hex[:10]}"
    registry = Registry(catalog, lake.warehouse)
    what = {"kind": "x", "metrics": {}, "tags": {}, "training_data": {}, "code_hash": "", "duration": NOW}
    value = float(uuid.uuid4().int % 10**6)
    made = registry.register(name, model(value), **what)  # type: ignore[arg-type]
    storage, root = Storage(catalog.properties), warehouse_location(lake.warehouse)
    loose = f"{root}/artifacts/sha256/ab/{uuid.uuid4().hex * 2}.onnx"
    storage.write(loose, b"interrupted")
    assert measure_rest(catalog, root).orphan_artifacts.files == 1
    assert remove_orphaned_artifacts(catalog, root, older_than=NOW).files == (loose,)
    assert Registry(lake.open(), lake.warehouse).load_artifact(name, made.version) == model(value)
    storage.write(f"{root}/{made.artifact}", b"changed")
    with pytest.raises(CorruptDataError, match="SHA-256"):
        registry.load_artifact(name, made.version)
    storage.write(f"{root}/{made.artifact}", model(value))


def test_a_hold_stops_what_destroys(lake: Lake, table: str) -> None:
    catalog = lake.open()
    placed = hold(catalog, "table", table, reason="case 1")
    for destroy in (
        lambda: expire_snapshots(catalog, table, older_than=FAR, keep_last=1),
        lambda: remove_orphans(catalog, table, older_than=NOW),
    ):
        with pytest.raises(HeldError, match="case 1"):
            destroy()
    release(lake.open(), placed.hold_id, reason="closed")
    assert placed.hold_id in {each.hold_id for each in list_holds(catalog) if not each.active}
    assert len(expire_snapshots(catalog, table, older_than=FAR, keep_last=1).snapshots) == 3


def test_a_copy_in_a_folder_has_all_history(lake: Lake, table: str, tmp_path: object) -> None:
    before = {each.snapshot_id: read(lake.open(), table, each.snapshot_id) for each in snapshots(lake.open(), table)}
    done = replicate_lake(lake.settings, f"{tmp_path}/copy", tables=[table])
    assert [each.registered for each in done.tables] == [True]
    copy = lake.settings.model_copy(
        update={"catalog_type": "jdbc", "catalog_uri": done.catalog_uri, "warehouse": f"{tmp_path}/copy"}
    )
    opened = Lake(copy).open()
    assert {snapshot: read(opened, table, snapshot) for snapshot in before} == before
    assert check(Lake(copy), table).findings == []
    assert replicate_lake(lake.settings, f"{tmp_path}/copy", tables=[table]).tables[0].files == 0


def test_doctor_tells_whether_the_lake_answers(lake: Lake) -> None:
    remote = {finding.check: finding for finding in diagnose(lake.settings) if finding.check in ("warehouse", "catalog")}
    assert all(finding.ok for finding in remote.values()), remote
    assert ("warehouse" in remote) == lake.warehouse.startswith("s3://")
    assert ("catalog" in remote) == (lake.settings.catalog_type == "rest")
    nowhere = f"http://127.0.0.1:{free_port('127.0.0.1')}"
    lost = lake.settings.model_copy(
        update={"catalog_uri": nowhere, "s3": lake.settings.s3.model_copy(update={"endpoint": nowhere})}
    )
    found = {finding.check: finding for finding in diagnose(lost) if finding.check in remote}
    assert not any(finding.ok for finding in found.values())
    assert all(finding.fix for finding in found.values())
