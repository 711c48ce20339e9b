"""`tables check`: each kind of damage is found, named at its place, and told with a way out; a sound lake has no findings."""

from __future__ import annotations

import json
import os
import sqlite3
import uuid
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from onnx import TensorProto, helper
from pyiceberg.catalog import Catalog

from core.errors import ConfigError, ConflictError, CorruptDataError, UnavailableError
from iceberg.catalog import open_catalog
from iceberg.checks import Report, check_lake
from iceberg.history import read_as_of
from iceberg.registering import adopt_tables, register_table
from iceberg.registry import Registry
from iceberg.sink import ExactlyOnceTable, epoch_property
from iceberg.tables import create_table_for_arrow


def one_row(n: int) -> pa.Table:
    return pa.table({"tenant_id": ["t"], "sink": ["a"], "n": pa.array([n], pa.int64())})


@pytest.fixture
def filled(catalog: Catalog, table: str) -> str:
    sink = ExactlyOnceTable(catalog, table, uuid.UUID(int=1))
    for n in range(1, 6):
        sink.append(n, one_row(n))
    return table


@pytest.fixture
def check(tmp_path: Path) -> Callable[..., Report]:
    """Checks with a catalog of its own, as another process would."""

    def run(deep: bool = False) -> Report:
        def opening() -> Catalog:
            return open_catalog("jdbc", f"jdbc:sqlite:{tmp_path / 'catalog.db'}", str(tmp_path / "warehouse"), claims=False)

        return check_lake(opening, f"file://{tmp_path}/warehouse", catalog_file=tmp_path / "catalog.db", deep=deep)

    return run


def problems(report: Report) -> list[str]:
    return sorted({finding.problem for finding in report.findings})


def metadata_file(catalog: Catalog, table: str) -> Path:
    return Path(catalog.load_table(table).metadata_location.removeprefix("file://"))


def data_files(catalog: Catalog, table: str) -> list[Path]:
    found = catalog.load_table(table).inspect.files().column("file_path").to_pylist()
    return [Path(path.removeprefix("file://")) for path in sorted(found)]


def numbers(catalog: Catalog, table: str) -> list[int]:
    return sorted(read_as_of(catalog, table, order_by=["n"]).column("n").to_pylist())


@pytest.mark.parametrize("deep", [False, True])
def test_a_sound_lake_has_no_findings(check: Callable[..., Report], catalog: Catalog, filled: str, deep: bool) -> None:
    catalog.load_table(filled).delete("n = 2")
    report = check(deep)
    assert report.findings == []
    assert (report.tables, report.snapshots, report.files, report.rows) == (1, 6, 5, 5)


# -- metadata


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def overwrite(path: Path) -> None:
    path.write_bytes(b"\x00" * 100)


def strip(path: Path) -> None:
    path.write_text('{"format-version": 2, "table-uuid": "x"}')


def exchange(path: Path) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), "table-uuid": str(uuid.uuid4())}))


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (cut, "metadata-not-json"),
        (overwrite, "metadata-not-json"),
        (strip, "metadata-invalid"),
        (exchange, "metadata-of-another-table"),
        (Path.unlink, "metadata-missing"),
    ],
)
def test_broken_metadata_is_told_and_the_way_back_works(
    check: Callable[..., Report],
    open_lake: Callable[[], Catalog],
    catalog: Catalog,
    filled: str,
    damage: Callable[[Path], None],
    problem: str,
) -> None:
    broken = metadata_file(catalog, filled)
    damage(broken)
    if problem != "metadata-of-another-table":  # nothing tells a reader whose metadata it should be
        with pytest.raises(CorruptDataError, match="headrace tables check"):
            read_as_of(open_lake(), filled, order_by=["n"])
    [finding] = check().findings
    assert (finding.table, finding.problem, finding.where) == (filled, problem, f"file://{broken}")
    assert f"headrace tables register {filled} file://" in finding.fix
    way_back = finding.fix.partition(f"register {filled} ")[2].partition(" ")[0]

    fresh = open_lake()
    done = register_table(fresh, filled, way_back, replace=True)
    assert done.snapshots == 4
    assert numbers(fresh, filled) == [1, 2, 3, 4], "the last commit is gone, nothing else"
    assert ExactlyOnceTable(fresh, filled, uuid.UUID(int=1)).last_epoch() == 4, "so that the sink delivers it again"
    assert ExactlyOnceTable(fresh, filled, uuid.UUID(int=1)).append(5, one_row(5))
    assert numbers(fresh, filled) == [1, 2, 3, 4, 5]


