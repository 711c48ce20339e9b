# ruff: noqa: DTZ001  (naive UTC is how the engine stores timestamps)
"""Every accepted and refused form of each type, on real DuckDB; the reason of every reject."""

from __future__ import annotations

import datetime as dt
import functools
import json
from collections.abc import Sequence
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from engine.connectors.base import RAW_SCHEMA
from engine.connectors.json_decode import build_json_decode_sql
from engine.connectors.json_decode_fast import DOUBTFUL, build_fast_json_decode_sql
from engine.functions.native import register_functions
from engine.sql.errors import InvalidParameter, UnsupportedQuery
from engine.sql.numeric import parse_numeric
from engine.sql.types import (
    BOOL,
    BYTEA,
    DATE,
    FLOAT4,
    FLOAT8,
    INT2,
    INT4,
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
)  # fmt: skip


def raw(payloads: Sequence[bytes | None]) -> pa.Table:
    count = len(payloads)
    return pa.table(
        {
            "partition": [0] * count,
            "offset": list(range(count)),
            "timestamp": [dt.datetime(2026, 1, 1)] * count,
            "key": [None] * count,
            "value": list(payloads),
            "headers": [None] * count,
        },
        schema=RAW_SCHEMA,
    )


def decode(payloads: Sequence[bytes | None], columns: Sequence[tuple[str, SqlType]], **options: Any) -> list[dict[str, Any]]:
    """Rows of the full statement; the short one must agree on every row that it does not call doubtful."""
    exact = run(build_json_decode_sql("raw", columns, **options), payloads, columns)
    fast = run(build_fast_json_decode_sql("raw", columns, **options), payloads, columns)
    reason = options.get("reason", "reason")
    for exact_row, fast_row in zip(exact, fast, strict=True):
        if fast_row[reason] != DOUBTFUL:
            assert fast_row == exact_row
    return exact


@functools.cache
def _connection() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    register_functions(connection)
    connection.execute("SET TimeZone = 'America/New_York'")  # must not leak into any value
    return connection


def run(sql: str, payloads: Sequence[bytes | None], columns: Sequence[tuple[str, SqlType]]) -> list[dict[str, Any]]:
    connection = _connection()
    connection.register("raw", raw(payloads))
    result = connection.execute(sql)
    types = {column[0]: str(column[1]) for column in result.description}
    rows = result.fetchall()
    for name, type_ in columns:
        expected = connection.sql(f"SELECT NULL::{type_.duckdb} AS x").types[0]
        assert types[name] == str(expected), f"{name} is {types[name]}, not {expected}"
    return [dict(zip(types, row, strict=True)) for row in rows]


def decode_one(literal: str, type_: SqlType, **options: Any) -> tuple[Any, str | None]:
    row = decode([f'{{"x": {literal}}}'.encode()], [("x", type_)], **options)[0]
    return row["x"], row["reason"]


UTC_2 = dt.datetime(2024, 4, 11, 2, 0, 0)

