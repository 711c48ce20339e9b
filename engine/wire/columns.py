"""Helpers over whole Arrow columns that both wire formats use.

Every encoder takes one `pa.Array` of a type's physical form and gives a `pa.Array` of the same length, type binary, NULL
where the value is: the bytes of each cell without its length.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from engine.sql.types import SqlType

_PHYSICAL = {
    "bool": pa.bool_(), "int2": pa.int16(), "int4": pa.int32(), "int8": pa.int64(), "serial": pa.int64(), "float4": pa.float32(),
    "float8": pa.float64(), "varchar": pa.string(), "unknown": pa.string(), "jsonb": pa.string(), "bytea": pa.binary(),
    "date": pa.date32(), "time": pa.time64("us"), "timestamp": pa.timestamp("us"), "timestamptz": pa.timestamp("us"),
    "interval": pa.month_day_nano_interval(), "numeric": pa.decimal128(38, 0), "int256": pa.binary(),
}  # fmt: skip


def arrow_type(type_: SqlType) -> pa.DataType:
    """The Arrow type of a column that DuckDB stores as `type_.duckdb`."""
    if type_.element is not None:
        return pa.list_(arrow_type(type_.element))
    if type_.name == "map":
        return pa.list_(arrow_type(type_.entries))
    if type_.name == "struct":
        return pa.struct([pa.field(name, arrow_type(field)) for name, field in type_.fields])
    return _PHYSICAL[type_.name]


def as_array(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """One contiguous array."""
    if isinstance(column, pa.ChunkedArray):
        return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    return column


def physical(type_: SqlType, array: pa.Array) -> pa.Array:
    """The array in the one physical form that encoders expect; numerics keep the scale or integer type they came with.

    Raises:
        pa.ArrowInvalid: a value does not fit the type that the column was announced with.
    """
    wanted = _PHYSICAL.get(type_.name)
    if wanted is None:
        if type_.name in ("list", "map") and not pa.types.is_list(array.type):
            return array.cast(pa.list_(array.type.value_type))
        return array
    if array.type == wanted:
        return array
    if type_.name == "numeric" and (pa.types.is_decimal(array.type) or pa.types.is_integer(array.type)):
        return array
    if pa.types.is_timestamp(array.type) and array.type.tz is not None:
        # A zoned timestamp holds UTC already; only the label is taken off.
        array = array.cast(pa.timestamp(array.type.unit, "UTC")).view(pa.int64()).view(pa.timestamp(array.type.unit))
    return array.cast(wanted)


def map_valid(array: pa.Array, convert: Callable[[object], bytes | str]) -> pa.Array:
    """The slow way, value by value, for what no kernel can do."""
    return pa.array([None if value is None else convert(value) for value in array.to_pylist()], pa.binary())


def replace_where(array: pa.Array, mask: pa.Array, convert: Callable[[int], str]) -> pa.Array:
    """Text array with the cells under the mask (NULL counts as false) replaced by `convert(position)`."""
    mask = pc.fill_null(mask, False)
    positions = np.flatnonzero(mask.to_numpy(zero_copy_only=False))
    if not len(positions):
        return array
    return pc.replace_with_mask(array, mask, pa.array([convert(int(at)) for at in positions], array.type))


def fixed_width(values: npt.NDArray[np.void] | npt.NDArray[np.generic], array: pa.Array) -> pa.Array:
    """Cells of equal width from a NumPy array of big-endian items, NULL where `array` is."""
    values = np.ascontiguousarray(values)
    width = values.dtype.itemsize
    cells = pa.Array.from_buffers(pa.binary(width), len(values), [None, pa.py_buffer(values)]).cast(pa.binary())
    return pc.if_else(array.is_valid(), cells, pa.scalar(None, pa.binary())) if array.null_count else cells


def integers(array: pa.Array, type_: pa.DataType) -> npt.NDArray[np.generic]:
    """The raw integers behind an array (dates, times, timestamps too), 0 where it is NULL."""
    raw = array.view(type_)
    values: npt.NDArray[np.generic] = pc.fill_null(raw, 0).to_numpy(zero_copy_only=False)
    return values


def lengths(array: pa.Array) -> npt.NDArray[np.int32]:
    """Bytes in each cell, -1 for NULL."""
    found: npt.NDArray[np.int32] = pc.fill_null(pc.binary_length(array), -1).to_numpy(zero_copy_only=False)
    return found


def with_length(array: pa.Array) -> list[pa.Array]:
    """The two columns that a cell is on the wire: int32 length (-1 for NULL), then its bytes."""
    return [fixed_width(lengths(array).astype(">i4"), pa.nulls(0)), array]


def concatenate(columns: Sequence[pa.Array | bytes]) -> pa.Array:
    """Join columns of binary row by row; NULL counts as empty."""
    return pc.binary_join_element_wise(*columns, b"", null_handling="replace", null_replacement=b"")


def regroup(array: pa.Array, cells: pa.Array, separator: bytes | str) -> pa.Array:
    """Join the cells that belong to each list of `array` (cells: one for each of `array.flatten()`, none NULL)."""
    counts = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
    offsets = np.zeros(len(counts) + 1, dtype=np.int32)
    np.cumsum(counts, out=offsets[1:])
    return pc.binary_join(pa.ListArray.from_arrays(pa.array(offsets), cells), separator)


def null_like(array: pa.Array, cells: pa.Array) -> pa.Array:
    """`cells`, NULL where `array` is."""
    return pc.if_else(array.is_valid(), cells, pa.scalar(None, cells.type)) if array.null_count else cells


def interval_parts(array: pa.Array) -> npt.NDArray[np.void]:
    """Months, days and nanoseconds of an interval column as a structured array; nonsense where it is NULL."""
    layout = np.dtype([("months", "<i4"), ("days", "<i4"), ("nanoseconds", "<i8")])
    buffer = array.buffers()[1]
    if buffer is None or not len(array):
        return np.zeros(len(array), layout)
    parts: npt.NDArray[np.void] = np.frombuffer(buffer, layout, count=len(array), offset=array.offset * layout.itemsize)
    return parts
