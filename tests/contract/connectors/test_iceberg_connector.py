# ruff: noqa: DTZ001  (naive UTC is how the engine stores timestamps)
"""`IcebergSink` on a real SQLite catalog and a folder: types, exactly once, refusals."""

from __future__ import annotations

import datetime as dt
import uuid
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest

from core.errors import InvalidInputError, NotFoundError
from engine.connectors.arrow_types import physical_type
from engine.connectors.iceberg_sink import IcebergSink
from engine.sql.errors import InvalidParameter, UnsupportedQuery
from engine.sql.numeric import from_decimal
from engine.sql.types import (
    BOOL,
    BYTEA,
    FLOAT8,
    INT2,
    INT8,
    INTERVAL,
    JSONB,
    NUMERIC,
    TIMESTAMPTZ,
    VARCHAR,
    SqlType,
    list_of,
    struct_of,
)
from iceberg.catalog import open_catalog
from iceberg.tables import ensure_tables

ALL = [
    ("id", VARCHAR),
    ("ok", BOOL),
    ("small", INT2),
    ("big", INT8),
    ("price", NUMERIC),
    ("raw", BYTEA),
    ("at", TIMESTAMPTZ),
    ("doc", JSONB),
    ("vector", list_of(FLOAT8)),
    ("parts", list_of(struct_of(("name", VARCHAR), ("seen", TIMESTAMPTZ)))),
]
AT = dt.datetime(2024, 4, 11, 2, 0, 0, 7)
UTC = AT.replace(tzinfo=dt.UTC)
ROW = {
    "id": "a", "ok": True, "small": 3, "big": 2**40, "price": Decimal("1.25"), "raw": b"\x00\x01", "at": AT, "doc": '{"a":1}',
    "vector": [0.5, None], "parts": [{"name": "n", "seen": AT}],
}  # fmt: skip


def options(folder: Path, table: str = "things", **more: str) -> dict[str, str]:
    return {
        "connector": "iceberg",
        "type": "append-only",
        "warehouse.path": str(folder / "warehouse"),
        "catalog.type": "jdbc",
        "catalog.uri": f"jdbc:sqlite:{folder / 'catalog.db'}",
        "catalog.name": "headrace",
        "database.name": "lake",
        "table.name": table,
        "create_table_if_not_exists": "true",
        "commit_checkpoint_interval": "1",
    } | more


def stored_form(value: object) -> object:
    """As the engine keeps it: a numeric is its key."""
    return Decimal(from_decimal(value)) if isinstance(value, Decimal) else value


def rows(fields: list[tuple[str, SqlType]], *values: dict[str, object], operations: list[int] | None = None) -> pa.Table:
    columns = {
        name: pa.array([stored_form(value.get(name)) for value in values], physical_type(type_)) for name, type_ in fields
    }
    return pa.table(columns | {"_op": pa.array(operations or [1] * len(values), pa.int8())})


def stored(folder: Path, table: str = "things") -> list[dict[str, object]]:
    opened = open_catalog("jdbc", f"jdbc:sqlite:{folder / 'catalog.db'}", str(folder / "warehouse"), "headrace")
    return opened.load_table(f"lake.{table}").scan().to_arrow().to_pylist()


def test_every_type_is_stored_as_the_lake_knows_it(tmp_path: Path) -> None:
    sink = IcebergSink(uuid.uuid4(), options(tmp_path), ALL)
    assert sink.open() == 0
    sink.deliver(1, rows(ALL, ROW, {}))
    full, empty = sorted(stored(tmp_path), key=lambda row: row["id"] is None)
    assert full.pop("sink_time") == empty.pop("sink_time") is not None
    assert full == ROW | {"at": UTC, "parts": [{"name": "n", "seen": UTC}], "sink_epoch": 1}
    assert {name: value for name, value in empty.items() if name != "parts"} == {
        name: None for name in ROW if name != "parts"
    } | {"sink_epoch": 1}


