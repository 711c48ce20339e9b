"""Walking the algebra: a node's own expressions, and the same node with others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, TypeVar

from engine.plan.algebra import (
    Aggregate,
    Apply,
    Filter,
    GroupTopN,
    Join,
    Node,
    Over,
    Project,
    ProjectSet,
    SetOperation,
    TopN,
    UnionAll,
    Values,
)
from engine.sql.expressions import Expr, is_volatile

Change = Callable[[Expr], Expr]
AnyNode = TypeVar("AnyNode", bound=Node)


def with_inputs(node: Node, inputs: tuple[Node, ...]) -> Node:
    """The same node over other inputs; its columns are not touched."""
    if inputs == node.inputs():
        return node
    if isinstance(node, (Join, Apply, SetOperation)):
        left, right = inputs
        return replace(node, left=left, right=right)
    if isinstance(node, UnionAll):
        return replace(node, branches=inputs)
    changed: Any = node
    return replace(changed, input=inputs[0])  # type: ignore[no-any-return]  # all other inner nodes have one input


def expressions_of(node: Node) -> Iterator[Expr]:
    """The node's own expressions, over its input's columns (a join's condition over both)."""
    if isinstance(node, Filter):
        yield node.predicate
    elif isinstance(node, Project):
        yield from node.exprs
    elif isinstance(node, Aggregate):
        yield from node.groups
        yield from node.aggregates
    elif isinstance(node, (Join, Apply)):
        if node.condition is not None:
            yield node.condition
        if isinstance(node, Apply):
            yield from node.args
    elif isinstance(node, (Over, ProjectSet)):
        yield from node.calls
    elif isinstance(node, GroupTopN):
        yield node.call
    elif isinstance(node, TopN):
        yield from (key.expr for key in node.order_by)
    elif isinstance(node, Values):
        for row in node.rows:
            yield from row


def map_expressions(node: Node, change: Change) -> Node:
    """The same node with each of its own expressions changed."""
    if isinstance(node, Filter):
        return replace(node, predicate=change(node.predicate))
    if isinstance(node, Project):
        return replace(node, exprs=tuple(change(e) for e in node.exprs))
    if isinstance(node, Aggregate):
        calls: Any = tuple(change(e) for e in node.aggregates)
        return replace(node, groups=tuple(change(e) for e in node.groups), aggregates=calls)
    if isinstance(node, Join):
        return replace(node, condition=change(node.condition) if node.condition is not None else None)
    if isinstance(node, Apply):
        condition = change(node.condition) if node.condition is not None else None
        return replace(node, condition=condition, args=tuple(change(e) for e in node.args))
    if isinstance(node, (Over, ProjectSet)):
        changed: Any = tuple(change(e) for e in node.calls)
        return replace(node, calls=changed)
    if isinstance(node, GroupTopN):
        call: Any = change(node.call)
        return replace(node, call=call)
    if isinstance(node, TopN):
        return replace(node, order_by=tuple(replace(key, expr=change(key.expr)) for key in node.order_by))
    if isinstance(node, Values):
        return replace(node, rows=tuple(tuple(change(e) for e in row) for row in node.rows))
    return node


def map_tree(node: Node, change: Change) -> Node:
    """Change the expressions of the node and of all below it."""
    inputs = tuple(map_tree(below, change) for below in node.inputs())
    return map_expressions(with_inputs(node, inputs), change)


def all_expressions(node: Node) -> Iterator[Expr]:
    """The expressions of the node and of all below it."""
    yield from expressions_of(node)
    for below in node.inputs():
        yield from all_expressions(below)


def is_repeatable(node: Node) -> bool:
    """Whether it gives the same rows whenever, and however often, it is computed: no volatile call, no user's function."""
    return not any(is_volatile(expr) for expr in expressions_of(node)) and all(is_repeatable(below) for below in node.inputs())


def without_names(node: AnyNode) -> AnyNode:
    """The same node with nameless columns: equal for queries that only call things otherwise."""
    columns = tuple(replace(column, name="") for column in node.columns)
    return replace(with_inputs(node, tuple(without_names(below) for below in node.inputs())), columns=columns)  # type: ignore[return-value]  # the same class
