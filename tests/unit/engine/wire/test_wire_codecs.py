"""What we encode, psycopg's own loaders read; what its dumpers write, we read. They are the independent reference."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import psycopg.types.numeric
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from psycopg.adapt import PyFormat, Transformer
from psycopg.pq import Format

from engine.sql.errors import SqlError
from engine.sql.numeric import from_decimal
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
)
from engine.wire.binary import encode_binary
from engine.wire.columns import arrow_type
from engine.wire.decode import decode
from engine.wire.literals import parse_array, parse_row
from engine.wire.oids import column_oid
from engine.wire.text import encode_text
from engine.wire.values import decimal_from_binary, decimal_to_binary, float_text, interval_text

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
NUMERICS = st.tuples(st.integers(-(2**96) + 1, 2**96 - 1), st.integers(0, 28)).map(
    lambda parts: Decimal((int(parts[0] < 0), tuple(map(int, str(abs(parts[0])))), -parts[1]))
)
VALUES: dict[SqlType, st.SearchStrategy[Any]] = {
    BOOL: st.booleans(),
    INT2: st.integers(-(2**15), 2**15 - 1),
    INT4: st.integers(-(2**31), 2**31 - 1),
    INT8: st.integers(-(2**63), 2**63 - 1),
    NUMERIC: st.one_of(NUMERICS, st.integers(-1000, 1000).map(lambda digits: Decimal(digits).scaleb(-18)), st.integers(-(10**9), 10**9).map(Decimal)),
    FLOAT4: st.floats(width=32, allow_nan=False),
    FLOAT8: st.one_of(st.floats(allow_nan=False), st.integers(-(2**60), 2**60).map(float)),
    VARCHAR: TEXT,
    BYTEA: st.binary(max_size=12),
    DATE: st.dates(),
    TIME: st.times(),
    TIMESTAMP: st.datetimes(),
    TIMESTAMPTZ: st.datetimes(),
    INTERVAL: st.timedeltas(timedelta(days=-100_000), timedelta(days=100_000)),
}  # fmt: skip
FORMATS = pytest.mark.parametrize("format_", [0, 1], ids=["text", "binary"])
EACH_TYPE = pytest.mark.parametrize("type_", VALUES, ids=str)


def encoded(type_: SqlType, values: list[Any], format_: int) -> list[bytes | None]:
    array = to_arrow(type_, values)
    cells: list[bytes | None] = (encode_binary if format_ else encode_text)(type_, array).to_pylist()
    return cells


def to_arrow(type_: SqlType, values: list[Any]) -> pa.Array:
    def convert(one: SqlType, value: Any) -> Any:
        if value is None:
            return None
        if one.element is not None:
            return [convert(one.element, item) for item in value]
        if one.name == "struct":
            return {name: convert(field, item) for (name, field), item in zip(one.fields, value, strict=True)}
        if isinstance(value, timedelta):
            return pa.MonthDayNano([0, value.days, (value.seconds * 1_000_000 + value.microseconds) * 1000])
        return Decimal(from_decimal(value)) if one == NUMERIC else value

    return pa.array([convert(type_, value) for value in values], arrow_type(type_))


def load(type_: SqlType, data: bytes | None, format_: int) -> Any:
    if data is None:
        return None
    if type_ == FLOAT4 and format_ == 0:
        # psycopg reads the text of a float4 as a double; as a float4 it is the value again.
        return float(np.float32(data.decode()))
    return Transformer().get_loader(column_oid(type_), Format(format_)).load(data)


def expected(type_: SqlType, value: Any) -> Any:
    if value is not None and type_ == TIMESTAMPTZ:
        return value.replace(tzinfo=UTC)
    return value


def readable(type_: SqlType, value: Any) -> bool:
    """psycopg refuses instants that it cannot show in the machine's zone at the ends of the calendar."""
    return type_ != TIMESTAMPTZ or 1 < value.year < 9999


@FORMATS
@EACH_TYPE
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_psycopg_reads_what_we_encode(type_: SqlType, format_: int, data: st.DataObject) -> None:
    values = data.draw(st.lists(st.none() | VALUES[type_].filter(lambda value: readable(type_, value)), max_size=8))
    got = [load(type_, cell, format_) for cell in encoded(type_, values, format_)]
    assert got == [expected(type_, value) for value in values]


@FORMATS
@EACH_TYPE
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_psycopg_reads_arrays(type_: SqlType, format_: int, data: st.DataObject) -> None:
    items = VALUES[type_].filter(lambda value: readable(type_, value))
    values = data.draw(st.lists(st.none() | st.lists(st.none() | items, max_size=5), max_size=4))
    array = list_of(type_)
    got = [load(array, cell, format_) for cell in encoded(array, values, format_)]
    if type_ == FLOAT4:
        got = [row and [item if item is None else float(np.float32(item)) for item in row] for row in got]
    assert got == [None if value is None else [expected(type_, item) for item in value] for value in values]


