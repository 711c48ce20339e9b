"""Each type as RisingWave's `ENCODE JSON` writes it, from rows as DuckDB hands them over."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from engine.connectors.arrow_types import physical_type
from engine.connectors.json_encode import JsonEncoder
from engine.sql.numeric import from_decimal
from engine.sql.types import (
    BOOL,
    BYTEA,
    DATE,
    FLOAT4,
    FLOAT8,
    INT2,
    INT8,
    INTERVAL,
    JSONB,
    NUMERIC,
    TIME,
    TIMESTAMP,
    TIMESTAMPTZ,
    VARCHAR,
    SqlType,
    list_of,
    struct_of,
)

CASES: list[tuple[SqlType, str, str]] = [
    (BOOL, "true", "true"),
    (INT2, "-5", "-5"),
    (INT8, "9223372036854775807", "9223372036854775807"),
    (FLOAT8, "0.1", "0.1"),
    (FLOAT8, "'NaN'", "null"),
    (FLOAT8, "'-inf'", "null"),
    (FLOAT4, "0.5", "0.5"),
    (NUMERIC, f"{from_decimal(Decimal('123.4500'))}", '"123.4500"'),
    (NUMERIC, f"{from_decimal(Decimal('0.000000000000000001'))}", '"0.000000000000000001"'),
    (NUMERIC, f"{from_decimal(Decimal(100))}", '"100"'),
    (VARCHAR, "'é\"\n'", '"é\\"\\n"'),
    (BYTEA, "'\\x00\\xFFa'", '"AP9h"'),
    (BYTEA, "'ab'", '"YWI="'),
    (DATE, "'1970-01-01'", "719163"),
    (DATE, "'0001-01-01'", "1"),
    (TIME, "'00:16:40.999'", "1000000"),
    (TIMESTAMP, "'1970-01-01 00:16:40.123456'", "1000123"),
    (TIMESTAMP, "'1969-12-31 23:59:59.9999'", "-1"),
    (TIMESTAMPTZ, "'2018-01-26 18:30:09.453'", '"2018-01-26T18:30:09.453000Z"'),
    (INTERVAL, "'13 months 2 days 1 second'", '"P1Y1M2DT0H0M1S"'),
    (INTERVAL, "'-90 minutes'", '"P0Y0M0DT-1H-30M0S"'),
    (INTERVAL, "'1 hour 2 minutes 3.25 seconds'", '"P0Y0M0DT1H2M3.25S"'),
    (JSONB, "'{\"a\": 1}'", '"{\\"a\\": 1}"'),
    (list_of(FLOAT8), "[1.5, NULL]", "[1.5,null]"),
    (list_of(NUMERIC), "[]", "[]"),
    (
        struct_of(("a", INT8), ("At", TIMESTAMPTZ)),
        "{'a': 1, 'At': '2018-01-26 18:30:09'}",
        '{"a":1,"At":"2018-01-26T18:30:09.000000Z"}',
    ),
    (list_of(struct_of(("a", JSONB))), "[{'a': '1'}, NULL]", '[{"a":"1"},null]'),
]


def table(type_: SqlType, *literals: str) -> pa.Table:
    values = ", ".join(f"({literal}::{type_.duckdb})" for literal in literals)
    return duckdb.connect().sql(f'SELECT x AS "X y" FROM (VALUES {values}) AS t(x)').to_arrow_table()


@pytest.mark.parametrize(("type_", "literal", "expected"), CASES, ids=lambda value: str(value)[:40])
def test_a_value_is_written_as_documented_and_null_as_null(type_: SqlType, literal: str, expected: str) -> None:
    encoded = JsonEncoder([("X y", type_)]).encode(table(type_, "NULL", literal, "NULL"))
    assert [one.decode() for one in encoded] == ['{"X y":null}', f'{{"X y":{expected}}}', '{"X y":null}']


@pytest.mark.parametrize(
    ("options", "type_", "literal", "expected"),
    [
        ({"timestamptz_mode": "utc_without_suffix"}, TIMESTAMPTZ, "'2018-01-26 18:30:09.453'", "2018-01-26 18:30:09.453000"),
        ({"timestamptz_mode": "milli"}, TIMESTAMPTZ, "'1970-01-01 00:00:01.234567'", 1234),
        ({"timestamptz_mode": "micro"}, TIMESTAMPTZ, "'1970-01-01 00:00:01.234567'", 1234567),
        ({"jsonb_mode": "dynamic"}, JSONB, "'{\"a\": [1, null]}'", {"a": [1, None]}),
    ],
)
def test_handling_modes_change_one_type(options: dict[str, str], type_: SqlType, literal: str, expected: Any) -> None:
    encoded = JsonEncoder([("X y", type_)], **options).encode(table(type_, literal))
    assert json.loads(encoded[0]) == {"X y": expected}


def test_only_the_chosen_columns_are_written_in_their_order() -> None:
    rows = pa.table({"a": pa.array([1, 2], pa.int64()), "b": ["x", "y"], "_op": pa.array([1, 1], pa.int8())})
    assert JsonEncoder([("b", VARCHAR), ("a", INT8)]).encode(rows) == [b'{"b":"x","a":1}', b'{"b":"y","a":2}']
    assert JsonEncoder([]).encode(rows) == [b"{}", b"{}"]
    assert JsonEncoder([("a", INT8)]).encode(rows.slice(0, 0)) == []


def test_slices_and_chunks_write_their_own_rows() -> None:
    type_ = list_of(INT8)
    whole = pa.table({"a": pa.array([[1], None, [2, 3], []], physical_type(type_))})
    chunked = pa.concat_tables([whole.slice(1, 2), whole.slice(3, 1)])
    assert JsonEncoder([("a", type_)]).encode(chunked) == [b'{"a":null}', b'{"a":[2,3]}', b'{"a":[]}']