GOOD: list[tuple[SqlType, str, Any]] = [
    (BOOL, "true", True),
    (BOOL, "false", False),
    (INT2, "-32768", -32768),
    (INT4, "0", 0),
    (INT4, '"12"', 12),
    (INT8, "9223372036854775807", 9223372036854775807),
    (FLOAT4, "0.5", 0.5),
    (FLOAT8, "1", 1.0),
    (FLOAT8, "0", 0.0),
    (FLOAT8, "-1.5e3", -1500.0),
    (FLOAT8, '"2.25"', 2.25),
    (NUMERIC, "0.10", parse_numeric("0.1")),
    (NUMERIC, '"123.450"', parse_numeric("123.450")),
    (NUMERIC, "7", parse_numeric("7")),
    (VARCHAR, '"a\\u00e9\\n\\"b"', 'aé\n"b'),
    (VARCHAR, '""', ""),
    (VARCHAR, '"[x"', "[x"),
    (VARCHAR, '"{x"', "{x"),
    (VARCHAR, "12.5", "12.5"),
    (VARCHAR, "true", "true"),
    (DATE, '"2024-02-29"', dt.date(2024, 2, 29)),
    (DATE, "19000", dt.date(2022, 1, 8)),
    (TIME, '"23:59:58.5"', dt.time(23, 59, 58, 500000)),
    (TIME, '"04:05"', dt.time(4, 5)),
    (TIME, "1000000", dt.time(0, 0, 1)),
    (TIMESTAMP, '"2024-04-11 02:00:00"', UTC_2),
    (TIMESTAMP, '"2024-04-11T02:00:00Z"', UTC_2),
    (TIMESTAMP, '"2024-04-11"', dt.datetime(2024, 4, 11)),
    (TIMESTAMP, "1712800800", UTC_2),
    (TIMESTAMPTZ, '"2024-04-11T02:00:00Z"', UTC_2),
    (TIMESTAMPTZ, '"2024-04-11t02:00:00z"', UTC_2),
    (TIMESTAMPTZ, '"2024-04-11 02:00:00+00"', UTC_2),
    (TIMESTAMPTZ, '"2024-04-11T07:30:00+05:30"', UTC_2),
    (TIMESTAMPTZ, '"2024-04-10T23:00:00.123456-03:00"', UTC_2.replace(microsecond=123456)),
    (TIMESTAMPTZ, '"2024-04-10T23:00:00-0300"', UTC_2),
    (TIMESTAMPTZ, "1712800800", UTC_2),
    (TIMESTAMPTZ, "1712800800123", UTC_2.replace(microsecond=123000)),
    (TIMESTAMPTZ, "1712800800123456", UTC_2.replace(microsecond=123456)),
    (TIMESTAMPTZ, "1712800800123456789", UTC_2.replace(microsecond=123456)),
    (INTERVAL, '"1 day 02:00:00"', dt.timedelta(days=1, hours=2)),
    (BYTEA, '"\\\\xDeadBeef"', b"\xde\xad\xbe\xef"),
    (BYTEA, '"\\\\x De Ad "', b"\xde\xad"),
    (BYTEA, '"12CD"', b"12CD"),
    (BYTEA, '"a\\\\\\\\b"', b"a\\b"),
    (JSONB, '{"b": [1, 2.50, null], "a": "x"}', '{"b":[1,2.5,null],"a":"x"}'),
    (JSONB, '"text"', '"text"'),
    (JSONB, "3", "3"),
    (JSONB, '{"x": "NaN, inf"}', '{"x":"NaN, inf"}'),
    (list_of(FLOAT8), "[1, 2.5, null]", [1.0, 2.5, None]),
    (list_of(FLOAT8), "[]", []),
    (list_of(list_of(INT4)), "[[1], [], null]", [[1], [], None]),
    (struct_of(("a", INT4), ("B c", VARCHAR)), '{"A": 1, "B c": "x"}', {"a": 1, "B c": "x"}),
    (struct_of(("a", INT4), ("b", VARCHAR)), '{"a": 1}', {"a": 1, "b": None}),
    (
        struct_of(
            ("a", INT4),
        ),
        '"{\\"a\\": 5}"',
        {"a": 5},
    ),
    (
        list_of(
            struct_of(
                ("a", list_of(TIMESTAMPTZ)),
            )
        ),
        '[{"a": ["2024-04-11T02:00:00Z"]}]',
        [{"a": [UTC_2]}],
    ),
]

BAD: list[tuple[SqlType, str]] = [
    (BOOL, "1"),
    (BOOL, '"true"'),
    (INT2, "32768"),
    (INT4, "1.5"),
    (INT4, "1.0"),
    (INT4, "1e3"),
    (INT4, "true"),
    (INT4, '"1.5"'),
    (INT8, "9223372036854775808"),
    (FLOAT8, '"abc"'),
    (FLOAT8, "true"),
    (FLOAT8, "false"),
    (FLOAT8, "[1]"),
    (FLOAT8, "1e400"),
    (NUMERIC, "true"),
    (NUMERIC, '"x"'),
    (VARCHAR, '{"a": 1}'),
    (VARCHAR, "[1]"),
    (DATE, '"2024-02-30"'),
    (DATE, "1.5"),
    (TIME, '"25:00:00"'),
    (TIMESTAMP, '"infinity"'),
    (TIMESTAMP, '"yesterday"'),
    (TIMESTAMPTZ, '"2024-04-11T02:00:00"'),
    (TIMESTAMPTZ, '"1712800800"'),
    (TIMESTAMPTZ, '"2024-13-11T02:00:00Z"'),
    (TIMESTAMPTZ, "-5"),
    (TIMESTAMPTZ, "1712800800.5"),
    (INTERVAL, "5"),
    (BYTEA, '"\\\\xabc"'),
    (BYTEA, "12"),
    (INT4, "NaN"),
    (NUMERIC, "NaN"),
    (JSONB, '{"a": [NaN]}'),
    (list_of(FLOAT8), "[Infinity]"),
    (list_of(FLOAT8), '[1, "x"]'),
    (list_of(FLOAT8), "1"),
    (list_of(list_of(INT4)), "[[1.5]]"),
    (
        struct_of(
            ("a", INT4),
        ),
        '{"a": "x"}',
    ),
    (
        struct_of(
            ("a", INT4),
        ),
        "[1]",
    ),
    (
        struct_of(
            ("a", INT4),
        ),
        '"plain"',
    ),
]


