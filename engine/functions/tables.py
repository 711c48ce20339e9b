"""Set-returning functions: each is computed as one list, of which every element becomes a row.

A function whose rows have several columns gives a list of structs. Source: RisingWave documentation, "Set-returning functions",
"JSON functions and operators".
"""

from __future__ import annotations

from engine.functions.registry import FunctionTable
from engine.sql.expressions import Call, Expr
from engine.sql.types import JSONB, VARCHAR, SqlType, list_of, struct_of

_TABLE = FunctionTable()


def _numeric_series(rounded: str, step: str) -> str:
    """start + i * step for as many i as fit: up to the end itself, or (rounded up) below it."""
    steps = f"hr_numeric_int({rounded}(hr_numeric_divide(hr_numeric_subtract({{1}}, {{0}}), {step})))"
    stop = f"{steps} + 1" if rounded == "hr_numeric_floor" else steps
    value = f"hr_numeric_add({{0}}, hr_numeric_multiply({step}, hr_numeric_from_int(CAST(i AS HUGEINT))))"
    return f"list_transform(range(0, CAST({stop} AS BIGINT)), lambda i: {value})"


def _declare() -> None:
    t = _TABLE
    for name, stop in (("generate_series", "generate_series"), ("range", "range")):
        for kind, type_ in (("int4", "INTEGER"), ("int8", "BIGINT")):
            t.add(name, f"{kind}, {kind} -> {kind}[]", f"CAST({stop}({{0}}, {{1}}) AS {type_}[])")
            guarded = f"(CASE WHEN {{2}} = 0 THEN CAST([hr_fail('22023', 'step size cannot equal zero')] AS {type_}[]) ELSE CAST({stop}({{0}}, {{1}}, nullif({{2}}, 0)) AS {type_}[]) END)"
            t.add(name, f"{kind}, {kind}, {kind} -> {kind}[]", guarded)
        for kind in ("timestamp", "timestamptz"):
            t.add(name, f"{kind}, {kind}, interval -> {kind}[]", f"{stop}({{0}}, {{1}}, {{2}})")
        rounded = "hr_numeric_floor" if name == "generate_series" else "hr_numeric_ceil"
        for count, step in ((2, "hr_numeric_from_int(CAST(1 AS HUGEINT))"), (3, "{2}")):
            t.add(name, f"{', '.join(['numeric'] * count)} -> numeric[]", _numeric_series(rounded, step))
    t.add("unnest", "anyarray -> anyarray", "{0}")
    # The element is an array itself, which `set_call` says.
    t.add("regexp_matches", "varchar, varchar -> varchar[]", "hr_regexp_matches({0}, {1}, '')")
    t.add("regexp_matches", "varchar, varchar, varchar -> varchar[]", "hr_regexp_matches({0}, {1}, {2})")
    t.add("jsonb_array_elements", "jsonb -> jsonb[]", "json_extract({0}, '$[*]')")
    t.add("jsonb_array_elements_text", "jsonb -> varchar[]", "json_extract_string({0}, '$[*]')")
    t.add("jsonb_object_keys", "jsonb -> varchar[]", "list_sort(json_keys({0}))")
    t.add(
        "generate_subscripts",
        "anyarray, int4 -> int4[]",
        "CAST(CASE WHEN {1} = 1 THEN range(1, len({0}) + 1) END AS INTEGER[])",
    )
    t.add(
        "generate_subscripts",
        "anyarray, int4, bool -> int4[]",
        "CAST(CASE WHEN {1} <> 1 THEN NULL WHEN {2} THEN range(len({0}), 0, -1) ELSE range(1, len({0}) + 1) END AS INTEGER[])",
    )


_declare()
_MEMBER = "'$.\"' || replace(k, '\"', '\\\"') || '\"'"
_PAIR = f"list_transform(list_sort(json_keys({{0}})), lambda k: struct_pack(key := k, value := @({{0}}, {_MEMBER})))"
_WITH_FIELDS = {
    "jsonb_each": (_PAIR.replace("@", "json_extract"), JSONB),
    "jsonb_each_text": (_PAIR.replace("@", "json_extract_string"), VARCHAR),
}


def is_set_function(name: str) -> bool:
    """Whether it gives rows."""
    return name in _TABLE or name in _WITH_FIELDS


def resolve_set_function(name: str, types: list[SqlType], position: int | None) -> tuple[SqlType, ...]:
    """What the arguments are cast to.

    Raises:
        UndefinedFunction: there is no such function for these types.
    """
    if name in _WITH_FIELDS and len(types) == 1:
        return (JSONB,)
    return _TABLE.resolve(name, types, position).args


def set_call(name: str, args: tuple[Expr, ...], position: int | None) -> Call:
    """The list that holds the function's rows; the arguments have the types that `resolve_set_function` gave."""
    if name in _WITH_FIELDS:
        template, value = _WITH_FIELDS[name]
        return Call(list_of(struct_of(("key", VARCHAR), ("value", value))), name, args, template)
    found = _TABLE.resolve(name, [a.type for a in args], position)
    if name == "regexp_matches":
        return Call(list_of(found.returns), name, args, found.function.template)
    if name != "unnest":
        return Call(found.returns, name, args, found.function.template)
    template, element = "{0}", found.returns.element
    while element is not None and element.name == "list":
        template, element = f"flatten({template})", element.element
    assert element is not None
    return Call(list_of(element), name, args, template)


def signatures() -> dict[str, list[str]]:
    """As `FunctionTable.signatures`."""
    return _TABLE.signatures()
