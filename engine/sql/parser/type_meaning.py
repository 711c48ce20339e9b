"""Type names to `SqlType`.

RisingWave takes neither a length for character types nor a precision and scale for `numeric`, and has no `char`, `json`,
`uuid` or `time with time zone`; each is refused with what to write instead.

Source: RisingWave documentation, "Overview of data types".
"""

from __future__ import annotations

from typing import Final

from sqlglot import exp

from engine.sql import types
from engine.sql.errors import InvalidDefinition, UndefinedObject, UnsupportedQuery
from engine.sql.parser.stream import TokenStream
from engine.sql.parser.type_syntax import SCALARS, DType, type_name
from engine.sql.types import SqlType

_SCALARS: Final = {
    DType.BOOLEAN: types.BOOL, DType.SMALLINT: types.INT2, DType.INT: types.INT4, DType.BIGINT: types.INT8,
    DType.DECIMAL: types.NUMERIC, DType.FLOAT: types.FLOAT4, DType.DOUBLE: types.FLOAT8, DType.VARCHAR: types.VARCHAR,
    DType.TEXT: types.VARCHAR, DType.VARBINARY: types.BYTEA, DType.DATE: types.DATE, DType.TIME: types.TIME,
    DType.TIMESTAMP: types.TIMESTAMP, DType.TIMESTAMPTZ: types.TIMESTAMPTZ, DType.INTERVAL: types.INTERVAL,
    DType.JSONB: types.JSONB, DType.INT256: types.INT256, DType.SERIAL: types.SERIAL, DType.UNKNOWN: types.UNKNOWN,
}  # fmt: skip

_REFUSED: Final = {
    DType.CHAR: ("CHAR is not supported", "Use VARCHAR."),
    DType.JSON: ("type json is not supported", "Use jsonb."),
    DType.UUID: ("type uuid is not supported", "Use varchar."),
    DType.XML: ("type xml is not supported", "Use varchar."),
    DType.TIMETZ: ("time with time zone is not supported", "Use time, or timestamp with time zone."),
    DType.VECTOR: ("type vector is not supported by the embedded engine yet", "Use real[]."),
    DType.VARIANT: ("type variant is not supported by the embedded engine yet", "Use jsonb."),
    DType.BIGSERIAL: ("type bigserial is not supported", "Use serial, which is 64 bits wide."),
    DType.SMALLSERIAL: ("type smallserial is not supported", "Use serial."),
}
_LENGTH: Final = {
    DType.VARCHAR: "Leave the length out.",
    DType.DECIMAL: "Leave precision and scale out: numeric keeps each value's own scale, up to 28 digits.",
}

# Types of PostgreSQL's catalogs, which clients write in casts; the catalogs here hold integers and texts.
_CLIENTS_NAMES: Final = {"oid": types.INT4, "xid": types.INT4, "name": types.VARCHAR, "char": types.VARCHAR}


def parse_type(written: exp.DataType | str) -> SqlType:
    """The type that a name stands for.

    Args:
        written: what `type_name` of the parser returned, or its text, e.g. `"double precision[]"`.

    Raises:
        SqlSyntaxError: the text is no type name.
        UndefinedObject: there is no such type.
        UnsupportedQuery: RisingWave or the embedded engine has not got it, or takes no length or precision.
    """
    if isinstance(written, str):
        stream = TokenStream(written)
        written = type_name(stream)
        if not stream.at_end:
            raise stream.error()
    position = written.meta.get("position")
    kind = written.this
    if kind == DType.ARRAY:
        return types.list_of(parse_type(written.expressions[0]))
    if kind == DType.STRUCT:
        return types.struct_of(*((field.name, parse_type(field.args["kind"])) for field in written.expressions))
    if kind == DType.MAP:
        return _map(parse_type(written.expressions[0]), parse_type(written.expressions[1]), position)
    if kind == DType.USERDEFINED:
        return _qualified(str(written.args["kind"]), position)
    if kind in _REFUSED:
        what, fix = _REFUSED[kind]
        raise UnsupportedQuery(what, position=position, fix=fix)
    if written.expressions:
        raise UnsupportedQuery(
            f"`{written.sql(dialect='postgres')}` is not supported: the type takes no parameter",
            position=position,
            fix=_LENGTH.get(kind, "Leave the precision out: it is always microseconds."),
        )
    return _SCALARS[kind]


def _map(key: SqlType, value: SqlType, position: int | None) -> SqlType:
    if key not in (types.VARCHAR, types.INT2, types.INT4, types.INT8):
        raise InvalidDefinition(
            f"invalid map key type: {key}",
            position=position,
            fix="A key is a varchar, smallint, integer or bigint.",
            sqlstate="42804",
        )
    return types.map_of(key, value)


def _qualified(name: str, position: int | None) -> SqlType:
    """`pg_catalog.int4` is a built-in type; any other qualified or unknown name does not exist."""
    schema, _, bare = name.rpartition(".")
    if schema in ("", "pg_catalog") and bare in _CLIENTS_NAMES:
        return _CLIENTS_NAMES[bare]
    if schema == "pg_catalog" and SCALARS.get(bare) in _SCALARS:
        return _SCALARS[SCALARS[bare]]
    raise UndefinedObject(f'type "{name}" does not exist', position=position)
