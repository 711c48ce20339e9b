"""The same SQL twice: in RisingWave's dialect for the engine, and in DuckDB's own for the oracle.

The generator writes both texts by itself; nothing here imports the engine's parser, binder or translator.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

ORDERABLE = ("int", "big", "float", "text", "bool", "time")
"""Types whose values are exactly equal on both sides; `opaque` ones (averages, deviations, lists) are only carried along."""


@dataclass(frozen=True)
class Sql:
    """An expression or a query, twice. `fallible`: some row may raise, and then counts as NULL (see `lenient`)."""

    engine: str
    oracle: str
    fallible: bool = False


@dataclass(frozen=True)
class Col:
    name: str
    type: str


@dataclass(frozen=True)
class Rel:
    """A relation that a query may read.

    Attributes:
        item: a FROM item without alias: a name, or a query in parentheses.
        columns: the visible ones.
        unique: names of columns whose values identify a row; None if rows may repeat.
        key_order: the engine's stream key in its order, where the documentation fixes it (a table's primary key).
        named: the engine's text is a plain name, so that TUMBLE can take it.
    """

    item: Sql
    columns: tuple[Col, ...]
    unique: frozenset[str] | None = None
    key_order: tuple[str, ...] = ()
    named: bool = False

    def of_type(self, *types: str) -> list[Col]:
        return [c for c in self.columns if c.type in types]

    @property
    def orderable(self) -> list[Col]:
        return self.of_type(*ORDERABLE)


def same(text: str) -> Sql:
    return Sql(text, text)


def fill(template: str, *parts: Sql) -> Sql:
    """`template` with `{0}`, `{1}` ... replaced in both texts."""
    return Sql(
        template.format(*(p.engine for p in parts)),
        template.format(*(p.oracle for p in parts)),
        any(p.fallible for p in parts),
    )


def join_sql(separator: str, parts: Sequence[Sql]) -> Sql:
    return Sql(separator.join(p.engine for p in parts), separator.join(p.oracle for p in parts), any(p.fallible for p in parts))


def lenient(expr: Sql) -> Sql:
    """How a streaming job evaluates: a row on which the expression fails has NULL there."""
    return replace(expr, oracle=f"TRY({expr.oracle})", fallible=False) if expr.fallible else expr


def order_item(column: Sql, descending: bool) -> Sql:
    """One ORDER BY key. PostgreSQL: NULL is greater than everything, so it comes last ascending, first descending."""
    direction, nulls = ("DESC", "FIRST") if descending else ("ASC", "LAST")
    return Sql(f"{column.engine} {direction}" if descending else column.engine, f"{column.oracle} {direction} NULLS {nulls}")