@pytest.mark.parametrize(("type_", "literal", "expected"), GOOD, ids=lambda value: str(value)[:40])
def test_a_value_that_fits_is_read(type_: SqlType, literal: str, expected: Any) -> None:
    assert decode_one(literal, type_) == (expected, None)


@pytest.mark.parametrize(("type_", "literal"), BAD, ids=lambda value: str(value)[:40])
def test_a_value_of_the_wrong_type_is_a_reject_that_shows_it(type_: SqlType, literal: str) -> None:
    value, reason = decode_one(literal, type_)
    assert value is None
    assert reason is not None
    assert reason.startswith('column "x": cannot parse ')
    assert reason.endswith(f" as {type_.sql}")


@pytest.mark.parametrize("type_", {type_.sql: type_ for type_, *_ in GOOD}.values(), ids=str)
def test_missing_key_and_json_null_are_null_without_reason(type_: SqlType) -> None:
    rows = decode([b"{}", b'{"x": null}', b'{"X": null, "y": 1}'], [("x", type_)])
    assert [(row["x"], row["reason"]) for row in rows] == [(None, None)] * 3


def test_the_reason_reads_as_promised() -> None:
    assert decode_one('"abc"', FLOAT8)[1] == 'column "x": cannot parse "abc" as double precision'


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (None, "empty payload"),
        (b"", "empty payload"),
        (b"\xff{}", "invalid UTF-8"),
        (b"not json", "invalid JSON"),
        (b'{"x": 1', "invalid JSON"),
        (b'{"x": 1,}', "invalid JSON"),
        (b'{"x": [1, ], "y": "a, ]"}', "invalid JSON"),
        (b'{"x": NaN}', 'column "x": cannot parse NaN as double precision'),
        (b'{"x": -Infinity}', 'column "x": cannot parse -Infinity as double precision'),
        (b'{"x": 1} {"x": 2}', "invalid JSON"),
        (b"{'x': 1}", "invalid JSON"),
        (b'{"x": 0x10}', "invalid JSON"),
        (b'{"x": /* one */ 1}', "invalid JSON"),
        (b"[1]", "not a JSON object"),
        (b"5", "not a JSON object"),
        (b"null", "not a JSON object"),
        (b'"{}"', "not a JSON object"),
    ],
)
def test_a_record_that_is_no_json_object_is_a_reject(payload: bytes | None, reason: str) -> None:
    assert decode([payload], [("x", FLOAT8)])[0]["reason"] == reason


def test_words_that_look_like_lenient_json_inside_strings_are_fine() -> None:
    payload = json.dumps({"x": 'info, ]: NaN, } \\" : inf', "nan": 1, "y": 2}).encode()
    assert decode([payload], [("y", INT4)])[0] == {"y": 2, "reason": None}


def test_one_bad_row_never_touches_its_neighbours() -> None:
    payloads = [b'{"x": %d}' % i for i in range(3000)]
    payloads[7], payloads[2500] = b"broken", b'{"x": "no"}'
    rows = decode(payloads, [("x", INT4)], keep={"offset": "_offset"})
    assert [row["_offset"] for row in rows] == list(range(3000))
    assert {row["_offset"]: row["reason"] for row in rows if row["reason"]} == {
        7: "invalid JSON",
        2500: 'column "x": cannot parse "no" as integer',
    }
    assert [row["x"] for row in rows if not row["reason"]] == [i for i in range(3000) if i not in (7, 2500)]


def test_an_exact_key_wins_over_one_in_another_case() -> None:
    assert decode([b'{"X": 1, "x": 2}', b'{"X": 3}'], [("x", INT4)]) == [{"x": 2, "reason": None}, {"x": 3, "reason": None}]


def test_odd_column_names_are_keys_like_any_other() -> None:
    names = ['a"b', "a'b", "a.b", "a/b~c", "value", "_text", "offset", "reason é"]
    payload = json.dumps({name: i for i, name in enumerate(names)}).encode()
    row = decode([payload], [(name, INT4) for name in names], keep={"offset": "kafka offset"}, reason="_reason")[0]
    assert row == {"kafka offset": 0, **{name: i for i, name in enumerate(names)}, "_reason": None}
    upper = json.dumps({name.upper(): i for i, name in enumerate(names)}).encode()
    assert decode([upper], [(name, INT4) for name in names[:-1]], reason="_reason")[0]["a/b~c"] == 3


