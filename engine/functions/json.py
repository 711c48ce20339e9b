"""jsonb."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from engine.functions.casts import render_cast
from engine.functions.native import NUMERIC, ValueFault, native
from engine.functions.registry import FunctionTable
from engine.sql import numeric
from engine.sql.expressions import Call, Literal
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
    if type_.name == "map":
        keys, values = f"list_transform({sql}, lambda x: CAST(x.key AS VARCHAR))", json_of("x.value", type_.fields[1][1])
        return f"hr_json_object({keys}, list_transform({sql}, lambda x: {values}))"
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


# Operators and functions


def _plain(value: object) -> str | None:
    """A value as `->>` shows it: strings without quotes, null as NULL."""
    if value is None:
        return None
    return value if isinstance(value, str) else write_json(value)


def _key(document: object, key: str) -> tuple[bool, object]:
    return (True, document[key]) if isinstance(document, dict) and key in document else (False, None)


def _index(document: object, at: int) -> tuple[bool, object]:
    return (True, document[at]) if isinstance(document, list) and -len(document) <= at < len(document) else (False, None)


def _walk(document: object, path: list[str | None]) -> tuple[bool, object]:
    found = True
    for step in path:
        if step is None:
            return False, None
        if isinstance(document, list):
            if not step.lstrip("-").isdigit():
                return False, None
            found, document = _index(document, int(step))
        else:
            found, document = _key(document, step)
        if not found:
            return False, None
    return found, document


@native("hr_json_get", "VARCHAR", "VARCHAR", returns="VARCHAR")
def _get(text: str, key: str) -> str | None:
    found, value = _key(json.loads(text), key)
    return write_json(value) if found else None


@native("hr_json_at", "VARCHAR", "BIGINT", returns="VARCHAR")
def _at(text: str, at: int) -> str | None:
    found, value = _index(json.loads(text), at)
    return write_json(value) if found else None


@native("hr_json_get_text", "VARCHAR", "VARCHAR", returns="VARCHAR")
def _get_text(text: str, key: str) -> str | None:
    return _plain(_key(json.loads(text), key)[1])


@native("hr_json_plain", "VARCHAR", returns="VARCHAR")
def _plain_text(text: str) -> str | None:
    return _plain(json.loads(text))


@native("hr_json_at_text", "VARCHAR", "BIGINT", returns="VARCHAR")
def _at_text(text: str, at: int) -> str | None:
    return _plain(_index(json.loads(text), at)[1])


@native("hr_json_path", "VARCHAR", "VARCHAR[]", returns="VARCHAR")
def _path(text: str, path: list[str | None]) -> str | None:
    found, value = _walk(json.loads(text), path)
    return write_json(value) if found else None


@native("hr_json_path_text", "VARCHAR", "VARCHAR[]", returns="VARCHAR")
def _path_text(text: str, path: list[str | None]) -> str | None:
    return _plain(_walk(json.loads(text), path)[1])


@native("hr_json_exists", "VARCHAR", "VARCHAR[]", "BOOLEAN", returns="BOOLEAN")
def _exists(text: str, keys: list[str | None], every: bool) -> bool:
    document = json.loads(text)
    strings = [item for item in document if isinstance(item, str)] if isinstance(document, list) else document
    inside = [
        strings == key if isinstance(strings, str) else isinstance(strings, list | dict) and key in strings
        for key in keys
        if key is not None
    ]
    return all(inside) if every else any(inside)


def contains(left: object, right: object, top: bool = True) -> bool:
    """PostgreSQL's containment of jsonb (8.14.3)."""
    if isinstance(left, dict) and isinstance(right, dict):
        return all(key in left and contains(left[key], value, False) for key, value in right.items())
    if isinstance(left, list):
        if isinstance(right, list):
            return all(any(contains(item, wanted, False) for item in left) for wanted in right)
        return top and not isinstance(right, dict) and any(contains(item, right, False) for item in left)
    return (type(left) is type(right) and left == right) or (_number(left) and _number(right) and left == right)


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


@native("hr_json_contains", "VARCHAR", "VARCHAR", returns="BOOLEAN")
def _contains(left: str, right: str) -> bool:
    return contains(json.loads(left), json.loads(right))


@native("hr_json_concat", "VARCHAR", "VARCHAR", returns="VARCHAR")
def _concat(left: str, right: str) -> str:
    a, b = json.loads(left), json.loads(right)
    if isinstance(a, dict) and isinstance(b, dict):
        return write_json(a | b)
    return write_json((a if isinstance(a, list) else [a]) + (b if isinstance(b, list) else [b]))


