"""DuckDB's errors in the words of SQL: a client sees PostgreSQL's SQLSTATE and our names of types, never DuckDB's text.

What a value causes is told (a text that is no number, an overflow, no memory). Anything else means that we sent DuckDB
something wrong: it is logged, and the client is told that the statement cannot be run.
"""

from __future__ import annotations

import logging
import re

import duckdb

from engine.functions.native import read_fault
from engine.plan.batch import MORE_THAN_ONE_ROW
from engine.sql.errors import QueryCanceled, SqlError

logger = logging.getLogger(__name__)

_TYPES = {
    "INT8": "smallint", "INT16": "smallint", "INT32": "integer", "INT64": "bigint", "INT128": "numeric", "UINT8": "smallint", "UINT16": "integer",
    "UINT32": "bigint", "UINT64": "numeric", "TINYINT": "smallint", "SMALLINT": "smallint", "INTEGER": "integer", "BIGINT": "bigint", "HUGEINT": "numeric",
    "FLOAT": "real", "DOUBLE": "double precision", "BOOL": "boolean", "BOOLEAN": "boolean", "DATE": "date", "TIME": "time", "TIMESTAMP": "timestamp",
    "INTERVAL": "interval", "BLOB": "bytea", "JSON": "jsonb", "VARCHAR": "character varying",
}  # fmt: skip
_NOT_OF_TYPE = re.compile(r"Could not convert string [\"'](?P<value>.*?)[\"'] to '?(?P<type>[A-Z]\w*)", re.DOTALL)
_FIELD = re.compile(r"(?:invalid|Invalid) (?P<type>date|time|timestamp) field format: \"(?P<value>.*?)\"", re.DOTALL)
_FIELD_RANGE = re.compile(r"(?P<type>date|time|timestamp) field value out of range: \"(?P<value>.*?)\"", re.DOTALL)
_OVERFLOW = re.compile(r"Overflow in \w+ of (?P<type>\w+)")
_TARGET = re.compile(r"(?:destination type|to type|range of|to) '?(?P<type>[A-Z]\w+)")


def to_sql_error(error: duckdb.Error) -> SqlError:
    """What the client is told."""
    fault = read_fault(str(error))
    if fault is not None:
        return SqlError(fault.what, sqlstate=fault.sqlstate)
    if isinstance(error, duckdb.InterruptException):
        return QueryCanceled("canceling statement due to user request")
    text = str(error).split("\nLINE ", 1)[0]
    known = _of_value(error, text)
    if known is not None:
        return known
    logger.error("the store refused a statement of ours", extra={"error": str(error)})
    return SqlError(
        "the engine cannot run this statement", sqlstate="XX000", fix="The server's log says why; simplify the statement."
    )


def _of_value(error: duckdb.Error, text: str) -> SqlError | None:
    if MORE_THAN_ONE_ROW in text:
        return SqlError(MORE_THAN_ONE_ROW, sqlstate="21000")
    if "ivision by zero" in text:
        return SqlError("division by zero", sqlstate="22012")
    if isinstance(error, duckdb.OutOfMemoryException):
        return SqlError("out of memory", sqlstate="53200")
    if (found := _NOT_OF_TYPE.search(text)) is not None:
        return SqlError(f"invalid input syntax for type {_shown(found['type'])}: `{found['value'][:200]}`", sqlstate="22P02")
    if (found := _FIELD.search(text)) is not None:
        return SqlError(f"invalid input syntax for type {found['type']}: `{found['value'][:200]}`", sqlstate="22007")
    if (found := _FIELD_RANGE.search(text)) is not None:
        return SqlError(f"{found['type']} out of range: `{found['value'][:200]}`", sqlstate="22008")
    if "alformed JSON" in text:
        return SqlError("invalid input syntax for type jsonb", sqlstate="22P02")
    if (found := _OVERFLOW.search(text)) is not None:
        return SqlError(f"{_shown(found['type'])} out of range", sqlstate="22003")
    if isinstance(error, duckdb.OutOfRangeException) or "out of range" in text:
        return SqlError(f"{_target(text, 'value')} out of range", sqlstate="22003")
    if isinstance(error, duckdb.ConversionException):
        if "nimplemented" in text or "nsupported" in text:
            return None
        return SqlError(f"a value cannot be converted to type {_target(text, 'asked for')}", sqlstate="22P02")
    if isinstance(error, duckdb.InvalidInputException) and "Python exception" not in text:
        return SqlError("an argument of a function is not one that it takes", sqlstate="22023")
    return None


def _target(text: str, otherwise: str) -> str:
    found = _TARGET.search(text)
    return _shown(found["type"]) if found is not None and found["type"] in _TYPES else otherwise


def _shown(duckdb_type: str) -> str:
    return _TYPES.get(duckdb_type, "that is asked for")