@pytest.mark.xfail(strict=True, reason="upstream cannot: PyIceberg writes a NULL list of structs as an empty list")
def test_a_null_list_of_structs_stays_null(tmp_path: Path) -> None:
    sink = IcebergSink(uuid.uuid4(), options(tmp_path), ALL)
    sink.open()
    sink.deliver(1, rows(ALL, {}))
    assert stored(tmp_path)[0]["parts"] is None


def test_each_row_keeps_the_epoch_that_made_it_when_a_delivery_holds_several(tmp_path: Path) -> None:
    sink = IcebergSink(uuid.uuid4(), options(tmp_path), ALL)
    sink.open()
    delivered = rows(ALL, {"id": "a"}, {"id": "b"}, {"id": "c"}).append_column("_epoch", pa.array([4, 4, 6], pa.int64()))
    sink.deliver(7, delivered)
    assert {(row["id"], row["sink_epoch"]) for row in stored(tmp_path)} == {("a", 4), ("b", 4), ("c", 6)}
    assert sink.open() == 7


def test_a_delivery_that_is_repeated_adds_nothing_and_the_epoch_survives_the_sink(tmp_path: Path) -> None:
    identity = uuid.uuid4()
    first = IcebergSink(identity, options(tmp_path), ALL)
    first.open()
    first.deliver(3, rows(ALL, ROW))
    first.deliver(3, rows(ALL, ROW))
    first.close()
    second = IcebergSink(identity, options(tmp_path), ALL)
    assert second.open() == 3
    second.deliver(5, rows(ALL, ROW))
    assert [row["sink_epoch"] for row in stored(tmp_path)] in ([3, 5], [5, 3])
    assert IcebergSink(uuid.uuid4(), options(tmp_path), ALL).open() == 0, "another sink has its own epochs"


def test_the_lakes_own_predictions_table_gets_rows_and_the_sinks_epoch(tmp_path: Path) -> None:
    ensure_tables(open_catalog("jdbc", f"jdbc:sqlite:{tmp_path / 'catalog.db'}", str(tmp_path / "warehouse"), "headrace"))
    fields = [
        ("prediction_id", VARCHAR), ("tenant_id", VARCHAR), ("endpoint", VARCHAR), ("entity_id", VARCHAR), ("feature_start", TIMESTAMPTZ),
        ("feature_end", TIMESTAMPTZ), ("features", list_of(FLOAT8)), ("route_epoch", INT8), ("label", VARCHAR), ("score", FLOAT8),
        ("members", JSONB), ("error", JSONB),
    ]  # fmt: skip
    sink = IcebergSink(uuid.uuid4(), options(tmp_path, "predictions"), fields)
    sink.open()
    value = {"prediction_id": "p", "tenant_id": "t", "feature_end": AT, "features": [1.0], "score": 0.5, "members": "[]"}
    sink.deliver(9, rows(fields, value))
    row = stored(tmp_path, "predictions")[0]
    assert (row["prediction_id"], row["feature_end"], row["sink_epoch"], row["pipeline"]) == ("p", UTC, 9, None)


@pytest.mark.parametrize("operation", [2, 3, 4])
def test_deletions_and_updates_are_refused_with_the_remedy(tmp_path: Path, operation: int) -> None:
    sink = IcebergSink(uuid.uuid4(), options(tmp_path), ALL)
    sink.open()
    with pytest.raises(InvalidInputError, match="force_append_only"):
        sink.deliver(1, rows(ALL, ROW, ROW, operations=[1, operation]))
    assert stored(tmp_path) == []


def test_forced_append_only_keeps_new_versions_of_rows(tmp_path: Path) -> None:
    sink = IcebergSink(uuid.uuid4(), options(tmp_path, force_append_only="true"), ALL)
    sink.open()
    sink.deliver(1, rows(ALL, {"id": "a"}, {"id": "b"}, {"id": "c"}, {"id": "d"}, operations=[1, 2, 3, 4]))
    assert sorted(str(row["id"]) for row in stored(tmp_path)) == ["a", "d"]