@native("hr_json_delete", "VARCHAR", "VARCHAR[]", returns="VARCHAR")
def _delete(text: str, keys: list[str | None]) -> str:
    document = json.loads(text)
    if isinstance(document, dict):
        return write_json({key: value for key, value in document.items() if key not in keys})
    if isinstance(document, list):
        return write_json([item for item in document if not (isinstance(item, str) and item in keys)])
    raise ValueFault("22023", "cannot delete from scalar")


@native("hr_json_delete_at", "VARCHAR", "BIGINT", returns="VARCHAR")
def _delete_at(text: str, at: int) -> str:
    document = json.loads(text)
    if not isinstance(document, list):
        raise ValueFault(
            "22023", f"cannot delete from {'object using integer index' if isinstance(document, dict) else 'scalar'}"
        )
    if -len(document) <= at < len(document):
        del document[at]
    return write_json(document)


@native("hr_json_delete_path", "VARCHAR", "VARCHAR[]", returns="VARCHAR")
def _delete_path(text: str, path: list[str | None]) -> str:
    document = json.loads(text)
    if not isinstance(document, dict | list):
        raise ValueFault("22023", "cannot delete path in scalar")
    if path:
        found, holder = _walk(document, path[:-1])
        last = path[-1]
        if found and last is not None:
            if isinstance(holder, dict):
                holder.pop(last, None)
            elif isinstance(holder, list) and last.lstrip("-").isdigit() and -len(holder) <= int(last) < len(holder):
                del holder[int(last)]
    return write_json(document)


@native("hr_json_set", "VARCHAR", "VARCHAR[]", "VARCHAR", "BOOLEAN", returns="VARCHAR")
def _set(text: str, path: list[str | None], new: str, create: bool) -> str:
    document, value = json.loads(text), json.loads(new)
    if not isinstance(document, dict | list):
        raise ValueFault("22023", "cannot set path in scalar")
    if not path:
        return write_json(document)
    found, holder = _walk(document, path[:-1])
    last = path[-1]
    if found and last is not None:
        if isinstance(holder, dict) and (create or last in holder):
            holder[last] = value
        elif isinstance(holder, list) and last.lstrip("-").isdigit():
            at = int(last)
            if -len(holder) <= at < len(holder):
                holder[at] = value
            elif create:
                holder.insert(0 if at < 0 else len(holder), value)
    return write_json(document)


@native("hr_json_strip_nulls", "VARCHAR", returns="VARCHAR")
def _strip_nulls(text: str) -> str:
    def strip(value: object) -> object:
        if isinstance(value, dict):
            return {key: strip(item) for key, item in value.items() if item is not None}
        return [strip(item) for item in value] if isinstance(value, list) else value

    return write_json(strip(json.loads(text)))


@native("hr_json_pretty", "VARCHAR", returns="VARCHAR")
def _pretty(text: str) -> str:
    return json.dumps(json.loads(text), indent=4, sort_keys=True, ensure_ascii=False)


@native("hr_json_typeof", "VARCHAR", returns="VARCHAR")
def _typeof(text: str) -> str:
    return _kind(json.loads(text))


@native("hr_json_array_length", "VARCHAR", returns="INTEGER")
def _array_length(text: str) -> int:
    document = json.loads(text)
    if not isinstance(document, list):
        raise ValueFault("22023", f"cannot get array length of a {'non-array' if isinstance(document, dict) else 'scalar'}")
    return len(document)


@native("hr_json_is", "VARCHAR", "VARCHAR", returns="BOOLEAN")
def _is_json(text: str, kind: str) -> bool:
    try:
        document = json.loads(text)
    except ValueError:
        return False
    kinds = {"OBJECT": dict, "ARRAY": list}
    if kind == "SCALAR":
        return not isinstance(document, dict | list)
    return kind not in kinds or isinstance(document, kinds[kind])


@native("hr_json_from_pairs", "VARCHAR[]", returns="VARCHAR")
def _from_pairs(items: list[str | None]) -> str:
    if len(items) % 2:
        raise ValueFault("2202E", "array must have even number of elements")
    return _from_lists(items[::2], items[1::2])


@native("hr_json_from_lists", "VARCHAR[]", "VARCHAR[]", returns="VARCHAR")
def _from_lists(keys: list[str | None], values: list[str | None]) -> str:
    if len(keys) != len(values):
        raise ValueFault("2202E", "mismatched array dimensions")
    if None in keys:
        raise ValueFault("22004", "null value not allowed for object key")
    return write_json(dict(zip(keys, values, strict=True)))


