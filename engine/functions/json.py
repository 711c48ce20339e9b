"""jsonb."""

from __future__ import annotations

import json
from typing import Any

from engine.functions.casts import render_cast
from engine.functions.native import NUMERIC, ValueFault, native
from engine.sql import numeric
from engine.sql.types import VARCHAR, SqlType


def read_json(text: str) -> Any:  # any JSON value
    """Raises ValueFault: 22P02, the text is no JSON."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueFault("22P02", f'invalid input syntax for type json: "{text}"') from error


def write_json(value: object) -> str:
    """The normal form: sorted keys, a space after `:` and `,`."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


@native("hr_json", "VARCHAR", returns="VARCHAR")
def _json(text: str) -> str:
    return write_json(read_json(text))


native("hr_json_text", "VARCHAR", returns="VARCHAR")(_json)


@native("hr_json_boolean", "VARCHAR", returns="BOOLEAN")
def _json_boolean(text: str) -> bool:
    value = read_json(text)
    if not isinstance(value, bool):
        raise ValueFault("22023", f"cannot cast jsonb {_kind(value)} to type boolean")
    return value


@native("hr_json_numeric", "VARCHAR", "VARCHAR", returns=NUMERIC)
def _json_numeric(text: str, type_: str) -> int:
    value = json.loads(text, parse_float=str)
    if isinstance(value, bool) or (not isinstance(value, int) and not (isinstance(value, str) and text[:1] != '"')):
        raise ValueFault("22023", f"cannot cast jsonb {_kind(value)} to type {type_}")
    return numeric.parse_numeric(str(value))


def _kind(value: object) -> str:
    names = {bool: "boolean", int: "number", float: "number", str: "string", list: "array", dict: "object"}
    return names.get(type(value), "null")


def json_of(sql: str, type_: SqlType) -> str:
    """DuckDB SQL (VARCHAR) of a value as jsonb text."""
    if type_.name == "jsonb":
        return f"CAST({sql} AS VARCHAR)"
    if type_.name == "bool" or type_.name in ("int2", "int4", "int8", "serial"):
        return f"CAST({sql} AS VARCHAR)"
    if type_.name in ("float4", "float8", "numeric"):
        return f"hr_json_number({render_cast(sql, type_, VARCHAR)})"
    if type_.name == "list":
        assert type_.element is not None
        inner = json_of("x", type_.element)
        return f"hr_json_array(list_transform({sql}, lambda x: {inner}))"
    if type_.name == "struct":
        names = ", ".join("'" + name.replace("'", "''") + "'" for name, _ in type_.fields)
        cells = ", ".join(json_of(f"struct_extract({sql}, '{name}')", field) for name, field in type_.fields)
        return f"(CASE WHEN {sql} IS NOT NULL THEN hr_json_object([{names}], [{cells}]) END)"
    if type_.name in ("timestamp", "timestamptz"):
        return f"hr_json_string(replace({render_cast(sql, type_, VARCHAR)}, ' ', 'T'))"
    return f"hr_json_string({render_cast(sql, type_, VARCHAR)})"


@native("hr_json_string", "VARCHAR", returns="VARCHAR")
def _json_string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


@native("hr_json_number", "VARCHAR", returns="VARCHAR")
def _json_number(text: str) -> str:
    """NaN and infinity, which JSON lacks, become null."""
    return "null" if text.lstrip("-")[:1] in ("N", "I") else text


@native("hr_json_array", "VARCHAR[]", returns="VARCHAR")
def _json_array(items: list[str | None]) -> str:
    return "[" + ", ".join("null" if item is None else item for item in items) + "]"


@native("hr_json_object", "VARCHAR[]", "VARCHAR[]", returns="VARCHAR")
def _json_object(keys: list[str | None], values: list[str | None]) -> str:
    pairs: dict[str, str] = {}
    for key, value in zip(keys, values, strict=True):
        if key is None:
            raise ValueFault("22004", "field name must not be null")
        pairs[key] = "null" if value is None else value
    return "{" + ", ".join(f"{json.dumps(key, ensure_ascii=False)}: {pairs[key]}" for key in sorted(pairs)) + "}"