@settings(max_examples=25, deadline=None)
@given(
    values=st.lists(
        st.none() | st.lists(st.lists(st.integers(-9, 9), min_size=2, max_size=2), min_size=1, max_size=3), max_size=3
    )
)
def test_psycopg_reads_arrays_of_arrays_in_text(values: list[Any]) -> None:
    nested = list_of(list_of(INT4))
    assert [load(nested, cell, 0) for cell in encoded(nested, values, 0)] == values


@settings(max_examples=80, deadline=None)
@given(
    values=st.lists(
        st.none()
        | st.tuples(st.none() | TEXT, st.none() | st.integers(-9, 9), st.none() | st.lists(st.none() | TEXT, max_size=3)),
        max_size=4,
    )
)
def test_psycopg_reads_rows(values: list[Any]) -> None:
    row = struct_of(("a", VARCHAR), ("b", INT4), ("c", list_of(VARCHAR)))
    assert [load(row, cell, 1) for cell in encoded(row, values, 1)] == values
    for cell, value in zip(encoded(row, values, 0), values, strict=True):
        if cell is None:
            assert value is None
            continue
        first, second, third = load(row, cell, 0)
        assert first == value[0]
        assert second == (None if value[1] is None else str(value[1]))
        assert (None if third is None else load(list_of(VARCHAR), third.encode(), 0)) == value[2]


@FORMATS
@EACH_TYPE
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_a_slice_is_encoded_as_its_copy(type_: SqlType, format_: int, data: st.DataObject) -> None:
    values = data.draw(st.lists(st.none() | st.lists(st.none() | VALUES[type_], max_size=3), min_size=3, max_size=8))
    for shape, rows in ((list_of(type_), values), (type_, [row[0] if row else None for row in values])):
        array = to_arrow(shape, rows)
        encode = encode_binary if format_ else encode_text
        assert encode(shape, array.slice(1, 2)).to_pylist() == encode(shape, array).to_pylist()[1:3]


@FORMATS
@pytest.mark.parametrize("type_", [one for one in VALUES if one not in (FLOAT4, TIMESTAMPTZ, BYTEA)], ids=str)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_we_read_what_psycopg_writes(type_: SqlType, format_: int, data: st.DataObject) -> None:
    value = data.draw(VALUES[type_])
    dumper = Transformer().get_dumper(value, PyFormat.BINARY if format_ else PyFormat.TEXT)
    assert decode(type_, dumper.oid, int(dumper.format), dumper.dump(value)) == value


@FORMATS
@settings(max_examples=25, deadline=None)
@given(
    values=st.lists(st.none() | TEXT, min_size=1, max_size=5),
    numbers=st.lists(st.lists(st.integers(-99, 99), min_size=2, max_size=2), min_size=1, max_size=3),
)
def test_we_read_arrays_that_psycopg_writes(format_: int, values: list[Any], numbers: list[Any]) -> None:
    for type_, value in ((list_of(VARCHAR), values), (list_of(INT4), numbers)):
        dumper = Transformer().get_dumper(value, PyFormat.BINARY if format_ else PyFormat.TEXT)
        assert decode(type_, dumper.oid, int(dumper.format), dumper.dump(value)) == value


@FORMATS
@EACH_TYPE
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_a_value_survives_our_own_round_trip(type_: SqlType, format_: int, data: st.DataObject) -> None:
    value = data.draw(VALUES[type_])
    for shape, whole in ((type_, value), (list_of(type_), [value, None])):
        (cell,) = encoded(shape, [whole], format_)
        assert decode(shape, 0, format_, cell) == whole


@settings(max_examples=150, deadline=None)
@given(value=st.floats(allow_nan=False))
@example(1e15)
@example(1e16)
@example(1e-5)
@example(123456789012345680.0)
def test_a_float_reads_back_as_itself_and_is_shortest(value: float) -> None:
    for text in (float_text(value, single=False), encoded(FLOAT8, [value], 0)[0].decode()):  # type: ignore[union-attr]
        assert float(text) == value
        assert math.copysign(1, float(text)) == math.copysign(1, value)
        significant = text.lstrip("-").partition("e")[0].replace(".", "").strip("0")
        assert math.isinf(value) or len(significant) <= len(
            repr(value).lstrip("-").partition("e")[0].replace(".", "").strip("0")
        )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1e15, "1000000000000000"), (1e16, "1e+16"), (1e-5, "0.00001"), (1e-6, "1e-06"), (1.5e300, "1.5e+300"), (0.1, "0.1"),
        (123456.789, "123456.789"), (1e10, "10000000000"), (12345678901.5, "12345678901.5"), (-0.0, "-0"), (100.0, "100"),
    ],
)  # fmt: skip
def test_floats_are_laid_out_as_risingwave_does(value: float, text: str) -> None:
    assert encoded(FLOAT8, [value], 0) == [text.encode()]
    assert float_text(value, single=False) == text


