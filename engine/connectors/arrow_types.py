"""Arrow types of our physical values, and the walk through lists and structs that every conversion shares."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc

from engine.sql.types import SqlType

_PHYSICAL = {
    "bool": pa.bool_(), "int2": pa.int16(), "int4": pa.int32(), "int8": pa.int64(), "serial": pa.int64(), "float4": pa.float32(),
    "float8": pa.float64(), "varchar": pa.string(), "unknown": pa.string(), "bytea": pa.binary(), "date": pa.date32(),
    "time": pa.time64("us"), "timestamp": pa.timestamp("us"), "timestamptz": pa.timestamp("us"),
    "interval": pa.month_day_nano_interval(), "jsonb": pa.string(), "numeric": pa.decimal128(38, 0), "int256": pa.binary(),
}  # fmt: skip


def physical_type(type_: SqlType) -> pa.DataType:
    """The Arrow type of `SqlType.duckdb`."""
    return nested_type(type_, lambda scalar: _PHYSICAL[scalar.name])


def nested_type(type_: SqlType, scalar: Callable[[SqlType], pa.DataType]) -> pa.DataType:
    """The Arrow type of `type_`, given those of its scalars."""
    if type_.name == "list":
        assert type_.element is not None
        return pa.list_(nested_type(type_.element, scalar))
    if type_.name == "struct":
        return pa.struct([(name, nested_type(field, scalar)) for name, field in type_.fields])
    if type_.name == "map":
        return pa.list_(nested_type(type_.entries, scalar))
    return scalar(type_)


def rebuild(array: pa.Array, type_: SqlType, target: pa.DataType, leaf: Callable[[pa.Array, SqlType], pa.Array]) -> pa.Array:
    """Apply `leaf` to all scalars inside `array`, and put them together again as `target`; nulls and lengths stay.

    Args:
        array: values of `type_`; extension arrays are read by their storage.
        leaf: gets scalars of the type it is told and returns what `target` has in their place.
    """
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if type_.name == "list":
        assert type_.element is not None
        lists = array.cast(pa.list_(array.type.value_type)) if pa.types.is_large_list(array.type) else array
        # `flatten` skips what null lists hide, so the offsets are counted again.
        return _list_of(rebuild(lists.flatten(), type_.element, target.value_type, leaf), lists, target)
    if type_.name == "struct":
        children = [
            rebuild(child, field, target.field(i).type, leaf)
            for i, (child, (_, field)) in enumerate(zip(array.flatten(), type_.fields, strict=True))
        ]
        return pa.StructArray.from_arrays(children, fields=list(target), mask=array.is_null())
    return leaf(array, type_)


def _list_of(values: pa.Array, like: pa.Array, target: pa.DataType) -> pa.Array:
    """`values` in lists as long, and as null, as those of `like`."""
    ends = pc.cumulative_sum(pc.fill_null(pc.list_value_length(like), 0)).cast(pa.int32())
    offsets = pa.concat_arrays([pa.array([0], pa.int32()), ends])
    return pa.ListArray.from_arrays(offsets, values, type=target, mask=like.is_null())