def _build_object(types: tuple[SqlType, ...]) -> str:
    if len(types) % 2:
        raise ValueFault("22023", "argument list must have even number of elements")
    keys = ", ".join(render_cast(f"{{{i}}}", types[i], VARCHAR) for i in range(0, len(types), 2))
    values = ", ".join(json_of(f"{{{i}}}", types[i]) for i in range(1, len(types), 2))
    return f"CAST(hr_json_object(CAST([{keys}] AS VARCHAR[]), CAST([{values}] AS VARCHAR[])) AS JSON)"


def _build_object_of_array(types: tuple[SqlType, ...]) -> str:
    element = types[0].element
    assert element is not None
    keys = f"list_transform({{0}}[1:len({{0}}):2], lambda x: {render_cast('x', element, VARCHAR)})"
    values = f"list_transform({{0}}[2:len({{0}}):2], lambda x: {json_of('x', element)})"
    odd = "CAST(hr_fail('22023', 'argument list must have even number of elements') AS VARCHAR)"
    return f"CAST(CASE WHEN len({{0}}) % 2 = 1 THEN {odd} ELSE hr_json_object({keys}, {values}) END AS JSON)"


def _build_array(types: tuple[SqlType, ...]) -> str:
    values = ", ".join(json_of(f"{{{i}}}", type_) for i, type_ in enumerate(types))
    return f"CAST(hr_json_array(CAST([{values}] AS VARCHAR[])) AS JSON)"


def _extract(function: str) -> Callable[[tuple[SqlType, ...]], str]:
    def write(types: tuple[SqlType, ...]) -> str:
        call = f"{function}(CAST({{0}} AS VARCHAR), CAST([{', '.join(f'{{{i}}}' for i in range(1, len(types)))}] AS VARCHAR[]))"
        return call if function.endswith("text") else f"CAST({call} AS JSON)"

    return write


# Members by name are read by DuckDB itself wherever it gives the same text as the normal form: Python costs 10 us a value. The
# lambda is there to write its argument once: `a -> 'b' -> 'c' ->> 'd'` would grow with every step, and so would its planning.
_ODD_KEY = """({1} = '' OR contains({1}, '"') OR contains({1}, '*') OR contains({1}, '\\'))"""
_PATH = f"""CASE WHEN {_ODD_KEY} THEN '$' ELSE '$."' || {{1}} || '"' END"""
# A number is written without an exponent by both, or it is for Python.
_IN_DOUBT = (
    "json_type(hr_j) IN ('OBJECT', 'ARRAY') OR (json_type(hr_j) NOT IN ('VARCHAR', 'UBIGINT', 'BIGINT', 'BOOLEAN', 'NULL')"
    " AND NOT abs(TRY_CAST(json_extract_string(hr_j, '$') AS DOUBLE)) BETWEEN 0.0001 AND 1e15)"
)
_ESCAPED = "json_type(hr_j) = 'VARCHAR' AND contains(CAST(hr_j AS VARCHAR), '\\')"
_PLAIN = (
    f"list_transform([{{member}}], lambda hr_j: CASE WHEN {_IN_DOUBT} THEN hr_json_plain(CAST(hr_j AS VARCHAR))"
    " ELSE json_extract_string(hr_j, '$') END)[1]"
)
_NORMAL = (
    f"list_transform([{{member}}], lambda hr_j: CASE WHEN {_IN_DOUBT} OR ({_ESCAPED}) THEN CAST(hr_json(CAST(hr_j AS VARCHAR)) AS JSON)"
    " ELSE hr_j END)[1]"
)
_NORMAL_START, _NORMAL_END = _NORMAL.split("{member}")
_GET_TEXT = f"(CASE WHEN {_ODD_KEY} THEN hr_json_get_text(CAST({{0}} AS VARCHAR), {{1}}) ELSE {_PLAIN.format(member=f'json_extract({{0}}, {_PATH})')} END)"
_GET = f"(CASE WHEN {_ODD_KEY} THEN CAST(hr_json_get(CAST({{0}} AS VARCHAR), {{1}}) AS JSON) ELSE {_NORMAL.format(member=f'json_extract({{0}}, {_PATH})')} END)"


def with_known_key(call: Call) -> Call:
    """`document -> key` and `->>` for a constant key, in short.

    What the document is if it is such a call itself need not be brought into normal form: only a part of it is read.
    """
    if call.name not in ("->", "->>") or len(call.args) != 2:
        return call
    document, key = call.args
    if not isinstance(key, Literal) or not isinstance(key.value, str) or key.value == "" or set(key.value) & set('"*\\{}'):
        return call
    if isinstance(document, Call) and document.name == "->" and document.template.endswith(_NORMAL_END):
        document = replace(document, template=document.template.removeprefix(_NORMAL_START).removesuffix(_NORMAL_END))
    path = "$." + '"' + key.value.replace("'", "''") + '"'
    form = _PLAIN if call.name == "->>" else _NORMAL
    return replace(call, args=(document, key), template=form.format(member=f"json_extract({{0}}, '{path}')"))


