"""Array functions and operators.

Source: RisingWave documentation, "Array functions and operators".
"""

from __future__ import annotations

from collections.abc import Callable

from engine.functions.casts import cell_of, interval_parts
from engine.functions.native import native
from engine.functions.registry import FunctionTable
from engine.sql.errors import TypeMismatch
from engine.sql.types import SqlType

Types = tuple[SqlType, ...]


@native("hr_array_join", "VARCHAR[]", "VARCHAR", "VARCHAR", returns="VARCHAR", nulls=True)
def _join(items: list[str | None] | None, separator: str | None, null: str | None) -> str | None:
    if items is None or separator is None:
        return None
    return separator.join(item if item is not None else null or "" for item in items if item is not None or null is not None)


@native("hr_array_dims", "BIGINT[]", returns="VARCHAR")
def _dims(sizes: list[int]) -> str | None:
    return "".join(f"[1:{size}]" for size in sizes) if sizes and sizes[0] else None


def _depth(type_: SqlType) -> int:
    depth = 0
    while type_.element is not None:
        type_, depth = type_.element, depth + 1
    return depth


def _sizes(type_: SqlType) -> list[str]:
    """Lengths of each dimension, as far as the first element goes."""
    sql, out = "{0}", []
    for _ in range(_depth(type_)):
        out.append(f"CAST(len({sql}) AS BIGINT)")
        sql = f"{sql}[1]"
    return out


def _to_string(null: str) -> Callable[[Types], str]:
    def write(types: Types) -> str:
        sql, element = "{0}", types[0].element
        assert element is not None
        while element.element is not None:
            sql, element = f"flatten({sql})", element.element
        return f"hr_array_join(list_transform({sql}, lambda x: {cell_of('x', element)}), {{1}}, {null})"

    return write


def _size_of(types: Types) -> str:
    sizes = _sizes(types[0])
    branches = " ".join(f"WHEN {i + 1} THEN CAST({size} AS INTEGER)" for i, size in enumerate(sizes))
    return f"(CASE {{1}} {branches} END)"


def _sum(types: Types) -> str:
    element = types[0].element
    assert element is not None
    if element.name == "interval":
        months, days, us = (f"list_sum(list_transform({{0}}, lambda x: {part}))" for part in interval_parts("x"))
        return (
            f"(to_months(CAST({months} AS INTEGER)) + to_days(CAST({days} AS INTEGER)) + to_microseconds(CAST({us} AS BIGINT)))"
        )
    return "hr_numeric_sum_list({0})" if element.name == "numeric" else f"CAST(list_sum({{0}}) AS {element.duckdb})"


def _flatten(types: Types) -> str:
    if types[0].element is None or types[0].element.name != "list":
        raise TypeMismatch(f"array_flatten takes an array of arrays, not `{types[0]}`", sqlstate="42883")
    return "flatten({0})"