@settings(max_examples=100, deadline=None)
@given(
    value=st.decimals(allow_nan=True, allow_infinity=True, places=None).filter(
        lambda value: not value.is_snan() and (not value.is_finite() or -60 < value.adjusted() < 60)
    )
)
def test_a_numeric_in_binary_is_what_psycopg_has(value: Decimal) -> None:
    data = decimal_to_binary(value)
    theirs = Transformer().get_loader(1700, Format.BINARY).load(data)
    ours = decimal_from_binary(data)
    assert str(theirs) == str(ours)
    assert ours == value or (ours.is_nan() and value.is_nan())
    if value.is_finite() and "." in f"{value:f}":
        return
    if value.is_finite():
        assert decimal_from_binary(bytes(psycopg.types.numeric.DecimalBinaryDumper(Decimal).dump(value) or b"")) == value


def test_a_numeric_has_no_exponent_and_keeps_its_own_scale() -> None:
    values = [Decimal(text) for text in ("0", "1.500", "-0.000000000000000001", "100", "-100.10", "0.0000012", "1E+5")]
    assert encoded(NUMERIC, values, 0) == [
        b"0",
        b"1.500",
        b"-0.000000000000000001",
        b"100",
        b"-100.10",
        b"0.0000012",
        b"100000",
    ]


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ((0, 0, 0), "00:00:00"), ((1, 2, 0), "1 mon 2 days"), ((14, 1, 3_600_000_000), "1 year 2 mons 1 day 01:00:00"),
        ((-14, -1, -1), "-1 years -2 mons -1 days -00:00:00.000001"), ((0, 0, 360_000_500_000), "100:00:00.5"),
    ],
)  # fmt: skip
def test_an_interval_is_printed_as_risingwave_does(parts: tuple[int, int, int], text: str) -> None:
    assert interval_text(*parts) == text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1 mon 2 days", "1 mon 2 days"), ("1 day 02:03:04.5", timedelta(days=1, hours=2, minutes=3, seconds=4.5)),
        ("-1 day, 23:59:59", timedelta(seconds=-1)), ("90 minutes", timedelta(minutes=90)), ("-01:30", timedelta(minutes=-90)),
        ("2 years", "2 years"),
    ],
)  # fmt: skip
def test_an_interval_is_read(text: str, value: object) -> None:
    assert decode(INTERVAL, 0, 0, text.encode()) == value


@settings(max_examples=150, deadline=None)
@given(
    data=st.binary(max_size=40),
    type_=st.sampled_from([*VALUES, JSONB, list_of(INT4), list_of(VARCHAR), struct_of(("a", INT4))]),
    format_=st.sampled_from([0, 1]),
)
def test_any_bytes_are_read_or_refused_as_the_clients_mistake(data: bytes, type_: SqlType, format_: int) -> None:
    try:
        decode(type_, 0, format_, data)
    except SqlError as error:
        assert error.sqlstate[:2] == "22"  # noqa: PT017  # most inputs are refused, some are values


@pytest.mark.parametrize("text", ["", "{", "{1", "{1,}", "{,}", "1}", '{"a}', "{1}x", "{{1}", "{a{b}"])
def test_a_broken_array_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"array|element|quote|text after"):
        parse_array(text)


@pytest.mark.parametrize(
    ("text", "columns"),
    [("(1,,x)", ["1", None, "x"]), ('("",")")', ["", ")"]), ("()", [None]), ('(" a""b",c d)', [' a"b', "c d"])],
)
def test_a_row_is_read(text: str, columns: list[str | None]) -> None:
    assert parse_row(text) == columns


def test_json_is_printed_in_normal_form() -> None:
    documents = ['{"b":1,"a":{"z":[1,2],"y":"ü"}}', "null", "[]", '"x"', "1.0"]
    assert encoded(JSONB, documents, 0) == ['{"a": {"y": "ü", "z": [1, 2]}, "b": 1}'.encode(), b"null", b"[]", b'"x"', b"1.0"]
    assert encoded(JSONB, documents, 1)[1] == b"\x01null"


def test_far_dates_keep_their_era() -> None:
    array = pa.array([-800_000, 3_000_000, 0, None], pa.int32()).cast(pa.date32())
    assert encode_text(DATE, array).to_pylist() == [b"0222-09-04 BC", b"10183-09-21", b"1970-01-01", None]


_NAIVE: Callable[..., datetime] = datetime  # stored timestamps have no zone


@pytest.mark.parametrize(
    ("type_", "text", "value"),
    [
        (TIMESTAMPTZ, "2026-01-01 02:00:00+02", _NAIVE(2026, 1, 1)),
        (TIMESTAMPTZ, "2026-01-01T00:00:00Z", _NAIVE(2026, 1, 1)),
        (TIMESTAMPTZ, "2026-01-01 00:00:00", _NAIVE(2026, 1, 1)),
        (TIMESTAMPTZ, "2026-01-01 00:00:00 UTC", _NAIVE(2026, 1, 1)),
        (DATE, "2026-01-01 10:00:00", date(2026, 1, 1)),
        (TIME, "10:00", time(10)),
        (BOOL, " YES ", True),
        (BYTEA, r"a\\b\001", b"a\\b\x01"),
    ],
)
def test_text_forms_that_clients_send(type_: SqlType, text: str, value: object) -> None:
    assert decode(type_, 0, 0, text.encode()) == value
