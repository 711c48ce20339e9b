"""Columns change by field id: old files and snapshots read on, writers that know old names go on, broken changes are refused."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import pyarrow as pa
import pytest
from pyiceberg.catalog import Catalog

from core.errors import InvalidInputError, NotFoundError
from engine.connectors.iceberg_sink import IcebergSink
from engine.sql.types import SqlType
from iceberg.evolution import evolve, parse_steps, preview
from iceberg.history import read_as_of, snapshots
from iceberg.loading import must_load
from iceberg.sink import ExactlyOnceTable
from iceberg.tables import create_table_for_arrow

SCHEMA = pa.schema(
    [
        ("tenant_id", pa.string()),
        ("entity_id", pa.string()),
        ("level", pa.int32()),
        ("share", pa.float32()),
        ("note", pa.string()),
    ]
)
SINK = uuid.UUID(int=7)
NAME = "lake.levels"


def batch(level: int) -> pa.Table:
    return pa.table(
        {"tenant_id": ["t"], "entity_id": [f"e{level}"], "level": [level], "share": [0.5], "note": [f"note {level}"]},
        schema=SCHEMA,
    )


@pytest.fixture
def levels(catalog: Catalog) -> ExactlyOnceTable:
    """A table with one row, and the sink that wrote it."""
    create_table_for_arrow(catalog, NAME, SCHEMA)
    sink = ExactlyOnceTable(catalog, NAME, SINK)
    sink.append(1, batch(1))
    return sink


def rows(catalog: Catalog, *columns: str) -> list[dict[str, object]]:
    found = must_load(catalog, NAME).scan().to_arrow().sort_by("entity_id").to_pylist()
    return [{name: row[name] for name in columns} for row in found]


def test_a_renamed_column_reads_old_files_and_takes_the_sinks_old_name(catalog: Catalog, levels: ExactlyOnceTable) -> None:
    evolve(catalog, NAME, parse_steps(rename=["level=height"]))
    levels.append(2, batch(2))
    assert rows(catalog, "height") == [{"height": 1}, {"height": 2}]


def test_a_snapshot_from_before_has_the_names_of_then(catalog: Catalog, levels: ExactlyOnceTable) -> None:
    (first,) = snapshots(catalog, NAME)
    evolve(catalog, NAME, parse_steps(rename=["level=height"], drop=["note"]))
    levels.append(2, batch(2))
    then = read_as_of(catalog, NAME, snapshot_id=first.snapshot_id, order_by=("entity_id",))
    assert then.select(["level", "note"]).to_pylist() == [{"level": 1, "note": "note 1"}]


def test_a_widened_column_holds_old_values_and_greater_ones(catalog: Catalog, levels: ExactlyOnceTable) -> None:
    evolve(catalog, NAME, parse_steps(widen=["level:long", "share:double"]))
    levels.append(2, batch(2))
    wide = batch(3).set_column(2, "level", pa.array([1 << 40], pa.int64()))
    levels.append(3, wide)
    assert rows(catalog, "level", "share") == [{"level": n, "share": 0.5} for n in (1, 2, 1 << 40)]


def test_a_dropped_column_is_left_out_by_the_sink_and_told_once(
    catalog: Catalog, levels: ExactlyOnceTable, caplog: pytest.LogCaptureFixture
) -> None:
    evolve(catalog, NAME, parse_steps(drop=["note"]))
    levels.append(2, batch(2))
    levels.append(3, batch(3))
    found = must_load(catalog, NAME).scan().to_arrow()
    assert "note" not in found.column_names
    assert found.num_rows == 3
    told = [record for record in caplog.records if getattr(record, "column", None) == "note"]
    assert len(told) == 1


def test_a_new_column_of_an_old_name_gets_none_of_the_old_values(catalog: Catalog, levels: ExactlyOnceTable) -> None:
    evolve(catalog, NAME, parse_steps(drop=["note"]))
    evolve(catalog, NAME, parse_steps(add=["note:string"]))
    levels.append(2, batch(2))
    assert rows(catalog, "note") == [{"note": None}, {"note": "note 2"}]


def test_a_value_that_goes_to_two_names_of_one_column_is_refused(catalog: Catalog, levels: ExactlyOnceTable) -> None:
    evolve(catalog, NAME, parse_steps(rename=["level=height"]))
    both = batch(2).append_column("height", pa.array([5], pa.int32()))
    with pytest.raises(InvalidInputError, match="`height` come twice"):
        levels.append(2, both)


def test_a_column_that_never_was_is_still_refused(levels: ExactlyOnceTable) -> None:
    with pytest.raises(InvalidInputError, match="`mystery` are not in the table"):
        levels.append(2, batch(2).append_column("mystery", pa.array([1])))


def test_columns_change_under_a_sink_that_has_its_rows_written_already(
    catalog: Catalog, open_lake: Callable[[], Catalog], levels: ExactlyOnceTable
) -> None:
    changed: list[str] = []

    def change(step: str) -> None:
        if step == "files written" and not changed:
            changed.append(step)
            evolve(open_lake(), NAME, parse_steps(rename=["level=height"], drop=["note"], add=["extra:bytea"]))

    sink = ExactlyOnceTable(catalog, NAME, SINK, failpoint=change)
    sink.append(2, batch(2))
    assert changed
    assert rows(catalog, "height", "extra") == [{"height": 1, "extra": None}, {"height": 2, "extra": None}]


# Others freeze here in an endless retry: risingwave#25911, #25912.
@pytest.mark.parametrize("key", [{}, {"primary_key": "k"}], ids=["without a primary key", "with one"])
def test_a_sink_with_bytea_goes_on_after_a_column_is_added(
    catalog: Catalog, tmp_path_factory: pytest.TempPathFactory, key: dict[str, str]
) -> None:
    location = catalog.properties["warehouse"]
    options = {
        "connector": "iceberg", "type": "append-only", "warehouse.path": location, "catalog.type": "jdbc",
        "catalog.uri": f"jdbc:sqlite:{location.removeprefix('file://').removesuffix('warehouse')}catalog.db",
        "database.name": "lake", "table.name": "blobs", "create_table_if_not_exists": "true", **key,
    }  # fmt: skip
    columns = [("k", SqlType("varchar")), ("payload", SqlType("bytea"))]
    sink = IcebergSink(uuid.UUID(int=3), options, columns)
    sink.open()

    def deliver(epoch: int, k: str, payload: bytes) -> None:
        sink.deliver(epoch, pa.table({"k": [k], "payload": pa.array([payload], pa.binary()), "_op": pa.array([1], pa.int8())}))

    deliver(1, "a", b"\x00\xff")
    evolve(catalog, "lake.blobs", parse_steps(add=["more:bytea", "count:bigint"]))
    deliver(2, "b", b"\x01")
    evolve(catalog, "lake.blobs", parse_steps(drop=["payload"]))
    deliver(3, "c", b"\x02")
    found = must_load(catalog, "lake.blobs").scan().to_arrow().sort_by("k")
    assert found.column("k").to_pylist() == ["a", "b", "c"]
    assert set(found.column_names) == {"k", "more", "count", "sink_epoch", "sink_time"}


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ({"widen": ["level:string"]}, "cannot be done"),
        ({"widen": ["share:int"]}, "cannot be done"),
        ({"drop": ["tenant_id"]}, "partitions the table"),
        ({"drop": ["entity_id"]}, "sorts the table"),
        ({"drop": ["nothing"]}, "cannot be done"),
        ({"rename": ["level=note"]}, "a column `note` already"),
        ({"add": ["level:int"]}, "cannot be done"),
    ],
)
def test_what_cannot_be_done_is_refused_and_changes_nothing(
    catalog: Catalog, levels: ExactlyOnceTable, steps: dict[str, list[str]], said: str
) -> None:
    before = must_load(catalog, NAME).metadata
    with pytest.raises(InvalidInputError, match=said):
        evolve(catalog, NAME, parse_steps(**steps))
    assert must_load(catalog, NAME).metadata == before


@pytest.mark.parametrize(
    "given", [{"add": ["x"]}, {"add": ["x:complex"]}, {"rename": ["a"]}, {"drop": ["a b"]}, {"add": ["x:decimal(50,2)"]}, {}]
)
def test_what_is_malformed_is_told(given: dict[str, list[str]]) -> None:
    with pytest.raises(InvalidInputError):
        parse_steps(**given)


def test_a_preview_changes_nothing(catalog: Catalog, levels: ExactlyOnceTable) -> None:
    shown = preview(must_load(catalog, NAME), parse_steps(rename=["level=height"], add=["tags:string[]"]))
    assert shown.after["height"] == "int"
    assert shown.after["tags"] == "list<string>"
    assert "level" in must_load(catalog, NAME).schema().column_names


def test_a_table_that_is_not_there_is_told(catalog: Catalog) -> None:
    with pytest.raises(NotFoundError):
        evolve(catalog, "lake.nothing", parse_steps(drop=["x"]))