def declare(t: FunctionTable) -> None:
    t.add("array", "anyelement... -> anyarray", "[{*}]")
    t.add("subscript", "anyarray, int4 -> anyelement", "(CASE WHEN {1} >= 1 THEN {0}[{1}] END)")
    t.add("subscript", "jsonb, varchar -> jsonb", "CAST(hr_json_get(CAST({0} AS VARCHAR), {1}) AS JSON)")
    t.add("subscript", "jsonb, int4 -> jsonb", "CAST(hr_json_at(CAST({0} AS VARCHAR), {1}) AS JSON)")
    t.add("slice", "anyarray, int4, int4 -> anyarray", "coalesce({0}[greatest({1}, 1):greatest({2}, 0)], {0}[1:0])")
    t.add("array_length", "anyarray -> int4", "CAST(len({0}) AS INTEGER)")
    t.add(
        "cardinality",
        "anyarray -> int4",
        lambda types: f"CAST(len({'flatten(' * (_depth(types[0]) - 1)}{{0}}{')' * (_depth(types[0]) - 1)}) AS INTEGER)",
    )
    t.add("array_length", "anyarray, int4 -> int4", _size_of)
    t.add("array_upper", "anyarray, int4 -> int4", lambda types: f"nullif({_size_of(types)}, 0)")
    t.add("array_lower", "anyarray, int4 -> int4", lambda types: f"(CASE WHEN {_size_of(types)} > 0 THEN 1 END)")
    t.add("array_ndims", "anyarray -> int4", lambda types: f"(CASE WHEN len({{0}}) > 0 THEN {_depth(types[0])} END)")
    t.add("array_dims", "anyarray -> varchar", lambda types: f"hr_array_dims([{', '.join(_sizes(types[0]))}])")
    t.add("||", "anyarray, anyarray -> anyarray", "list_concat({0}, {1})")
    t.add("||", "anyarray, anyelement -> anyarray", "list_append({0}, {1})")
    t.add("||", "anyelement, anyarray -> anyarray", "list_prepend({0}, {1})")
    t.add("array_append", "anyarray, anyelement -> anyarray", "list_append({0}, {1})")
    t.add("array_prepend", "anyelement, anyarray -> anyarray", "list_prepend({0}, {1})")
    t.add("array_cat", "anyarray, anyarray -> anyarray", "list_concat({0}, {1})")
    t.add("array_cat", "anyarray, anyelement -> anyarray", "list_append({0}, {1})")
    t.add("array_cat", "anyelement, anyarray -> anyarray", "list_prepend({0}, {1})")
    same = "list_filter({0}, lambda x: x IS DISTINCT FROM {1})"
    t.add("array_remove", "anyarray, anyelement -> anyarray", same)
    t.add(
        "array_replace",
        "anyarray, anyelement, anyelement -> anyarray",
        "list_transform({0}, lambda x: CASE WHEN x IS NOT DISTINCT FROM {1} THEN {2} ELSE x END)",
    )
    places = "list_filter(list_transform({0}, lambda x, i: CASE WHEN x IS NOT DISTINCT FROM {1} THEN CAST(i AS INTEGER) END), lambda p: p IS NOT NULL)"
    t.add("array_position", "anyarray, anyelement -> int4", f"{places}[1]")
    t.add("array_position", "anyarray, anyelement, int4 -> int4", f"list_filter({places}, lambda p: p >= {{2}})[1]")
    t.add("array_positions", "anyarray, anyelement -> int4[]", places)
    t.add(
        "array_distinct",
        "anyarray -> anyarray",
        "list_filter({0}, lambda x, i: len(list_filter({0}[1:i - 1], lambda y: y IS NOT DISTINCT FROM x)) = 0)",
    )
    t.add("array_sort", "anyarray -> anyarray", "list_sort({0}, 'ASC', 'NULLS LAST')")
    t.add("array_reverse", "anyarray -> anyarray", "list_reverse({0})")
    t.add("array_min", "anyarray -> anyelement", "list_min({0})")
    t.add("array_max", "anyarray -> anyelement", "list_max({0})")
    t.add("array_sum", "anyarray -> anyelement", _sum)
    t.add("array_sum", "int2[] -> int8", "CAST(list_sum({0}) AS BIGINT)")
    t.add("array_sum", "int4[] -> int8", "CAST(list_sum({0}) AS BIGINT)")
    t.add("array_sum", "int8[] -> numeric", "hr_numeric_from_int(CAST(list_sum({0}) AS HUGEINT))")
    t.add("array_flatten", "anyarray -> anyelement", _flatten)
    for name in ("array_to_string", "array_join"):
        t.add(name, "anyarray, varchar -> varchar", _to_string("NULL"))
        t.add(name, "anyarray, varchar, varchar -> varchar", _to_string("{2}"))
    trim = "(CASE WHEN {1} < 0 OR {1} > len({0}) THEN CAST(CAST(hr_fail('2202E', 'number of elements to trim must be between 0 and the length') AS VARCHAR) AS VARCHAR[])"
    t.add(
        "trim_array",
        "anyarray, int4 -> anyarray",
        lambda types: f"{trim.replace('VARCHAR[])', types[0].duckdb + ')')} ELSE {{0}}[1:len({{0}}) - {{1}}] END)",
    )
    t.add("array_contains", "anyarray, anyelement -> bool", "list_contains({0}, {1})")
    for name in ("@>", "array_contains"):
        t.add(name, "anyarray, anyarray -> bool", "list_has_all({0}, {1})")
    for name in ("<@", "array_contained"):
        t.add(name, "anyarray, anyarray -> bool", "list_has_all({1}, {0})")
    for name in ("&&", "array_overlaps"):
        t.add(name, "anyarray, anyarray -> bool", "list_has_any({0}, {1})")
