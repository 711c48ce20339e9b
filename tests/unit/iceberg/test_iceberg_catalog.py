"""Opening a catalog: what is accepted, what is refused, and several processes on one file."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import CommitFailedException

from core.errors import ConfigError, UnavailableError
from iceberg.catalog import open_catalog, warehouse_location
from iceberg.tables import DEFINITIONS, PREDICTIONS, create_table_for_arrow, ensure_tables


def test_opening_makes_file_folders_and_namespaces(tmp_path: Path) -> None:
    path = tmp_path / "new" / "deep" / "catalog.db"
    catalog = open_catalog("jdbc", f"jdbc:sqlite:{path}", str(tmp_path / "warehouse"))
    assert path.exists()
    assert set(catalog.list_namespaces()) == {("lake",), ("registry",)}


def test_the_file_has_the_layout_of_icebergs_jdbc_catalog(tmp_path: Path, catalog: Catalog, table: str) -> None:
    rows = sqlite3.connect(tmp_path / "catalog.db").execute(
        "SELECT catalog_name, table_namespace, table_name, metadata_location, iceberg_type FROM iceberg_tables"
    )
    [(name, namespace, table_name, location, kind)] = rows.fetchall()
    assert (name, namespace, table_name, kind) == ("headrace", "lake", "rows", "TABLE")
    assert location.startswith(f"file://{tmp_path}/warehouse/lake/rows/metadata/00000-")


def test_pyicebergs_own_catalog_reads_and_writes_the_same_file(tmp_path: Path, catalog: Catalog, table: str) -> None:
    other = SqlCatalog("headrace", uri=f"sqlite:///{tmp_path / 'catalog.db'}")
    other.load_table(table).append(pa.table({"tenant_id": ["a"], "sink": ["other"], "n": pa.array([1], pa.int64())}))
    assert catalog.load_table(table).scan().to_arrow().column("n").to_pylist() == [1]


def test_parsed_metadata_follows_a_commit_of_another_process(open_lake: Callable[[], Catalog], table: str) -> None:
    ours, theirs = open_lake(), open_lake()
    assert "color" not in ours.load_table(table).properties
    with theirs.load_table(table).transaction() as change:
        change.set_properties(color="red")
    assert ours.load_table(table).properties["color"] == "red"


def test_a_lost_race_changes_nothing_and_leaves_no_metadata_file(
    tmp_path: Path, open_lake: Callable[[], Catalog], table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = open_lake(), open_lake()
    real_swap = ours._swap

    def overtaken(*args: object) -> bool:
        monkeypatch.setattr(ours, "_swap", real_swap)
        with theirs.load_table(table).transaction() as change:
            change.set_properties(winner="theirs")
        return real_swap(*args)

    monkeypatch.setattr(ours, "_swap", overtaken)
    loser = ours.load_table(table).transaction()
    loser.set_properties(winner="ours")
    with pytest.raises(CommitFailedException):
        loser.commit_transaction()
    assert ours.load_table(table).properties["winner"] == "theirs"
    assert len(list((tmp_path / "warehouse/lake/rows/metadata").glob("*.metadata.json"))) == 2


def test_unchanged_updates_commit_nothing(catalog: Catalog, table: str) -> None:
    before = catalog.load_table(table)
    answer = catalog.commit_table(before, (), ())
    assert answer.metadata_location == before.metadata_location


_OPEN_AND_ENSURE = """
import sys
from iceberg.catalog import open_catalog
from iceberg.tables import ensure_tables
ensure_tables(open_catalog("jdbc", "jdbc:sqlite:" + sys.argv[1], sys.argv[2]))
"""


def test_processes_may_create_catalog_and_tables_at_once(tmp_path: Path) -> None:
    path = tmp_path / "catalog.db"
    command = [sys.executable, "-c", _OPEN_AND_ENSURE, str(path), str(tmp_path / "warehouse")]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    for process in running:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    catalog = open_catalog("jdbc", f"jdbc:sqlite:{path}", str(tmp_path / "warehouse"))
    assert all(catalog.table_exists(definition.identifier) for definition in DEFINITIONS)


def test_ensuring_tables_again_changes_nothing(catalog: Catalog) -> None:
    ensure_tables(catalog)
    before = [catalog.load_table(definition.identifier).metadata_location for definition in DEFINITIONS]
    ensure_tables(catalog)
    assert [catalog.load_table(definition.identifier).metadata_location for definition in DEFINITIONS] == before


def test_every_column_and_table_is_documented_in_the_catalog(catalog: Catalog) -> None:
    ensure_tables(catalog)
    for definition in DEFINITIONS:
        table = catalog.load_table(definition.identifier)
        assert table.properties["comment"] == definition.doc
        assert all(field.doc for field in table.schema().fields)


def test_predictions_are_partitioned_by_day_and_bucketed_tenant(catalog: Catalog) -> None:
    ensure_tables(catalog)
    spec = catalog.load_table("lake.predictions").spec()
    assert [(field.name, str(field.transform)) for field in spec.fields] == [
        ("feature_end_day", "day"),
        ("tenant_id_bucket", "bucket[8]"),
    ]


def test_a_table_made_from_arrow_is_partitioned_by_what_it_has(catalog: Catalog) -> None:
    instant = pa.timestamp("us", tz="UTC")
    schema = pa.schema([("tenant_id", pa.string()), ("entity_id", pa.string()), ("feature_end", instant), ("x", pa.float64())])
    made = create_table_for_arrow(catalog, "lake.features_plant", schema)
    assert [field.name for field in made.spec().fields] == ["feature_end_day", "tenant_id_bucket"]
    assert made.schema().column_names == ["tenant_id", "entity_id", "feature_end", "x", "sink_epoch", "sink_time"]
    plain = create_table_for_arrow(catalog, "lake.features_plain", pa.schema([("x", pa.list_(pa.float64()))]))
    assert plain.spec().is_unpartitioned()


def test_a_sink_that_comes_first_creates_a_documented_table_as_documented(catalog: Catalog) -> None:
    made = create_table_for_arrow(catalog, "lake.predictions", pa.schema([("prediction_id", pa.string())]))
    assert [field.name for field in made.schema().fields] == [column.name for column in PREDICTIONS.columns]


@pytest.mark.parametrize(
    ("catalog_type", "uri", "warehouse", "says"),
    [
        ("hive", "thrift://x", "/w", "`hive` is not known"),
        ("jdbc", "jdbc:postgresql://root:secret@db/x", "/w", "not supported"),
        ("jdbc", "jdbc:sqlite:", "/w", "names no file"),
        ("jdbc", "jdbc:sqlite::memory:", "/w", "names no file"),
        ("rest", "localhost:8181", "/w", "is no address"),
        ("jdbc", "jdbc:sqlite:x.db", "", "is empty"),
        ("jdbc", "jdbc:sqlite:x.db", "ftp://w", "unknown scheme `ftp`"),
        ("jdbc", "jdbc:sqlite:x.db", "/w?x", "holds `?`"),
        ("jdbc", "jdbc:sqlite:x.db", str(Path("s3://bucket/w")), "has lost a slash"),
    ],
)
def test_malformed_settings_are_refused(catalog_type: str, uri: str, warehouse: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_catalog(catalog_type, uri, warehouse)
    assert says in str(caught.value)
    assert caught.value.where
    assert caught.value.fix
    assert "secret" not in str(caught.value)


def test_another_file_in_place_of_the_catalog_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("these are my notes " * 100)
    with pytest.raises(ConfigError, match="not a SQLite file"):
        open_catalog("jdbc", f"jdbc:sqlite:{path}", str(tmp_path / "warehouse"))
    assert path.read_text().startswith("these are my notes")


def test_a_rest_catalog_that_does_not_answer_is_unavailable() -> None:
    with pytest.raises(UnavailableError, match="does not answer"):
        open_catalog("rest", "http://127.0.0.1:1", "s3://bucket/warehouse")


@pytest.mark.parametrize(
    ("given", "stored"),
    [("/a/b", "file:///a/b"), ("file:///a/b", "file:///a/b"), ("file:/a/b", "file:///a/b"), ("s3://x/y/", "s3://x/y")],
)
def test_warehouse_locations_are_absolute_urls(given: str, stored: str) -> None:
    assert warehouse_location(given) == stored


def test_folders_with_blanks_and_percent_signs_work(tmp_path: Path) -> None:
    folder = tmp_path / "my data 100%25 é"
    catalog = open_catalog("jdbc", f"jdbc:sqlite:{folder / 'catalog.db'}", str(folder / "ware house"))
    table = create_table_for_arrow(catalog, "lake.rows", pa.schema([("tenant_id", pa.string())]))
    table.append(pa.table({"tenant_id": ["a/b c"], "sink_epoch": pa.array([1], pa.int64())}))
    assert catalog.load_table("lake.rows").scan().to_arrow().num_rows == 1
    assert {path.name for path in folder.iterdir()} >= {"catalog.db", "ware house"}
