"""PostgreSQL's type oids: from a client's oid to our type, and what a column is announced as."""

from __future__ import annotations

from engine.sql.types import SCALARS, UNKNOWN, VARCHAR, SqlType, list_of

TEXT_OID = 25
JSON_OID = 114

_SIZES = {
    "bool": 1, "int2": 2, "int4": 4, "int8": 8, "serial": 8, "float4": 4, "float8": 8, "date": 4, "time": 8, "timestamp": 8,
    "timestamptz": 8, "interval": 16,
}  # fmt: skip
_BY_OID: dict[int, SqlType] = {type_.oid: type_ for type_ in SCALARS} | {
    list_of(type_).oid: list_of(type_) for type_ in SCALARS
}
_BY_NAME = {type_.name: type_ for type_ in SCALARS}
# Types that we do not have and that mean the same to a client: text, name, bpchar, json, oid, and arrays of text.
_BY_OID |= {
    TEXT_OID: VARCHAR, 19: VARCHAR, 1042: VARCHAR, JSON_OID: _BY_NAME["jsonb"], 26: _BY_NAME["int8"], 1009: list_of(VARCHAR),
    1028: list_of(_BY_NAME["int8"]), 1002: list_of(VARCHAR), 1014: list_of(VARCHAR), 199: list_of(_BY_NAME["jsonb"]),
}  # fmt: skip


def type_of(oid: int) -> SqlType | None:
    """The type that a client means by an oid; None for 0, `unknown` and types that we do not have."""
    return _BY_OID.get(oid)


def innermost(type_: SqlType) -> SqlType:
    """The element type of an array, however deep."""
    while type_.element is not None:
        type_ = type_.element
    return type_


def column_oid(type_: SqlType) -> int:
    """The oid that a column is announced with: an array of arrays is the array type of its innermost element."""
    if type_.element is not None:
        element = innermost(type_)
        return list_of(VARCHAR if element == UNKNOWN else element).oid
    return VARCHAR.oid if type_ == UNKNOWN else type_.oid


def column_size(type_: SqlType) -> int:
    """`typlen` of PostgreSQL: bytes of the type, -1 when it varies."""
    return _SIZES.get(type_.name, -1)
