"""Rows to JSON objects, as RisingWave's `ENCODE JSON` writes them into Kafka.

    numeric      a string, so that no digit is lost         bytea       base64
    timestamptz  `2018-01-26T18:30:09.453000Z` (by default)  interval   ISO 8601, `P1Y2M3DT4H5M6S`
    timestamp    milliseconds since 1970                    date        days since the year 1 began (1970-01-01 is 719163)
    time         milliseconds since midnight, whole seconds  jsonb      a string that holds JSON (by default)

All other scalars are JSON's own; NaN and infinity, which JSON lacks, become null. Keys are in column order.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from engine.sql.numeric import to_text
from engine.sql.numeric_arrow import numeric_keys
from engine.sql.types import SqlType

TIMESTAMPTZ_MODES = ("utc_string", "utc_without_suffix", "micro", "milli")
JSONB_MODES = ("string", "dynamic")
_DAYS_BEFORE_1970 = 719163
_MICROS_PER_SECOND = 1_000_000


class JsonEncoder:
    """Encodes some columns of a sink's rows.

    Args:
        fields: name and type of the columns that are written, in this order.
        timestamptz_mode: option `timestamptz.handling.mode`, one of `TIMESTAMPTZ_MODES`.
        jsonb_mode: option `jsonb.handling.mode`, one of `JSONB_MODES`.
    """

    def __init__(
        self, fields: Sequence[tuple[str, SqlType]], *, timestamptz_mode: str = "utc_string", jsonb_mode: str = "string"
    ) -> None:
        self._fields = tuple(fields)
        self._leaves: Mapping[str, _Leaf] = _LEAVES | {
            "timestamptz": _TIMESTAMPTZ[timestamptz_mode],
            "jsonb": _JSONB[jsonb_mode],
        }

    def encode(self, rows: pa.Table) -> list[bytes]:
        """One JSON object for each row; `rows` holds physical values and may have more columns than are written."""
        names = [name for name, _ in self._fields]
        columns = [self._values(_one_array(rows.column(name)), type_) for name, type_ in self._fields]
        write = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
        if not columns:
            return [b"{}"] * rows.num_rows
        return [write(dict(zip(names, row, strict=True))).encode() for row in zip(*columns, strict=True)]

    def _values(self, array: pa.Array, type_: SqlType) -> list[Any]:
        """What `json` writes for each value; None for NULL."""
        if isinstance(array, pa.ExtensionArray):
            array = array.storage
        if type_.name == "list":
            assert type_.element is not None
            inner = self._values(array.flatten(), type_.element)
            lengths = pc.list_value_length(array).to_pylist()
            values, begin = [], 0
            for length in lengths:
                values.append(None if length is None else inner[begin : begin + length])
                begin += length or 0
            return values
        if type_.name == "struct":
            names = [name for name, _ in type_.fields]
            fields = [self._values(child, field) for child, (_, field) in zip(array.flatten(), type_.fields, strict=True)]
            valid = array.is_valid().to_pylist()
            packed = zip(valid, *fields, strict=True)
            return [dict(zip(names, row, strict=True)) if there else None for there, *row in packed]
        return self._leaves[type_.name](array)


_Leaf = Callable[[pa.Array], list[Any]]


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    return (
        column.chunk(0)
        if column.num_chunks == 1
        else pa.concat_arrays(column.chunks)
        if column.num_chunks
        else pa.array([], column.type)
    )


def _each(function: Callable[[Any], Any]) -> _Leaf:
    return lambda array: [None if value is None else function(value) for value in array.to_pylist()]


def _as_is(array: pa.Array) -> list[Any]:
    values: list[Any] = array.to_pylist()
    return values


def _floats(array: pa.Array) -> list[Any]:
    return [value if value is None or math.isfinite(value) else None for value in array.to_pylist()]


def _integers(type_: pa.DataType, change: Callable[[int], int]) -> _Leaf:
    return lambda array: [None if value is None else change(value) for value in array.cast(type_).cast(pa.int64()).to_pylist()]


def _instant_text(form: str) -> _Leaf:
    # Seconds are written with the six digits of the unit.
    return lambda array: list(pc.strftime(array.cast(pa.timestamp("us")), format=form).to_pylist())


def _days(array: pa.Array) -> list[Any]:
    days = array.cast(pa.date32()).cast(pa.int32()).to_pylist()
    return [None if value is None else value + _DAYS_BEFORE_1970 for value in days]


def _iso_interval(value: Any) -> str:
    """`value` is (months, days, nanoseconds); each part carries its own sign."""
    months, days, nanoseconds = value
    minus = "-" if nanoseconds < 0 else ""
    seconds, micros = divmod(abs(nanoseconds) // 1000, _MICROS_PER_SECOND)
    hours, minutes, seconds = seconds // 3600, seconds // 60 % 60, seconds % 60
    fraction = f".{micros:06d}".rstrip("0") if micros else ""
    parts = ((hours, f"{hours}H"), (minutes, f"{minutes}M"), (seconds + micros, f"{seconds}{fraction}S"))
    clock = "".join((minus if size else "") + text for size, text in parts)
    before = -1 if months < 0 else 1
    return f"P{before * (abs(months) // 12)}Y{before * (abs(months) % 12)}M{days}DT{clock}"


_MICROS = pa.timestamp("us")
_TIMESTAMPTZ: Mapping[str, _Leaf] = {
    "utc_string": _instant_text("%Y-%m-%dT%H:%M:%SZ"),
    "utc_without_suffix": _instant_text("%Y-%m-%d %H:%M:%S"),
    "micro": _integers(_MICROS, lambda micros: micros),
    "milli": _integers(_MICROS, lambda micros: micros // 1000),
}
_JSONB: Mapping[str, _Leaf] = {"string": _as_is, "dynamic": _each(json.loads)}
_LEAVES: dict[str, _Leaf] = {
    **dict.fromkeys(("bool", "int2", "int4", "int8", "serial", "varchar", "unknown"), _as_is),
    **dict.fromkeys(("float4", "float8"), _floats),
    "numeric": lambda array: [None if key is None else to_text(key) for key in numeric_keys(array)],
    "bytea": _each(lambda value: base64.b64encode(value).decode()),
    "timestamp": _integers(_MICROS, lambda micros: micros // 1000),
    "date": _days,
    "time": _integers(pa.time64("us"), lambda micros: micros // _MICROS_PER_SECOND * 1000),
    "interval": _each(_iso_interval),
}
