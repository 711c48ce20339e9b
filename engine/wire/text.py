"""Text format: Arrow columns to the bytes of cells, a whole column at a time.

Source: PostgreSQL documentation, 8.15.6 "Array Input and Output Syntax" and 8.16.6 "Composite Type Input and Output Syntax"
for the quoting rules; RisingWave's forms for the rest (a fraction of a second has three or six digits, a zone is `+00:00`).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.functions.datetimes import zoned_text
from engine.sql.int256 import decode
from engine.sql.numeric import to_text
from engine.sql.numeric_arrow import KEY_TYPE, numeric_keys
from engine.sql.types import SqlType
from engine.wire.columns import (
    as_array,
    concatenate,
    integers,
    interval_parts,
    map_valid,
    null_like,
    physical,
    regroup,
    replace_where,
)
from engine.wire.values import decimal_text, float_text, interval_text, json_text

_SECOND = 1_000_000
_FIRST_DAY = (date(1, 1, 1) - date(1970, 1, 1)).days
_LAST_DAY = (date(9999, 12, 31) - date(1970, 1, 1)).days
_UNQUOTED = frozenset({"bool", "int2", "int4", "int8", "serial", "float4", "float8", "numeric", "date", "time", "list"})
"""Types whose text never needs quotes inside an array or a row (a list only inside an array)."""


def encode_text(type_: SqlType, column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """The text form of each value as binary, NULL where the value is.

    Raises:
        pa.ArrowInvalid: the column's physical type cannot be read as `type_`.
    """
    array = physical(type_, as_array(column))
    encoded = _ENCODERS[type_.name](type_, array)
    return encoded if pa.types.is_binary(encoded.type) else encoded.cast(pa.binary())


def _boolean(_: SqlType, array: pa.Array) -> pa.Array:
    return pc.if_else(array, "t", "f")


def _by_cast(_: SqlType, array: pa.Array) -> pa.Array:
    return array.cast(pa.string())


def _float(type_: SqlType, array: pa.Array) -> pa.Array:
    text = array.cast(pa.string())
    size = pc.abs(array)
    # Outside this range the kernel's layout is not ours (exponent, `inf`, `nan`); NaN fails both comparisons.
    plain = pc.or_(pc.and_(pc.greater_equal(size, 1e-4), pc.less(size, 1e10)), pc.equal(size, 0))
    single = type_.name == "float4"
    if not single and not pc.all(plain).as_py():
        # Whole numbers below 2**53, such as milliseconds since 1970, are their own shortest digits.
        whole = pc.and_(pc.equal(array, pc.floor(array)), pc.less(size, 2.0**53))
        whole = pc.fill_null(pc.and_(whole, pc.invert(plain)), False)
        text = pc.if_else(whole, pc.if_else(whole, array, 0.0).cast(pa.int64()).cast(pa.string()), text)
        plain = pc.or_(plain, whole)
    return replace_where(text, pc.invert(plain), lambda at: float_text(array[at].as_py(), single=single))


def _numeric(_: SqlType, array: pa.Array) -> pa.Array:
    if pa.types.is_integer(array.type):
        return array.cast(pa.string())
    if array.type == KEY_TYPE:
        return pa.array([None if key is None else to_text(key) for key in numeric_keys(array)], pa.string())
    text = array.cast(pa.string())
    trimmed = pc.utf8_rtrim(pc.utf8_rtrim(text, characters="0"), characters=".")
    # Arrow writes values below 1e-6, zero too, with an exponent.
    trimmed = pc.if_else(pc.equal(array, 0), "0", trimmed)
    return replace_where(trimmed, pc.match_substring(trimmed, "E"), lambda at: decimal_text(array[at].as_py()))


def _same(_: SqlType, array: pa.Array) -> pa.Array:
    return array


def _bytea(_: SqlType, array: pa.Array) -> pa.Array:
    offsets = (
        np.frombuffer(array.buffers()[1], np.int32, len(array) + 1, array.offset * 4) if len(array) else np.zeros(1, np.int32)
    )
    data = array.buffers()[2]
    digits = bytes(data[int(offsets[0]) : int(offsets[-1])]).hex().encode() if data is not None else b""
    doubled = ((offsets - offsets[0]) * 2).astype(np.int32)
    cells = pa.Array.from_buffers(pa.binary(), len(array), [None, pa.py_buffer(doubled), pa.py_buffer(digits)])
    return null_like(array, concatenate([b"\\x", cells]))


def _date(_: SqlType, array: pa.Array) -> pa.Array:
    days = array.view(pa.int32())
    odd = pc.or_(pc.less(days, _FIRST_DAY), pc.greater(days, _LAST_DAY))
    text = pc.if_else(odd, pa.scalar(None, pa.date32()), array).cast(pa.string())
    return replace_where(text, odd, lambda at: _far_date(days[at].as_py()))


def _time(_: SqlType, array: pa.Array) -> pa.Array:
    whole = _fraction_digits(array)
    return _trim_fraction(array.cast(pa.time32("s") if whole == 0 else array.type).cast(pa.string()), whole)


def _timestamp(_: SqlType, array: pa.Array) -> pa.Array:
    days = pc.divide(array.view(pa.int64()), 86_400 * _SECOND)
    odd = pc.or_(pc.less_equal(days, _FIRST_DAY), pc.greater(days, _LAST_DAY))
    kept = pc.if_else(odd, pa.scalar(None, array.type), array)
    digits = _fraction_digits(kept)
    text = _trim_fraction((kept.cast(pa.timestamp("s")) if digits == 0 else kept).cast(pa.string()), digits)
    raw = array.view(pa.int64())
    return replace_where(text, odd, lambda at: _far_timestamp(raw[at].as_py()))


def _timestamptz(type_: SqlType, array: pa.Array) -> pa.Array:
    if type_.zone not in ("", "UTC"):
        raw = array.view(pa.int64())
        return map_valid(raw, lambda us: zoned_text(us, type_.zone))  # type: ignore[arg-type]  # the column holds integers
    text = concatenate_text([_timestamp(type_, array), "+00:00"], array)
    return pc.replace_substring(text, " BC+00:00", "+00:00 BC") if _before_christ(array) else text


def concatenate_text(parts: list[pa.Array | str], array: pa.Array) -> pa.Array:
    """Parts joined row by row, NULL where `array` is."""
    return null_like(array, pc.binary_join_element_wise(*parts, "", null_handling="replace", null_replacement=""))


def _interval(_: SqlType, array: pa.Array) -> pa.Array:
    parts = interval_parts(array)
    texts = [
        interval_text(months, days, int(nanoseconds / 1000) if nanoseconds % 1000 else nanoseconds // 1000)
        for months, days, nanoseconds in parts.tolist()
    ]
    return null_like(array, pa.array(texts, pa.string()))


def _json(_: SqlType, array: pa.Array) -> pa.Array:
    return map_valid(array, lambda value: json_text(str(value)))


def _list(type_: SqlType, array: pa.Array) -> pa.Array:
    assert type_.element is not None
    cells = encode_text(type_.element, array.flatten()).cast(pa.string())
    if type_.element.name not in _UNQUOTED:
        needs = pc.match_substring_regex(cells, r'^$|[{}",\\\s\v]|^(?i:null)$')
        quoted = _quoted(pc.replace_substring(pc.replace_substring(cells, "\\", "\\\\"), '"', '\\"'), cells)
        cells = pc.if_else(needs, quoted, cells)
    joined = regroup(array, pc.fill_null(cells, "NULL"), ",")
    return concatenate_text(["{", joined, "}"], array)


def _struct(type_: SqlType, array: pa.Array) -> pa.Array:
    columns: list[pa.Array | str] = ["("]
    for position, ((_, field), values) in enumerate(zip(type_.fields, array.flatten(), strict=True)):
        cells = encode_text(field, values).cast(pa.string())
        if field.name not in _UNQUOTED or field.name == "list":
            needs = pc.match_substring_regex(cells, r'^$|[()",\\\s\v]')
            quoted = _quoted(pc.replace_substring(pc.replace_substring(cells, "\\", "\\\\"), '"', '""'), cells)
            cells = pc.if_else(needs, quoted, cells)
        columns += [",", cells] if position else [cells]
    return concatenate_text([*columns, ")"], array)


def _map(type_: SqlType, array: pa.Array) -> pa.Array:
    """`{key:value,...}`, each part quoted as in an array."""
    entries = array.flatten()
    parts = []
    for (_, field), values in zip(type_.fields, entries.flatten(), strict=True):
        cells = encode_text(field, values).cast(pa.string())
        needs = pc.match_substring_regex(cells, r'^$|[{}",\\\s\v]|^(?i:null)$')
        quoted = _quoted(pc.replace_substring(pc.replace_substring(cells, "\\", "\\\\"), '"', '\\"'), cells)
        parts.append(pc.fill_null(pc.if_else(needs, quoted, cells), "NULL"))
    joined = regroup(array, pc.binary_join_element_wise(*parts, ":"), ",")
    return concatenate_text(["{", joined, "}"], array)


def _int256(_: SqlType, array: pa.Array) -> pa.Array:
    return map_valid(array, lambda value: str(decode(value)))  # type: ignore[arg-type]  # the column is binary


def _quoted(escaped: pa.Array, cells: pa.Array) -> pa.Array:
    return concatenate_text(['"', escaped, '"'], cells)


def _fraction_digits(array: pa.Array) -> int:
    """0 when every value is a whole second, 3 when every value with a fraction has whole milliseconds, else 6."""
    raw = integers(array, pa.int64())
    if not np.any(raw % _SECOND):
        return 0
    return 6 if np.any(raw % 1000) else 3


def _trim_fraction(text: pa.Array, digits: int) -> pa.Array:
    """`.500000` to `.500`, `.000000` to nothing; six digits stay where the microseconds need them."""
    if digits == 0:
        return text
    text = pc.replace_substring_regex(text, r"\.000000$", "")
    return pc.replace_substring_regex(text, r"(\.\d{3})000$", r"\1")


def _before_christ(array: pa.Array) -> bool:
    earliest = pc.min(array.view(pa.int64())).as_py()
    return earliest is not None and earliest < (_FIRST_DAY + 1) * 86_400 * _SECOND


def _far_date(days: int) -> str:
    """A date outside the years 1 to 9999, which neither Python nor the kernel prints as PostgreSQL does."""
    # The Gregorian calendar repeats every 400 years of 146,097 days.
    cycles = (days - _FIRST_DAY) // 146_097
    near = date(1, 1, 1) + timedelta(days=days - _FIRST_DAY - cycles * 146_097)
    year = near.year + 400 * cycles
    return f"{year:04d}-{near:%m-%d}" if year > 0 else f"{1 - year:04d}-{near:%m-%d} BC"


def _far_timestamp(microseconds: int) -> str:
    days, rest = divmod(microseconds, 86_400 * _SECOND)
    day, _, era = _far_date(days).partition(" ")
    seconds, fraction = divmod(rest, _SECOND)
    clock = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    if fraction:
        clock += f".{fraction:06d}" if fraction % 1000 else f".{fraction // 1000:03d}"
    return f"{day} {clock}{' ' + era if era else ''}"


_ENCODERS: dict[str, Callable[[SqlType, pa.Array], pa.Array]] = {
    "bool": _boolean, "int2": _by_cast, "int4": _by_cast, "int8": _by_cast, "serial": _by_cast, "float4": _float, "float8": _float,
    "numeric": _numeric, "varchar": _same, "unknown": _same, "bytea": _bytea, "date": _date, "time": _time,
    "timestamp": _timestamp, "timestamptz": _timestamptz, "interval": _interval, "jsonb": _json, "list": _list, "struct": _struct,
    "map": _map, "int256": _int256,
}  # fmt: skip
