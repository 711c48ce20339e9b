"""How our physical types travel in the arrow-udf protocol (version 2), and back.

Most types are Arrow's own. `jsonb` and `numeric` are strings that an extension name marks on their field; `timestamptz` has
the zone UTC on the way (it is stored without). The mark is written as field metadata, so that nothing needs to be registered
with pyarrow, and it is read either way, because a process that imports `arrow_udf` has it registered.
"""

from __future__ import annotations

import pyarrow as pa

from engine.connectors.arrow_types import physical_type, rebuild
from engine.sql.numeric import parse_numeric, to_text
from engine.sql.numeric_arrow import key_array, numeric_keys
from engine.sql.types import SqlType

_EXTENSION_KEY = b"ARROW:extension:name"
_EXTENSIONS = {"jsonb": b"arrowudf.json", "numeric": b"arrowudf.decimal"}
_ARROW = {
    "bool": pa.bool_(), "int2": pa.int16(), "int4": pa.int32(), "int8": pa.int64(), "serial": pa.int64(), "float4": pa.float32(),
    "float8": pa.float64(), "varchar": pa.string(), "unknown": pa.string(), "bytea": pa.binary(), "date": pa.date32(),
    "time": pa.time64("us"), "timestamp": pa.timestamp("us"), "timestamptz": pa.timestamp("us", "UTC"),
    "interval": pa.month_day_nano_interval(), "jsonb": pa.string(), "numeric": pa.string(),
}  # fmt: skip


def protocol_field(name: str, type_: SqlType) -> pa.Field:
    """The Arrow field that carries `type_` in the protocol."""
    if type_.name == "list":
        assert type_.element is not None
        return pa.field(name, pa.list_(protocol_field("item", type_.element)))
    if type_.name == "struct":
        return pa.field(name, pa.struct([protocol_field(field, field_type) for field, field_type in type_.fields]))
    extension = _EXTENSIONS.get(type_.name)
    return pa.field(
        name, _ARROW[type_.name], metadata={_EXTENSION_KEY: extension, b"ARROW:extension:metadata": b""} if extension else None
    )


def describe_field(field: pa.Field) -> str:
    """A text that is equal for two fields if they mean the same, whatever their name, nullability or registration."""
    type_, extension = field.type, (field.metadata or {}).get(_EXTENSION_KEY, b"").decode()
    if isinstance(type_, pa.BaseExtensionType):
        type_, extension = type_.storage_type, type_.extension_name
    if extension:
        return str(extension)
    if pa.types.is_list(type_) or pa.types.is_large_list(type_):
        return f"list<{describe_field(type_.value_field)}>"
    if pa.types.is_struct(type_):
        return "struct<" + ", ".join(f"{field.name}: {describe_field(field)}" for field in type_) + ">"
    return str(type_)


def to_protocol(array: pa.Array, type_: SqlType) -> pa.Array:
    """Physical values as the protocol's."""
    return rebuild(array, type_, protocol_field("", type_).type, _leaf_to_protocol)


def from_protocol(array: pa.Array, type_: SqlType) -> pa.Array:
    """The protocol's values as physical ones.

    Raises:
        pa.ArrowInvalid: a value does not fit the type.
        ValueError: the nesting is another.
    """
    return rebuild(array, type_, physical_type(type_), _leaf_from_protocol)


def _leaf_to_protocol(array: pa.Array, type_: SqlType) -> pa.Array:
    return _plain_decimal_text(array) if type_.name == "numeric" else array.cast(_ARROW[type_.name])


def _leaf_from_protocol(array: pa.Array, type_: SqlType) -> pa.Array:
    if type_.name == "timestamptz":
        return array.cast(pa.timestamp("us", "UTC")).cast(pa.timestamp("us"))
    if type_.name == "numeric":
        return key_array(None if text is None else parse_numeric(text) for text in array.to_pylist())
    return array.cast(physical_type(type_))


def _plain_decimal_text(array: pa.Array) -> pa.Array:
    """Decimals as plain text. Arrow would write small ones with an exponent; decimals do not travel in bulk."""
    return pa.array([None if key is None else to_text(key) for key in numeric_keys(array)], pa.string())
