"""Move predicates down: into join conditions, and below joins to the side they speak of.

`FROM a, b WHERE a.x = b.y AND a.z > 1` becomes a join on `a.x = b.y` over a filtered `a`. A predicate on the preserved side
of an outer join may go below it; one on the other side may not.
"""

from __future__ import annotations

from dataclasses import replace

from engine.plan.algebra import Filter, Join, Node, Project
from engine.plan.traversal import with_inputs
from engine.sql.expressions import Column, Expr, columns_of, conjunction, conjuncts, is_volatile, shift, transform


def push_predicates(node: Node) -> Node:
    if isinstance(node, Filter):
        return _push(node.input, conjuncts(node.predicate))
    if isinstance(node, Join):
        return _join(node, [])
    return with_inputs(node, tuple(push_predicates(below) for below in node.inputs()))


def _push(node: Node, predicates: list[Expr]) -> Node:
    if isinstance(node, Filter):
        return _push(node.input, predicates + conjuncts(node.predicate))
    if isinstance(node, Join):
        return _join(node, predicates)
    if isinstance(node, Project):
        return _project(node, predicates)
    return _filtered(push_predicates(node), predicates)


def _project(node: Project, predicates: list[Expr]) -> Node:
    """Below a projection goes what speaks of columns that it only hands on; what it computes may fail on rows of its own."""
    below: list[Expr] = []
    above: list[Expr] = []
    for predicate in predicates:
        used = columns_of(predicate)
        handed_on = used and all(isinstance(node.exprs[i], Column) for i in used)
        (below if handed_on and not is_volatile(predicate) else above).append(predicate)
    exprs = node.exprs
    moved = [transform(p, lambda e: exprs[e.index] if isinstance(e, Column) else None) for p in below]
    return _filtered(replace(node, input=_push(node.input, moved)), above)


def _join(node: Join, predicates: list[Expr]) -> Node:
    width = len(node.left.columns)
    left: list[Expr] = []
    right: list[Expr] = []
    here: list[Expr] = []
    above: list[Expr] = []
    for predicate in predicates:
        used = columns_of(predicate)
        if is_volatile(predicate):
            above.append(predicate)
        elif used and max(used) < width and node.kind in ("inner", "left", "semi", "anti"):
            left.append(predicate)
        elif used and min(used) >= width and node.kind in ("inner", "right") and not node.temporal:
            right.append(shift(predicate, -width))
        elif node.kind == "inner" and not node.temporal:
            here.append(predicate)
        else:
            above.append(predicate)
    condition = conjunction((conjuncts(node.condition) if node.condition is not None else []) + here)
    pushed = replace(node, left=_push(node.left, left), right=_push(node.right, right), condition=condition)
    return _filtered(pushed, above)


def _filtered(node: Node, predicates: list[Expr]) -> Node:
    predicate = conjunction(predicates)
    return node if predicate is None else Filter(node.columns, node, predicate)
