"""A view must not stand still because of one row: where an expression fails on it, its value is NULL there.

Projections, filters and aggregates render their expressions so. This rule does it for what joins and window functions compute, part
by part, so that `a.s::int = b.k` stays a key that can be looked up. For views only: a query that fails on a row is refused.

Source: RisingWave documentation, "Error handling": streaming jobs put NULL for a failed expression.
"""

from __future__ import annotations

from dataclasses import replace

from engine.plan.algebra import GroupTopN, Join, Node, Over, TopN
from engine.plan.traversal import map_expressions, with_inputs
from engine.sql.expressions import Call, Expr, conjunction, conjuncts, fallible, lenient


def tolerate_bad_rows(node: Node) -> Node:
    node = with_inputs(node, tuple(tolerate_bad_rows(below) for below in node.inputs()))
    if isinstance(node, Join) and node.condition is not None:
        return replace(node, condition=conjunction([_condition(part) for part in conjuncts(node.condition)]))
    if isinstance(node, (Over, GroupTopN, TopN)):
        return map_expressions(node, _arguments)
    return node


_COMPARISONS = frozenset({"=", "<", "<=", ">", ">=", "<>"})
_TIMES = frozenset({"timestamp", "timestamptz"})


def _attempt(expr: Expr) -> Expr:
    return lenient(expr) if _may_fail(expr) else expr


def _may_fail(expr: Expr) -> bool:
    # `ts - INTERVAL '1 hour'` stays readable for whoever derives bounds from it; it fails only at the end of the calendar.
    if isinstance(expr, Call) and expr.name in ("+", "-") and expr.type.name in _TIMES:
        return any(_may_fail(arg) for arg in expr.args)
    return fallible(expr)


def _condition(part: Expr) -> Expr:
    if isinstance(part, Call) and part.name in _COMPARISONS:
        return part.replace_children(tuple(_attempt(side) for side in part.args))
    return _attempt(part)


def _arguments(call: Expr) -> Expr:
    """A window call's arguments, partition, order and condition; a plain sort key is a column."""
    return call.replace_children(tuple(_attempt(child) for child in call.children()))
