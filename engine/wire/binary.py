"""Binary format: Arrow columns to the bytes of cells, a whole column at a time.

Source: the `*_send` functions of PostgreSQL, as the documentation of each client library describes them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from engine.sql.errors import UnsupportedQuery
from engine.sql.numeric_arrow import numeric_decimals
from engine.sql.types import SqlType
from engine.wire.columns import (
    as_array,
    concatenate,
    fixed_width,
    integers,
    interval_parts,
    map_valid,
    null_like,
    physical,
    regroup,
    with_length,
)
from engine.wire.oids import column_oid
from engine.wire.text import encode_text
from engine.wire.values import EPOCH_DAYS, EPOCH_MICROSECONDS, decimal_to_binary, json_text

_ARRAY_HEADER = np.dtype([("dimensions", ">i4"), ("nulls", ">i4"), ("oid", ">u4"), ("length", ">i4"), ("lower", ">i4")])
_EMPTY_ARRAY_BYTES = 12
_INTERVAL = np.dtype([("microseconds", ">i8"), ("days", ">i4"), ("months", ">i4")])


def encode_binary(type_: SqlType, column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """The binary form of each value, NULL where the value is.

    Raises:
        pa.ArrowInvalid: the column's physical type cannot be read as `type_`.
        UnsupportedQuery: an array of arrays; it can be had in text format.
    """
    array = physical(type_, as_array(column))
    encoded = _ENCODERS[type_.name](type_, array)
    return encoded if pa.types.is_binary(encoded.type) else encoded.cast(pa.binary())


def _boolean(_: SqlType, array: pa.Array) -> pa.Array:
    return fixed_width(integers(array.cast(pa.uint8()), pa.uint8()), array)


def _number(dtype: str, arrow: pa.DataType) -> Callable[[SqlType, pa.Array], pa.Array]:
    def encode(_: SqlType, array: pa.Array) -> pa.Array:
        return fixed_width(integers(array, arrow).astype(dtype), array)

    return encode


def _numeric(_: SqlType, array: pa.Array) -> pa.Array:
    values = numeric_decimals(array)
    return pa.array([None if value is None else decimal_to_binary(value) for value in values], pa.binary())


def _same(_: SqlType, array: pa.Array) -> pa.Array:
    return array


def _date(_: SqlType, array: pa.Array) -> pa.Array:
    return fixed_width((integers(array, pa.int32()) - EPOCH_DAYS).astype(">i4"), array)


def _timestamp(_: SqlType, array: pa.Array) -> pa.Array:
    return fixed_width((integers(array, pa.int64()) - EPOCH_MICROSECONDS).astype(">i8"), array)


def _interval(_: SqlType, array: pa.Array) -> pa.Array:
    parts = interval_parts(array)
    wire = np.empty(len(parts), _INTERVAL)
    wire["microseconds"] = (
        np.trunc(parts["nanoseconds"] / 1000) if np.any(parts["nanoseconds"] % 1000) else parts["nanoseconds"] // 1000
    )
    wire["days"] = parts["days"]
    wire["months"] = parts["months"]
    return fixed_width(wire, array)


def _json(_: SqlType, array: pa.Array) -> pa.Array:
    return map_valid(array, lambda value: b"\x01" + json_text(str(value)).encode())


def _list(type_: SqlType, array: pa.Array) -> pa.Array:
    element = type_.element
    assert element is not None
    if element.element is not None:
        raise UnsupportedQuery("an array of arrays has no binary form here", fix="Ask for the column in text format.")
    values = array.flatten()
    cells = regroup(array, concatenate(with_length(encode_binary(element, values))), b"")
    counts = array.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    header = np.zeros(len(counts), _ARRAY_HEADER)
    header["dimensions"] = 1
    header["nulls"] = _holds_null(values, counts)
    header["oid"] = column_oid(element)
    header["length"] = counts
    header["lower"] = 1
    full = fixed_width(header, pa.nulls(0))
    if not np.all(counts):
        # An empty array has no dimension at all, so its header ends before the first one.
        header["dimensions"] = 0
        header["nulls"] = 0
        empty = np.frombuffer(header.tobytes(), np.dtype((np.void, header.itemsize)))
        short = pa.array([item.tobytes()[:_EMPTY_ARRAY_BYTES] for item in empty], pa.binary())
        full = pa.compute.if_else(pa.array(counts > 0), full, short)
    return null_like(array, concatenate([full, cells]))


def _holds_null(values: pa.Array, counts: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_] | bool:
    """For each list, whether one of its elements (they follow each other in `values`) is NULL."""
    if not values.null_count:
        return False
    before = np.concatenate([[0], np.cumsum(values.is_null().to_numpy(zero_copy_only=False))])
    ends = np.cumsum(counts)
    found: npt.NDArray[np.bool_] = before[ends] > before[ends - counts]
    return found


def _struct(type_: SqlType, array: pa.Array) -> pa.Array:
    columns: list[pa.Array | bytes] = [len(type_.fields).to_bytes(4, "big")]
    for (_, field), values in zip(type_.fields, array.flatten(), strict=True):
        columns += [column_oid(field).to_bytes(4, "big"), *with_length(encode_binary(field, values))]
    return null_like(array, concatenate(columns))


def _as_text(type_: SqlType, array: pa.Array) -> pa.Array:
    """RisingWave has no binary form of its own for these."""
    return encode_text(type_, array)


_int8 = _number(">i8", pa.int64())
_ENCODERS: dict[str, Callable[[SqlType, pa.Array], pa.Array]] = {
    "bool": _boolean, "int2": _number(">i2", pa.int16()), "int4": _number(">i4", pa.int32()), "int8": _int8, "serial": _int8,
    "float4": _number(">f4", pa.float32()), "float8": _number(">f8", pa.float64()), "numeric": _numeric, "varchar": _same,
    "unknown": _same, "bytea": _same, "date": _date, "time": _int8, "timestamp": _timestamp, "timestamptz": _timestamp,
    "interval": _interval, "jsonb": _json, "list": _list, "struct": _struct, "int256": _as_text, "map": _as_text,
}  # fmt: skip
