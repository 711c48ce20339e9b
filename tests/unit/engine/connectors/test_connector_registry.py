# ruff: noqa: DTZ001  (naive UTC is how the engine stores timestamps)
"""Connectors and encodings are found by name, and unknown ones refused by name."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Sequence
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from engine.connectors.blackhole_sink import BlackholeSink
from engine.connectors.iceberg_sink import IcebergSink
from engine.connectors.kafka_sink import KafkaSink
from engine.connectors.kafka_source import KafkaSource
from engine.connectors.registry import build_decode_sql, build_sink, build_source
from engine.functions.native import register_functions
from engine.sql.errors import InvalidParameter, SqlError, UnsupportedQuery
from engine.sql.statements import Format
from engine.sql.types import BOOL, BYTEA, FLOAT8, INT4, JSONB, TIMESTAMPTZ, VARCHAR, SqlType, list_of

KAFKA = {"connector": "kafka", "topic": "t", "properties.bootstrap.server": "b:1"}
ICEBERG = {
    "connector": "iceberg", "type": "append-only", "warehouse.path": "w", "catalog.type": "jdbc", "catalog.uri": "jdbc:sqlite:c",
    "database.name": "lake", "table.name": "t",
}  # fmt: skip


def test_each_name_builds_its_connector() -> None:
    fields = [("id", VARCHAR)]
    assert isinstance(build_source(KAFKA), KafkaSource)
    assert isinstance(build_sink(uuid.uuid4(), KAFKA, Format("UPSERT", "JSON"), fields, ["id"]), KafkaSink)
    assert isinstance(build_sink(uuid.uuid4(), ICEBERG, None, fields), IcebergSink)
    assert isinstance(build_sink(uuid.uuid4(), {"connector": "blackhole"}, None, fields), BlackholeSink)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"connector": "kafkaa"}, "no source connector `kafkaa`. Use one of .*kafka"), ({}, "needs option `connector`")],
)
def test_an_unknown_connector_is_refused_with_the_known_ones(options: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidParameter, match=message):
        build_source(options)


def decode(payloads: Sequence[bytes | None], columns: Sequence[tuple[str, SqlType]], shape: Format) -> list[dict[str, Any]]:
    connection = duckdb.connect()
    register_functions(connection)
    raw = pa.table({"offset": list(range(len(payloads))), "value": pa.array(payloads, pa.binary())})
    connection.register("raw", raw)
    return connection.sql(build_decode_sql("raw", columns, shape, keep={"offset": "_offset"})).to_arrow_table().to_pylist()


def test_bytes_are_handed_on_as_they_are() -> None:
    rows = decode([b"\x00\xff", b"", None], [("payload", BYTEA)], Format("PLAIN", "BYTES"))
    assert rows == [
        {"_offset": 0, "payload": b"\x00\xff", "reason": None},
        {"_offset": 1, "payload": b"", "reason": None},
        {"_offset": 2, "payload": None, "reason": "empty payload"},
    ]


CSV_COLUMNS = [("a", VARCHAR), ("b", FLOAT8), ("at", TIMESTAMPTZ), ("ok", BOOL), ("doc", JSONB)]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"x,1.5,2024-04-11T02:00:00Z,true,[1]", ("x", 1.5, dt.datetime(2024, 4, 11, 2), True, "[1]", None)),
        (b'"a, ""b""",2,,f,"{""k"": 1}"\r\n', ('a, "b"', 2.0, None, False, '{"k": 1}', None)),
        (b",,,,", ("", None, None, None, None, None)),
        (b"x", ("x", None, None, None, None, None)),
        (b"x,1,,true,1,more", ("x", 1.0, None, True, "1", None)),
        (b"x,abc", ("x", None, None, None, None, 'column "b": cannot parse "abc" as double precision')),
        (b"", ("", None, None, None, None, "empty payload")),
        (b"\xff", (None, None, None, None, None, "invalid UTF-8")),
    ],
)
def test_csv_lines_are_read_by_position(line: bytes, expected: tuple[Any, ...]) -> None:
    row = decode([line], CSV_COLUMNS, Format("PLAIN", "CSV"))[0]
    assert tuple(row[name] for name in ("a", "b", "at", "ok", "doc", "reason")) == expected


def test_the_delimiter_of_csv_is_an_option() -> None:
    row = decode(
        [b'1|"2|3"'], [("a", INT4), ("b", VARCHAR)], Format("PLAIN", "CSV", {"delimiter": "|", "without_header": "true"})
    )[0]
    assert (row["a"], row["b"]) == (1, "2|3")


@pytest.mark.parametrize(
    ("columns", "shape", "error", "message"),
    [
        ([("a", INT4)], Format("PLAIN", "AVRO"), UnsupportedQuery, "FORMAT PLAIN ENCODE AVRO is not supported"),
        ([("a", INT4)], Format("DEBEZIUM", "JSON"), UnsupportedQuery, "FORMAT DEBEZIUM"),
        ([("a", INT4)], Format("PLAIN", "BYTES"), InvalidParameter, "exactly one column, of type bytea"),
        ([("a", INT4)], Format("PLAIN", "JSON", {"delimiter": ","}), InvalidParameter, "unknown option `delimiter`"),
        ([("a", INT4)], Format("PLAIN", "CSV", {"delimiter": "ab"}), InvalidParameter, "`ab` is not one character"),
        ([("a", INT4)], Format("PLAIN", "CSV", {"without_header": "false"}), UnsupportedQuery, "CSV header"),
        ([("a", list_of(INT4))], Format("PLAIN", "CSV"), UnsupportedQuery, r"integer\[\] cannot be read from CSV"),
    ],
)
def test_wrong_formats_are_refused_by_name(
    columns: list[tuple[str, SqlType]], shape: Format, error: type[SqlError], message: str
) -> None:
    with pytest.raises(error, match=message):
        build_decode_sql("raw", columns, shape)


def test_a_source_of_an_unknown_encoding_is_refused_at_once() -> None:
    with pytest.raises(UnsupportedQuery, match="Use FORMAT PLAIN ENCODE JSON or BYTES or CSV"):
        build_source(KAFKA, Format("PLAIN", "PROTOBUF"))