def test_a_reference_to_a_snapshot_that_is_not_there_is_told(
    check: Callable[..., Report], catalog: Catalog, filled: str
) -> None:
    path = metadata_file(catalog, filled)
    raw = json.loads(path.read_text())
    raw["refs"]["training"] = {"snapshot-id": 42, "type": "tag"}
    raw["snapshots"][0]["schema-id"] = 7
    path.write_text(json.dumps(raw))
    found = check().findings
    assert {(each.problem, each.where) for each in found} == {
        ("metadata-inconsistent", "ref training"),
        ("metadata-inconsistent", f"snapshot {raw['snapshots'][0]['snapshot-id']}"),
    }


# -- manifests and files


def test_a_missing_manifest_list_and_a_broken_manifest_are_told(
    check: Callable[..., Report], catalog: Catalog, filled: str
) -> None:
    first, *_, last = catalog.load_table(filled).metadata.snapshots
    missing = Path(first.manifest_list.removeprefix("file://"))
    manifest = last.manifests(catalog.load_table(filled).io)[0]
    cut_off, content = Path(manifest.manifest_path.removeprefix("file://")), None
    missing.unlink()
    content = cut_off.read_bytes()
    cut_off.write_bytes(content[:-10])
    found = {(each.problem, each.where) for each in check().findings}
    assert found == {("manifest-list-missing", f"file://{missing}"), ("manifest-size", f"file://{cut_off}")}
    cut_off.write_bytes(content[: len(content) // 2] + b"\x7f" * (len(content) - len(content) // 2))
    assert ("manifest-unreadable", f"file://{cut_off}") in {(each.problem, each.where) for each in check().findings}
    cut_off.unlink()
    assert ("manifest-missing", f"file://{cut_off}") in {(each.problem, each.where) for each in check().findings}


def test_missing_short_and_foreign_data_files_are_told(check: Callable[..., Report], catalog: Catalog, filled: str) -> None:
    gone, short, foreign, garbled, whole = data_files(catalog, filled)
    gone.unlink()
    short.write_bytes(short.read_bytes()[:-1])
    size = garbled.stat().st_size
    garbled.write_bytes(b"PAR1" + b"\x00" * (size - 8) + b"PAR1")
    pq.write_table(pq.read_table(foreign).slice(0, 0), foreign)
    found = {each.where: each.problem for each in check().findings}
    assert found.pop(f"file://{gone}") == "data-missing"
    assert found.pop(f"file://{short}") == "data-size"
    assert found.pop(f"file://{garbled}") == "data-unreadable"
    assert found.pop(f"file://{foreign}") == "data-size"
    assert found == {}
    assert whole.exists()


def test_a_file_of_the_right_size_with_other_rows_or_columns_is_told(
    check: Callable[..., Report], catalog: Catalog, filled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, columns, *_ = data_files(catalog, filled)
    sizes = {}
    real = pq.read_table(rows)
    pq.write_table(pa.concat_tables([real, real]), rows)
    other = pq.read_table(columns)
    renamed = other.schema.field("n").with_metadata({b"PARQUET:field_id": b"77"})
    pq.write_table(other.cast(other.schema.set(other.schema.get_field_index("n"), renamed)), columns)
    for path in (rows, columns):
        sizes[f"file://{path}"] = path.stat().st_size
    set_sizes(catalog, filled, sizes, monkeypatch)
    found = {each.where: (each.problem, each.what) for each in check().findings}
    assert found.keys() == sizes.keys()
    assert found[f"file://{rows}"][0] == "data-rows"
    assert found[f"file://{columns}"][0] == "data-schema"
    assert "field id 77" in found[f"file://{columns}"][1]


def set_sizes(catalog: Catalog, table: str, sizes: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the manifests say other sizes, as if the file had been written like this."""
    import iceberg.checks.manifests as manifests

    real = manifests._entries

    def with_sizes(*args: object) -> object:
        entries = real(*args)  # type: ignore[arg-type]
        for entry in entries or ():
            if entry.data_file.file_path in sizes:
                entry.data_file._data[5] = sizes[entry.data_file.file_path]
        return entries

    monkeypatch.setattr(manifests, "_entries", with_sizes)


def test_deep_finds_what_the_footer_does_not_tell(check: Callable[..., Report], catalog: Catalog, filled: str) -> None:
    path = data_files(catalog, filled)[0]
    content = bytearray(path.read_bytes())
    metadata = pq.ParquetFile(path).metadata.row_group(0).column(0)
    start = metadata.dictionary_page_offset or metadata.data_page_offset
    for position in range(start, start + metadata.total_compressed_size):
        content[position] ^= 0xFF
    path.write_bytes(bytes(content))
    assert check().findings == []
    [finding] = check(deep=True).findings
    assert (finding.problem, finding.where) == ("data-unreadable", f"file://{path}")


# -- sinks and registry


def test_an_epoch_twice_and_one_ahead_are_told(check: Callable[..., Report], catalog: Catalog, filled: str) -> None:
    name = epoch_property(uuid.UUID(int=1))
    with catalog.load_table(filled).transaction() as change:
        change.set_properties({name: "4"})
    assert problems(check()) == ["sink-epoch-ahead"]
    ExactlyOnceTable(catalog, filled, uuid.UUID(int=1)).append(5, one_row(5))
    [finding] = check().findings
    assert (finding.problem, finding.where) == ("sink-epoch-twice", f"sink {uuid.UUID(int=1)}")
    with catalog.load_table(filled).transaction() as change:
        change.set_properties({name: "many"})
    assert "sink-epoch" in problems(check())


def test_a_changed_and_a_missing_artifact_are_told(check: Callable[..., Report], catalog: Catalog, tmp_path: Path) -> None:
    registry = Registry(catalog, tmp_path / "warehouse")
    paths = []
    for value in (1.0, 2.0):
        node = helper.make_node("Constant", [], ["y"], value_floats=[value])
        graph = helper.make_graph([node], "c", [], [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()
        made = registry.register(
            "constant", model, kind="x", metrics={}, tags={}, training_data={}, code_hash="", duration=timedelta(0)
        )
        paths.append(tmp_path / "warehouse" / made.artifact)
    registry.set_alias("constant", "champion", 2)
    assert check().findings == []
    paths[0].write_bytes(paths[0].read_bytes() + b"!")
    paths[1].unlink()
    catalog.load_table("registry.model_versions").delete("version = 2")
    assert [(each.problem, each.where.partition(":")[0]) for each in check().findings] == [
        ("artifact-hash", "constant@1"),
        ("alias-dangling", "constant"),
    ]


# -- the catalog's file


def test_a_catalog_file_that_is_missing_or_no_database_is_told_and_not_touched(
    check: Callable[..., Report], catalog: Catalog, filled: str, tmp_path: Path
) -> None:
    catalog.close()
    file = tmp_path / "catalog.db"
    for name in ("catalog.db-wal", "catalog.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    file.write_bytes(b"this is a letter, not a database" * 100)
    with pytest.raises(ConfigError, match="not a SQLite file"):
        open_catalog("jdbc", f"jdbc:sqlite:{file}", str(tmp_path / "warehouse"))
    assert problems(check()) == ["catalog-corrupt"]
    assert file.read_bytes().startswith(b"this is a letter")
    file.unlink()
    assert problems(check()) == ["catalog-missing"]
    assert not file.exists()


def test_a_database_of_something_else_is_refused_and_not_touched(check: Callable[..., Report], tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "catalog.db") as connection:
        connection.execute("CREATE TABLE iceberg_tables (name TEXT)")
    with pytest.raises(ConfigError, match="without the columns catalog_name"):
        open_catalog("jdbc", f"jdbc:sqlite:{tmp_path / 'catalog.db'}", str(tmp_path / "warehouse"))
    assert "catalog-layout" in problems(check())
    with sqlite3.connect(tmp_path / "catalog.db") as connection:
        assert [row[0] for row in connection.execute("SELECT name FROM sqlite_master")] == ["iceberg_tables"]


def test_a_catalog_of_the_older_layout_is_brought_up_to_date_and_keeps_its_tables(
    check: Callable[..., Report], catalog: Catalog, filled: str, open_lake: Callable[[], Catalog], tmp_path: Path
) -> None:
    catalog.close()
    with sqlite3.connect(tmp_path / "catalog.db") as connection:
        connection.execute("ALTER TABLE iceberg_tables DROP COLUMN iceberg_type")
    assert problems(check()) == ["catalog-layout"]
    assert numbers(open_lake(), filled) == [1, 2, 3, 4, 5]
    assert check().findings == []


def test_a_locked_catalog_is_told_and_reading_goes_on(
    check: Callable[..., Report],
    catalog: Catalog,
    filled: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("iceberg.sqlite_catalog.BUSY_TIMEOUT_SECONDS", 0.2)
    monkeypatch.setattr("iceberg.checks.catalog._LOCK_SECONDS", 0.2)
    other = sqlite3.connect(tmp_path / "catalog.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        impatient = open_without_setup(tmp_path)
        sink = ExactlyOnceTable(impatient, filled, uuid.UUID(int=1), patience=timedelta(seconds=1))
        with pytest.raises(UnavailableError, match="was not committed"):
            sink.append(6, one_row(6))
        assert numbers(impatient, filled) == [1, 2, 3, 4, 5]
        assert problems(check()) == ["catalog-locked"]
        with pytest.raises(UnavailableError, match="locked"):
            open_catalog("jdbc", f"jdbc:sqlite:{tmp_path / 'catalog.db'}", str(tmp_path / "warehouse"))
    finally:
        other.execute("ROLLBACK")
        other.close()
    assert sink.append(6, one_row(6))
    assert numbers(catalog, filled) == [1, 2, 3, 4, 5, 6]


def open_without_setup(tmp_path: Path) -> Catalog:
    """A catalog object that a process opened before the file was locked."""
    from iceberg import sqlite_catalog

    real, sqlite_catalog._set_up = sqlite_catalog._set_up, lambda _path: None
    try:
        return sqlite_catalog.SqliteCatalog("headrace", tmp_path / "catalog.db", f"file://{tmp_path}/warehouse", {})
    finally:
        sqlite_catalog._set_up = real


# -- two catalogs, lost catalogs


def test_a_second_catalog_on_the_folder_of_another_is_refused_at_once(catalog: Catalog, filled: str, tmp_path: Path) -> None:
    with pytest.raises(ConflictError, match="belongs to another catalog"):
        open_catalog("jdbc", f"jdbc:sqlite:{tmp_path / 'second.db'}", str(tmp_path / "warehouse"))
    report = check_lake(
        lambda: open_catalog("jdbc", f"jdbc:sqlite:{tmp_path / 'second.db'}", str(tmp_path / "warehouse"), claims=False),
        f"file://{tmp_path}/warehouse",
    )
    assert problems(report) == ["two-catalogs"]
    assert "1 tables lie there" in report.findings[0].what
    assert numbers(catalog, filled) == [1, 2, 3, 4, 5]


def test_two_catalogs_that_already_share_a_folder_are_told(
    check: Callable[..., Report], catalog: Catalog, filled: str, tmp_path: Path
) -> None:
    second = open_catalog("jdbc", f"jdbc:sqlite:{tmp_path / 'second.db'}", str(tmp_path / "warehouse"), claims=False)
    create_table_for_arrow(second, filled, one_row(1).schema)
    [finding] = check().findings
    assert (finding.table, finding.problem) == (filled, "two-catalogs")
    assert finding.where == second.load_table(filled).metadata_location


def test_a_lost_catalog_is_not_begun_anew_but_its_tables_are_adopted(
    check: Callable[..., Report], catalog: Catalog, filled: str, open_lake: Callable[[], Catalog], tmp_path: Path
) -> None:
    snapshots = [snapshot.snapshot_id for snapshot in catalog.load_table(filled).metadata.snapshots]
    catalog.close()
    for name in ("catalog.db", "catalog.db-wal", "catalog.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    with pytest.raises(ConflictError, match="headrace tables adopt"):
        open_lake()
    fresh = open_catalog("jdbc", f"jdbc:sqlite:{tmp_path / 'catalog.db'}", str(tmp_path / "warehouse"), claims=False)
    told = adopt_tables(fresh, f"file://{tmp_path}/warehouse", dry_run=True)
    assert [each.table for each in told] == [filled]
    assert not fresh.table_exists(filled)
    assert adopt_tables(fresh, f"file://{tmp_path}/warehouse") == told
    again = open_lake()
    assert numbers(again, filled) == [1, 2, 3, 4, 5]
    assert [snapshot.snapshot_id for snapshot in again.load_table(filled).metadata.snapshots] == snapshots
    assert check().findings == []


def test_a_catalog_restored_from_an_old_backup_is_told(
    check: Callable[..., Report], catalog: Catalog, table: str, open_lake: Callable[[], Catalog], tmp_path: Path
) -> None:
    sink = ExactlyOnceTable(catalog, table, uuid.UUID(int=1))
    sink.append(1, one_row(1))
    backup = catalog.load_table(table).metadata_location
    for n in (2, 3, 4):
        sink.append(n, one_row(n))
    register_table(catalog, table, backup, replace=True)
    found = check().findings
    assert {finding.problem for finding in found} == {"catalog-behind"}
    newest = max(found, key=lambda finding: os.path.basename(finding.where))
    assert register_table(catalog, table, newest.where, replace=True).lost == 0
    assert numbers(open_lake(), table) == [1, 2, 3, 4]
    assert check().findings == []


def test_a_table_is_not_pointed_to_the_metadata_of_another_or_of_another_place(
    catalog: Catalog, filled: str, tmp_path: Path
) -> None:
    from core.errors import InvalidInputError

    create_table_for_arrow(catalog, "lake.other", one_row(1).schema)
    with pytest.raises(InvalidInputError, match="is of table"):
        register_table(catalog, filled, catalog.load_table("lake.other").metadata_location, replace=True)
    with pytest.raises(ConflictError, match="knows the table already"):
        register_table(catalog, filled, catalog.load_table(filled).metadata_location)
    moved = tmp_path / "elsewhere/metadata"
    moved.mkdir(parents=True)
    copy = moved / metadata_file(catalog, filled).name
    copy.write_bytes(metadata_file(catalog, filled).read_bytes())
    with pytest.raises(InvalidInputError, match="is written for"):
        register_table(catalog, "lake.copy", f"file://{copy}")
    assert numbers(catalog, filled) == [1, 2, 3, 4, 5]
