"""Small builders that several rules share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from engine.plan.algebra import Aggregate, Node, OutputColumn, Project, Subquery
from engine.sql.expressions import Call, Column, Expr, OuterColumn, transform, walk
from engine.sql.types import BOOL


def column(node: Node, index: int) -> Column:
    return Column(node.columns[index].type, index)


def all_columns(node: Node) -> list[Expr]:
    return [column(node, i) for i in range(len(node.columns))]


def extended(node: Node, exprs: Sequence[Expr], name: str = "?value?") -> Node:
    """The node with further columns behind its own."""
    if not exprs:
        return node
    columns = (*node.columns, *(OutputColumn(name, e.type) for e in exprs))
    return Project(columns, node, (*all_columns(node), *exprs))


def picked(node: Node, positions: Sequence[int]) -> Node:
    """Only these columns, in this order."""
    if list(positions) == list(range(len(node.columns))):
        return node
    return Project(tuple(node.columns[p] for p in positions), node, tuple(column(node, p) for p in positions))


def distinct(node: Node) -> Node:
    return Aggregate(node.columns, node, tuple(all_columns(node)), ())


def same(left: Expr, right: Expr) -> Expr:
    """Equality in which NULL equals NULL."""
    return Call(BOOL, "is not distinct from", (left, right), "({0} IS NOT DISTINCT FROM {1})")


def is_null(expr: Expr) -> Expr:
    return Call(BOOL, "is null", (expr,), "({0} IS NULL)")


def negation(expr: Expr) -> Expr:
    return Call(BOOL, "not", (expr,), "(NOT {0})")


def either(left: Expr, right: Expr) -> Expr:
    return Call(BOOL, "or", (left, right), "({0} OR {1})")


def both(left: Expr, right: Expr) -> Expr:
    return Call(BOOL, "and", (left, right), "({0} AND {1})")


def coalesced(expr: Expr, default: Expr) -> Expr:
    return Call(expr.type, "coalesce", (expr, default), "coalesce({0}, {1})")


def moved(expr: Expr, positions: Mapping[int, int] | int) -> Expr:
    """Column references moved by a map, or all by a distance."""

    def change(e: Expr) -> Expr | None:
        if not isinstance(e, Column):
            return None
        return Column(e.type, e.index + positions if isinstance(positions, int) else positions[e.index])

    return transform(expr, change)


def outer_columns(expr: Expr) -> set[int]:
    return {e.index for e in walk(expr) if isinstance(e, OuterColumn)}


def filled(expr: Expr, values: Mapping[int, Expr] | Sequence[Expr]) -> Expr:
    """Outer columns replaced by what they stand for."""
    return transform(expr, lambda e: values[e.index] if isinstance(e, OuterColumn) else None)


def has_subquery(exprs: Iterable[Expr]) -> bool:
    return any(isinstance(e, Subquery) for expr in exprs for e in walk(expr))