def declare(t: FunctionTable) -> None:
    document = "CAST({0} AS VARCHAR)"
    other = "CAST({1} AS VARCHAR)"
    for name, at, path in (("->", "at", "#>"), ("->>", "at_text", "#>>")):
        result = "varchar" if name == "->>" else "jsonb"
        open_, close = ("", "") if name == "->>" else ("CAST(", " AS JSON)")
        t.add(name, f"jsonb, varchar -> {result}", _GET_TEXT if name == "->>" else _GET)
        t.add(name, f"jsonb, int4 -> {result}", f"{open_}hr_json_{at}({document}, {{1}}){close}")
        t.add(
            path,
            f"jsonb, varchar[] -> {result}",
            f"{open_}hr_json_path{'_text' if close == '' else ''}({document}, {{1}}){close}",
        )
    t.add("jsonb_extract_path", "jsonb, varchar... -> jsonb", _extract("hr_json_path"))
    t.add("jsonb_extract_path_text", "jsonb, varchar... -> varchar", _extract("hr_json_path_text"))
    for name in ("?", "jsonb_exists"):
        t.add(name, "jsonb, varchar -> bool", f"hr_json_exists({document}, [{{1}}], true)")
    for name, every in (("?|", "false"), ("jsonb_exists_any", "false"), ("?&", "true"), ("jsonb_exists_all", "true")):
        t.add(name, "jsonb, varchar[] -> bool", f"hr_json_exists({document}, {{1}}, {every})")
    for name in ("@>", "jsonb_contains"):
        t.add(name, "jsonb, jsonb -> bool", f"hr_json_contains({document}, {other})")
    for name in ("<@", "jsonb_contained"):
        t.add(name, "jsonb, jsonb -> bool", f"hr_json_contains({other}, {document})")
    for name in ("||", "jsonb_concat"):
        t.add(name, "jsonb, jsonb -> jsonb", f"CAST(hr_json_concat({document}, {other}) AS JSON)")
    t.add("-", "jsonb, varchar -> jsonb", f"CAST(hr_json_delete({document}, [{{1}}]) AS JSON)")
    t.add("-", "jsonb, varchar[] -> jsonb", f"CAST(hr_json_delete({document}, {{1}}) AS JSON)")
    t.add("-", "jsonb, int4 -> jsonb", f"CAST(hr_json_delete_at({document}, {{1}}) AS JSON)")
    t.add("#-", "jsonb, varchar[] -> jsonb", f"CAST(hr_json_delete_path({document}, {{1}}) AS JSON)")
    new = "CAST({2} AS VARCHAR)"
    t.add("jsonb_set", "jsonb, varchar[], jsonb -> jsonb", f"CAST(hr_json_set({document}, {{1}}, {new}, true) AS JSON)")
    t.add("jsonb_set", "jsonb, varchar[], jsonb, bool -> jsonb", f"CAST(hr_json_set({document}, {{1}}, {new}, {{3}}) AS JSON)")
    t.add("jsonb_strip_nulls", "jsonb -> jsonb", f"CAST(hr_json_strip_nulls({document}) AS JSON)")
    t.add("jsonb_pretty", "jsonb -> varchar", f"hr_json_pretty({document})")
    t.add("jsonb_typeof", "jsonb -> varchar", f"hr_json_typeof({document})")
    t.add("jsonb_array_length", "jsonb -> int4", f"hr_json_array_length({document})")
    t.add("jsonb_build_object", "any... -> jsonb", _build_object)
    t.add("jsonb_build_array", "any... -> jsonb", _build_array)
    t.add("jsonb_build_array", "-> jsonb", "CAST('[]' AS JSON)")
    t.add("jsonb_build_object variadic", "anyarray -> jsonb", _build_object_of_array)
    t.add("jsonb_to_array", "jsonb -> jsonb[]", "json_extract({0}, '$[*]')")
    t.add("jsonb_object", "varchar[] -> jsonb", "CAST(hr_json_from_pairs({0}) AS JSON)")
    t.add("jsonb_object", "varchar[], varchar[] -> jsonb", "CAST(hr_json_from_lists({0}, {1}) AS JSON)")
    t.add("to_jsonb", "any -> jsonb", lambda types: f"CAST({json_of('{0}', types[0])} AS JSON)")
    t.add("is json", "varchar, varchar -> bool", "hr_json_is({0}, {1})")
