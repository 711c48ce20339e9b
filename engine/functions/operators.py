"""Arithmetic on integers and floats, bits, comparison, logic and the conditional expressions.

Source: RisingWave documentation, "Mathematical", "Comparison", "Logical" and "Conditional" functions and operators.
"""

from __future__ import annotations

from engine.functions.registry import FunctionTable

_TYPES = {"int2": "SMALLINT", "int4": "INTEGER", "int8": "BIGINT", "float4": "FLOAT", "float8": "DOUBLE"}
_INTEGERS = ("int2", "int4", "int8")
_BITS = {"int2": 16, "int4": 32, "int8": 64}
_LEFT = "(CAST({0} AS HUGEINT) * (CAST(1 AS HUGEINT) << {1}))"


def _shifted(number: str, shift: str) -> str:
    """A shift by as many places as the type has bits, or by fewer than none, is refused; what falls off at the left is gone."""
    bits = _BITS[number]
    wrapped = f"(({shift} % {1 << bits} + {3 << (bits - 1)}) % {1 << bits} - {1 << (bits - 1)})" if shift == _LEFT else shift
    refused = f"CAST(hr_fail('22003', 'numeric field overflow: a shift is by 0 to {bits - 1} bits') AS {_TYPES[number]})"
    return f"(CASE WHEN {{1}} BETWEEN 0 AND {bits - 1} THEN CAST({wrapped} AS {_TYPES[number]}) WHEN {{0}} IS NOT NULL AND {{1}} IS NOT NULL THEN {refused} END)"


def declare(t: FunctionTable) -> None:
    for number, type_ in _TYPES.items():
        pair = f"{number}, {number} -> {number}"
        zero = f"CASE WHEN {{1}} = 0 THEN CAST(hr_fail('22012', 'division by zero') AS {type_}) ELSE"
        for sign in ("+", "-", "*"):
            t.add(sign, pair, f"({{0}} {sign} {{1}})")
        divide = "//" if number in _INTEGERS else "/"
        t.add("/", pair, f"({zero} CAST({{0}} {divide} {{1}} AS {type_}) END)")
        t.add("%", pair, f"({zero} CAST({{0}} % {{1}} AS {type_}) END)")
        # DuckDB makes a HUGEINT of the negated smallest constant; subtracted from zero it overflows, as it must.
        t.add("neg", f"{number} -> {number}", f"(CAST(0 AS {type_}) - {{0}})" if number in _INTEGERS else "(-{0})")
        t.add("abs", f"{number} -> {number}", "abs({0})")
    # As wide as its wider side, with which an integer or a numeric beside a real goes as well.
    for pair in ("float4, float8", "float8, float4"):
        for sign in ("+", "-", "*", "/"):
            zero = (
                "CASE WHEN {1} = 0 THEN CAST(hr_fail('22012', 'division by zero') AS DOUBLE) ELSE"
                if sign == "/"
                else "CASE WHEN true THEN"
            )
            t.add(sign, f"{pair} -> float8", f"({zero} CAST({{0}} AS DOUBLE) {sign} CAST({{1}} AS DOUBLE) END)")
        for sign in ("=", "<>", "<", "<=", ">", ">="):
            t.add(sign, f"{pair} -> bool", f"(CAST({{0}} AS DOUBLE) {sign} CAST({{1}} AS DOUBLE))")
    for number in _INTEGERS:
        for sign, template in (("&", "({0} & {1})"), ("|", "({0} | {1})"), ("#", "xor({0}, {1})")):
            t.add(sign, f"{number}, {number} -> {number}", template)
        for count in ("int2", "int4"):
            t.add("<<", f"{number}, {count} -> {number}", _shifted(number, _LEFT))
            t.add(">>", f"{number}, {count} -> {number}", _shifted(number, "({0} >> {1})"))
        t.add("~", f"{number} -> {number}", "(~{0})")
    for sign in ("=", "<>", "<", "<=", ">", ">="):
        for type_ in (*_TYPES, "varchar", "bool", "bytea", "date", "time", "timestamp", "timestamptz", "interval"):
            t.add(sign, f"{type_}, {type_} -> bool", f"({{0}} {sign} {{1}})")
        t.add(sign, "jsonb, jsonb -> bool", f"(CAST({{0}} AS VARCHAR) {sign} CAST({{1}} AS VARCHAR))")
        t.add(sign, "anyelement, anyelement -> bool", f"({{0}} {sign} {{1}})")
    t.add("and", "bool, bool -> bool", "({0} AND {1})")
    t.add("or", "bool, bool -> bool", "({0} OR {1})")
    t.add("not", "bool -> bool", "(NOT {0})")
    t.add("is null", "any -> bool", "({0} IS NULL)")
    t.add("is distinct from", "anyelement, anyelement -> bool", "({0} IS DISTINCT FROM {1})")
    t.add("is not distinct from", "anyelement, anyelement -> bool", "({0} IS NOT DISTINCT FROM {1})")
    t.add("is true", "bool -> bool", "({0} IS TRUE)")
    t.add("is false", "bool -> bool", "({0} IS FALSE)")
    t.add("coalesce", "anyelement, anyelement... -> anyelement", "coalesce({*})")
    t.add("nullif", "anyelement, anyelement -> anyelement", "nullif({0}, {1})")
    t.add("greatest", "anyelement, anyelement... -> anyelement", "greatest({*})")
    t.add("least", "anyelement, anyelement... -> anyelement", "least({*})")