def test_an_upsert_sink_leaves_the_last_row_of_each_key_once(tmp_path: Path) -> None:
    identity, given = uuid.uuid4(), options(tmp_path, type="upsert", primary_key="id")
    sink = IcebergSink(identity, given, ALL)
    sink.open()
    a, b, c = ({**ROW, "id": name} for name in "abc")
    sink.deliver(1, rows(ALL, a, b, operations=[1, 1]))
    # a changes twice within an epoch, b goes and comes back, c comes and goes.
    changes = [a, {**a, "big": 1}, {**a, "big": 1}, {**a, "big": 2}, b, {**b, "big": 7}, c, c]
    sink.deliver(2, rows(ALL, *changes, operations=[3, 4, 3, 4, 2, 1, 1, 2]))
    assert {(row["id"], row["big"], row["sink_epoch"]) for row in stored(tmp_path)} == {("a", 2, 2), ("b", 7, 2)}
    again = IcebergSink(identity, given, ALL)
    assert again.open() == 2
    again.deliver(2, rows(ALL, c, operations=[1]))  # delivered twice after a crash
    again.deliver(3, rows(ALL, a, operations=[2]))
    assert [row["id"] for row in stored(tmp_path)] == ["b"]


def test_a_key_of_the_query_serves_and_a_null_in_it_is_refused(tmp_path: Path) -> None:
    sink = IcebergSink(uuid.uuid4(), options(tmp_path, type="upsert"), ALL, ["id"])
    sink.open()
    with pytest.raises(InvalidInputError, match="key column `id` is NULL"):
        sink.deliver(1, rows(ALL, {**ROW, "id": None}, operations=[1]))


def test_an_epoch_without_rows_is_remembered(tmp_path: Path) -> None:
    identity = uuid.uuid4()
    sink = IcebergSink(identity, options(tmp_path), ALL)
    sink.open()
    sink.deliver(4, rows(ALL))
    assert IcebergSink(identity, options(tmp_path), ALL).open() == 4


def test_a_missing_table_is_an_error_unless_it_is_to_be_created(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"lake\.things"):
        IcebergSink(uuid.uuid4(), options(tmp_path, create_table_if_not_exists="false"), ALL).open()


@pytest.mark.parametrize(
    ("more", "error", "message"),
    [
        ({"catalog.typ": "x"}, InvalidParameter, "unknown option `catalog.typ` of the iceberg sink.*catalog.type"),
        ({"type": "upsert"}, InvalidParameter, "needs a primary key"),
        ({"type": "upsert", "primary_key": "nobody"}, InvalidParameter, "`nobody` is not a column"),
        ({"type": "both"}, InvalidParameter, "`type` cannot be `both`"),
        ({"catalog.type": "glue"}, UnsupportedQuery, "`glue` is not supported"),
        ({"table.name": ""}, InvalidParameter, "needs option `table.name`"),
        ({"commit_checkpoint_interval": "0"}, InvalidParameter, "at least 1"),
    ],
)
def test_wrong_options_are_refused_by_name(tmp_path: Path, more: dict[str, str], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        IcebergSink(uuid.uuid4(), options(tmp_path) | more, ALL)


def test_a_catalog_address_of_another_kind_is_refused_when_opened(tmp_path: Path) -> None:
    with pytest.raises(InvalidParameter, match="catalog"):
        IcebergSink(uuid.uuid4(), options(tmp_path) | {"catalog.uri": "jdbc:mysql:x"}, ALL).open()


def test_a_type_that_iceberg_lacks_is_refused_with_the_column() -> None:
    with pytest.raises(UnsupportedQuery, match="column `gap` of type interval"):
        IcebergSink(uuid.uuid4(), options(Path("unused")), [("gap", INTERVAL)])
