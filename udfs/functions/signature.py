"""Type hints as SQL types and as the Arrow types of the arrow-udf protocol.

    bool BOOLEAN          int BIGINT            float DOUBLE PRECISION      str VARCHAR       bytes BYTEA
    Decimal NUMERIC       date DATE             datetime TIMESTAMP WITH TIME ZONE             time TIME
    dict, Any JSONB       list[T] T[]           a NamedTuple or dataclass STRUCT<...>
    Annotated[int, Sql("SMALLINT")]             another SQL type of the same Python type

`T | None` says that the function wants to see NULL; without it a NULL argument gives a NULL result, as a strict function does.

Source: the type table of RisingWave's documentation of external Python functions.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import pyarrow as pa
from arrow_udf import DecimalType, JsonType

from core.errors import InvalidInputError


@dataclass(frozen=True)
class Sql:
    """Names the SQL type of an annotated hint, e.g. `Annotated[int, Sql("SMALLINT")]`."""

    name: str


@dataclass(frozen=True)
class ValueType:
    """One type, in SQL and in Arrow; `nullable` says that the function wants to see NULL."""

    sql: str
    arrow: pa.DataType
    nullable: bool = False


@dataclass(frozen=True)
class Signature:
    """Names and types of the arguments, and the type of the result."""

    names: tuple[str, ...]
    arguments: tuple[ValueType, ...]
    result: ValueType


_SCALARS: dict[Any, ValueType] = {
    bool: ValueType("BOOLEAN", pa.bool_()),
    int: ValueType("BIGINT", pa.int64()),
    float: ValueType("DOUBLE PRECISION", pa.float64()),
    str: ValueType("VARCHAR", pa.string()),
    bytes: ValueType("BYTEA", pa.binary()),
    Decimal: ValueType("NUMERIC", DecimalType()),
    dt.date: ValueType("DATE", pa.date32()),
    dt.time: ValueType("TIME", pa.time64("us")),
    dt.datetime: ValueType("TIMESTAMP WITH TIME ZONE", pa.timestamp("us", "UTC")),
    dict: ValueType("JSONB", JsonType()),
    Any: ValueType("JSONB", JsonType()),
}
_NAMED: dict[str, ValueType] = {
    found.sql: found
    for found in (
        *_SCALARS.values(),
        ValueType("SMALLINT", pa.int16()),
        ValueType("INT", pa.int32()),
        ValueType("REAL", pa.float32()),
        ValueType("TIMESTAMP", pa.timestamp("us")),
    )
}
_FIX = "Use bool, int, float, str, bytes, Decimal, date, time, datetime, dict, list[T], a NamedTuple or a dataclass of these."


def read_signature(function: Callable[..., Any], where: str) -> Signature:
    """The signature that a function's hints say.

    Raises:
        InvalidInputError: a hint is missing, or says nothing in SQL.
    """
    try:
        hints = get_type_hints(function, include_extras=True)
    except NameError as problem:
        raise InvalidInputError(f"a type hint cannot be resolved: {problem}", where=where, fix=_FIX) from problem
    code = function.__code__
    if code.co_flags & 0x0C:  # *args, **kwargs
        raise InvalidInputError("a function with * or ** arguments has no SQL signature", where=where, fix="Name each one.")
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    missing = [name for name in (*names, "return") if name not in hints]
    if missing:
        raise InvalidInputError(f"`{missing[0]}` has no type hint", where=where, fix=_FIX)
    arguments = tuple(value_type(hints[name], f"{where}, argument {name}") for name in names)
    return Signature(tuple(names), arguments, value_type(hints["return"], f"{where}, result"))


def value_type(hint: Any, where: str) -> ValueType:  # Any: a hint may be anything
    """The type that one hint says; raises InvalidInputError."""
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        others = [each for each in get_args(hint) if each is not types.NoneType]
        if len(others) != 1:
            raise InvalidInputError(f"`{hint}` is no one type", where=where, fix=_FIX)
        return dataclasses.replace(value_type(others[0], where), nullable=True)
    if origin is Annotated:
        return _named(hint, where)
    if origin is dict:
        return _SCALARS[dict]
    if origin is list:
        element = value_type(get_args(hint)[0], where)
        return ValueType(f"{element.sql}[]", pa.list_(element.arrow))
    if hint in _SCALARS:
        return _SCALARS[hint]
    fields = _fields(hint)
    if fields is None:
        raise InvalidInputError(f"`{getattr(hint, '__name__', hint)}` has no SQL type", where=where, fix=_FIX)
    inner = {name: value_type(each, f"{where}.{name}") for name, each in fields.items()}
    told = ", ".join(f"{name} {each.sql}" for name, each in inner.items())
    return ValueType(f"STRUCT<{told}>", pa.struct([(name, each.arrow) for name, each in inner.items()]))


def _named(hint: Any, where: str) -> ValueType:  # Any: as above
    base, *notes = get_args(hint)
    named = next((note for note in notes if isinstance(note, Sql)), None)
    if named is None:
        return value_type(base, where)
    found = _NAMED.get(named.name.upper())
    if found is None:
        raise InvalidInputError(f"`{named.name}` is no SQL type here", where=where, fix=f"Known: {', '.join(sorted(_NAMED))}.")
    return found


def _fields(hint: Any) -> dict[str, Any] | None:  # Any: as above
    if dataclasses.is_dataclass(hint) or (isinstance(hint, type) and issubclass(hint, tuple) and hasattr(hint, "_fields")):
        return typing.get_type_hints(hint, include_extras=True)
    return None