def test_required_keys_must_be_there_and_not_null() -> None:
    rows = decode([b"{}", b'{"tenant_id": null}', b'{"tenant_id": "a"}'], [("tenant_id", VARCHAR)], required=["tenant_id"])
    assert [row["reason"] for row in rows] == ['missing key "tenant_id"', 'null in required column "tenant_id"', None]


@pytest.mark.parametrize(
    ("mode", "literal", "good"),
    [
        ("milli", "1712800800000", True),
        ("micro", "1712800800000000", True),
        ("utc_without_suffix", '"2024-04-11 02:00:00"', True),
        ("utc_string", '"2024-04-11T02:00:00Z"', True),
        ("utc_string", "1712800800", False),
        ("utc_without_suffix", "1712800800", False),
    ],
)
def test_timestamptz_handling_mode_decides_what_numbers_and_strings_mean(mode: str, literal: str, good: bool) -> None:
    value, reason = decode_one(literal, TIMESTAMPTZ, timestamptz_mode=mode)
    assert (value, reason is None) == ((UTC_2, True) if good else (None, False))


def test_wrong_arguments_are_refused_by_name() -> None:
    with pytest.raises(InvalidParameter, match="`sometimes`"):
        build_json_decode_sql("raw", [("x", INT4)], timestamptz_mode="sometimes")
    with pytest.raises(InvalidParameter, match="`y` is not a column"):
        build_json_decode_sql("raw", [("x", INT4)], required=["y"])
    with pytest.raises(UnsupportedQuery, match="only in case"):
        build_json_decode_sql("raw", [("x", INT4), ("X", INT4)])


ORDINARY: list[tuple[SqlType, str]] = [
    (BOOL, "true"), (INT2, "-5"), (INT4, "0"), (INT8, "9223372036854775807"), (FLOAT4, "0.5"), (FLOAT8, "0.25"), (FLOAT8, "0"),
    (FLOAT8, "1"), (NUMERIC, "0.1"), (VARCHAR, '"text"'), (VARCHAR, '""'), (DATE, '"2024-02-29"'), (TIME, '"04:05:06"'),
    (TIMESTAMP, '"2024-04-11 02:00:00"'), (TIMESTAMPTZ, '"2024-04-11T02:00:00Z"'), (TIMESTAMPTZ, '"2024-04-11T02:00:00+02:00"'),
    (BYTEA, '"abc"'), (JSONB, '{"a": [true, 0, "x"]}'), (list_of(FLOAT8), "[0, 1, 2.5]"), (list_of(VARCHAR), '["a", null]'),
    (struct_of(("a", INT4)), '{"a": 1}'), (INT4, '"1"'), (TIMESTAMP, '"2024-04-11T02:00:00.123456Z"'), (TIMESTAMP, "1712800800000"),
    (TIMESTAMP, '"2024-04-11"'),
]  # fmt: skip


@pytest.mark.parametrize(("type_", "literal"), ORDINARY, ids=lambda value: str(value)[:40])
def test_ordinary_rows_are_not_doubtful_nor_are_missing_keys_and_nulls(type_: SqlType, literal: str) -> None:
    payloads = [f'{{"x": {literal}, "other": "A"}}'.encode(), b'{"other": "a"}', b'{"x": null}', b"{}"]
    rows = run(build_fast_json_decode_sql("raw", [("x", type_)]), payloads, [("x", type_)])
    assert [row["reason"] for row in rows] == [None] * 4
    assert rows == run(build_json_decode_sql("raw", [("x", type_)]), payloads, [("x", type_)])


@pytest.mark.parametrize(
    "payload",
    [
        None,
        b"",
        b"\xff",
        b"broken",
        b"[1]",
        b'{"x": 1,}',
        b'{"x": "1.0"}',
        b'{"x": true}',
        b'{"x": NaN}',
        b'{"X": 1}',
        b'{"x": [1]}',
    ],
)
def test_rows_that_need_a_second_look_are_doubtful(payload: bytes | None) -> None:
    columns = [("x", INT4)]
    assert run(build_fast_json_decode_sql("raw", columns), [payload], columns)[0]["reason"] == DOUBTFUL


def test_a_required_key_that_is_missing_is_doubtful() -> None:
    columns = [("x", INT4)]
    rows = run(build_fast_json_decode_sql("raw", columns, required=["x"]), [b"{}", b'{"x": null}', b'{"x": 1}'], columns)
    assert [row["reason"] for row in rows] == [DOUBTFUL, DOUBTFUL, None]
