"""Move predicates down: into join conditions, and below joins to the side they speak of.

`FROM a, b WHERE a.x = b.y AND a.z > 1` becomes a join on `a.x = b.y` over a filtered `a`. A predicate on the preserved side
of an outer join may go below it; one on the other side may not.
"""

from __future__ import annotations

from dataclasses import replace

from engine.plan.algebra import Filter, Join, Node
from engine.plan.traversal import with_inputs
from engine.sql.expressions import Expr, columns_of, conjunction, conjuncts, is_volatile, shift


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
    return _filtered(push_predicates(node), predicates)


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
