"""Random scalar expressions, by type. Values are small, so that nothing overflows and floats are exact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from tests.property.engine.text import Col, Sql, fill, join_sql, same

T = TypeVar("T")
DOMAINS: dict[str, list[Any]] = {
    "int": [0, 1, 2, 3, -2],
    "big": [0, 1, 2, -1, 5],
    "float": [0.0, 0.5, 2.0, -1.25],
    "text": ["a", "b", "", "ab", "1"],
    "bool": [True, False],
    "time": ["2026-01-01 00:00:00", "2026-01-01 00:01:00", "2026-01-01 00:02:30", "2026-01-01 00:05:00", "2026-01-01 00:09:59"],
}
DUCKDB = {"int": "INTEGER", "big": "BIGINT", "float": "DOUBLE", "text": "VARCHAR", "bool": "BOOLEAN", "time": "TIMESTAMP"}


def literal(value: Any, kind: str) -> Sql:
    """A constant of exactly this type on both sides."""
    if value is None:
        return Sql(f"CAST(NULL AS {DUCKDB[kind]})", f"CAST(NULL AS {DUCKDB[kind]})")
    if kind == "text":
        return same(f"'{value}'")
    if kind == "time":
        return same(f"TIMESTAMP '{value}'")
    if kind == "bool":
        return same("true" if value else "false")
    if kind == "int":
        return same(f"({value})" if value < 0 else str(value))
    return same(f"CAST({value} AS {DUCKDB[kind]})")


class Scalars:
    """Draws expressions over the given columns.

    Args:
        draw: Hypothesis'.
        columns: (text, type) of what may be referred to.
    """

    def __init__(self, draw: DrawFn, columns: Sequence[tuple[Sql, str]]) -> None:
        self._draw = draw
        self._columns = list(columns)

    def pick(self, options: Sequence[T]) -> T:
        return self._draw(st.sampled_from(list(options)))

    def chance(self, one_in: int) -> bool:
        """False is what Hypothesis shrinks to."""
        return self._draw(st.integers(0, one_in - 1)) == one_in - 1

    def _likely(self, kinds: Sequence[str]) -> str:
        """A type that some column has, mostly: constants alone test little."""
        there = [kind for kind in kinds if any(type_ == kind for _, type_ in self._columns)]
        return self.pick(there) if there and not self.chance(6) else self.pick(kinds)

    def of(self, kind: str, depth: int = 2) -> Sql:
        """An expression of type `kind` that fails on no row."""
        own = [text for text, type_ in self._columns if type_ == kind]
        if own and (depth == 0 or not self.chance(3)):
            return self.pick(own)
        if depth == 0 or self.chance(4):
            value = self.pick([*DOMAINS[kind], None]) if self.chance(4) else self.pick(DOMAINS[kind])
            return literal(value, kind)
        if self.chance(3):
            return self._generic(kind, depth - 1)
        method: Sql = getattr(self, f"_{kind}")(depth - 1)
        return method

    def predicate(self, depth: int = 2) -> Sql:
        return self.of("bool", depth) if self.chance(6) else self._bool(depth)

    def any(self, kind: str, depth: int = 2) -> Sql:
        """As `of`, and now and then one that fails on some rows; only for the top of an expression, where TRY is exact."""
        if kind == "int" and self.chance(8):
            texts = [text for text, type_ in self._columns if type_ == "text"]
            if texts and self.chance(2):  # of a column: a constant that is no number is refused when the view is created
                return replace(fill("CAST({0} AS INTEGER)", self.pick(texts)), fallible=True)
            return replace(_divided(self.of("int", 1), self.of("int", 1), self.pick("/%")), fallible=True)
        return self.of(kind, depth)

    def condition(self, depth: int = 2) -> Sql:
        """A predicate that may fail on some rows."""
        if self.chance(10):
            return replace(fill("({0} > {1})", self.any("int", 1), self.of("int", 0)), fallible=True)
        return self.predicate(depth)

    def _generic(self, kind: str, depth: int) -> Sql:
        first, second = self.of(kind, depth), self.of(kind, depth)
        form = self.pick(["coalesce", "case", "nullif", "simple case", "greatest"])
        if form == "case":
            return fill("CASE WHEN {0} THEN {1} ELSE {2} END", self.of("bool", depth), first, second)
        if form == "simple case":
            other = self._likely(["int", "text"])
            operand, when = self.of(other, depth), literal(self.pick(DOMAINS[other]), other)
            return fill("CASE {0} WHEN {1} THEN {2} END", operand, when, first)
        if form == "greatest" and kind != "bool":
            return fill(self.pick(["greatest", "least"]) + "({0}, {1})", first, second)
        return fill(("nullif" if form == "nullif" else "coalesce") + "({0}, {1})", first, second)

    def _int(self, depth: int) -> Sql:
        form = self.pick(["arithmetic", "abs", "length", "divide", "from bool", "minute", "negate", "round"])
        if form == "arithmetic":
            return fill("({0} " + self.pick("+-*") + " {1})", self.of("int", depth), self.of("int", depth))
        if form == "divide":
            return _divided(self.of("int", depth), literal(self.pick([2, 3, -2]), "int"), self.pick("/%"))
        if form == "length":
            text = self.of("text", depth)
            return Sql(f"length({text.engine})", f"CAST(length({text.oracle}) AS INTEGER)")
        if form == "from bool":
            return fill("CAST({0} AS INTEGER)", self.of("bool", depth))
        if form == "minute":
            time = self.of("time", depth)
            return Sql(f"CAST(EXTRACT(MINUTE FROM {time.engine}) AS INTEGER)", f"CAST(minute({time.oracle}) AS INTEGER)")
        if form == "round":
            return fill("CAST({0} AS INTEGER)", self.of("float", depth))
        return fill("(- {0})" if form == "negate" else "abs({0})", self.of("int", depth))

    def _big(self, depth: int) -> Sql:
        if self.chance(2):
            return fill("CAST({0} AS BIGINT)", self.of("int", depth))
        return fill("({0} " + self.pick("+-") + " {1})", self.of("big", depth), self.of("int", depth))

    def _float(self, depth: int) -> Sql:
        if self.chance(2):
            return fill("CAST({0} AS DOUBLE PRECISION)", self.of("int", depth))
        return fill("({0} " + self.pick("+-*") + " {1})", self.of("float", depth), self.of("float", depth))

    def _text(self, depth: int) -> Sql:
        form = self.pick(["concatenate", "upper", "show", "substr", "show float"])
        if form == "concatenate":
            return fill("({0} || {1})", self.of("text", depth), self.of("text", depth))
        if form == "upper":
            return fill(self.pick(["upper", "lower"]) + "({0})", self.of("text", depth))
        if form == "substr":
            return fill("substr({0}, 1, " + self.pick("12") + ")", self.of("text", depth))
        if form == "show float":
            number = self.of("float", depth)
            shown = f"regexp_replace(CAST({number.oracle} AS VARCHAR), '\\.0$', '')"
            return Sql(f"CAST({number.engine} AS VARCHAR)", shown)
        return fill("CAST({0} AS VARCHAR)", self.of(self.pick(["int", "bool", "big"]), depth))

    def _time(self, depth: int) -> Sql:
        if self.chance(2):
            time = self.of("time", depth)
            return Sql(f"date_trunc('minute', {time.engine})", f"CAST(date_trunc('minute', {time.oracle}) AS TIMESTAMP)")
        return fill("({0} " + self.pick("+-") + " INTERVAL '90 seconds')", self.of("time", depth))

    def _bool(self, depth: int) -> Sql:
        below = max(depth - 1, 0)
        kind = self._likely(["int", "text", "big", "float", "time"])
        form = self.pick(["compare", "null", "in", "between", "and", "not", "distinct", "like", "truth"])
        if form == "compare":
            return fill("({0} " + self.pick(["=", "<", ">=", "<>"]) + " {1})", self.of(kind, below), self.of(kind, below))
        if form == "null":
            return fill("({0} IS " + self.pick(["NULL", "NOT NULL"]) + ")", self.of(kind, below))
        if form == "in":
            items = join_sql(", ", [self.of(kind, 0) for _ in range(2)])
            return fill("({0} " + self.pick(["IN", "NOT IN"]) + " ({1}))", self.of(kind, below), items)
        if form == "between":
            return fill("({0} BETWEEN {1} AND {2})", self.of(kind, below), self.of(kind, 0), self.of(kind, 0))
        if form == "and":
            return fill("({0} " + self.pick(["AND", "OR"]) + " {1})", self.of("bool", below), self.of("bool", below))
        if form == "distinct":
            word = self.pick(["IS DISTINCT FROM", "IS NOT DISTINCT FROM"])
            return fill("({0} " + word + " {1})", self.of(kind, below), self.of(kind, below))
        if form == "like":
            return fill("({0} LIKE '" + self.pick(["a%", "%b", "_", "%"]) + "')", self.of("text", below))
        if form == "truth":
            return fill("({0} IS " + self.pick(["TRUE", "NOT TRUE", "FALSE"]) + ")", self.of("bool", below))
        return fill("(NOT {0})", self.of("bool", below))


def _divided(a: Sql, b: Sql, sign: str) -> Sql:
    """Integer division truncates towards zero; the remainder has the dividend's sign."""
    oracle = f"CAST({a.oracle} // {b.oracle} AS INTEGER)" if sign == "/" else f"({a.oracle} % {b.oracle})"
    return Sql(f"({a.engine} {sign} {b.engine})", oracle)


def scalars_over(draw: DrawFn, alias: str, columns: Sequence[Col]) -> Scalars:
    """Expressions over the columns of one FROM item."""
    return Scalars(draw, [(same(f"{alias}.{c.name}"), c.type) for c in columns])
