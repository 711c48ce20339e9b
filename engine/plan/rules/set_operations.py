"""INTERSECT and EXCEPT become semi and anti joins of distinct rows, in which NULL equals NULL."""

from __future__ import annotations

from engine.plan.algebra import Join, Node, SetOperation
from engine.plan.rules.building import column, distinct, same
from engine.plan.traversal import with_inputs
from engine.sql.expressions import conjunction, shift


def join_set_operations(node: Node) -> Node:
    node = with_inputs(node, tuple(join_set_operations(below) for below in node.inputs()))
    if not isinstance(node, SetOperation):
        return node
    left = distinct(node.left)
    width = len(left.columns)
    condition = conjunction([same(column(left, i), shift(column(node.right, i), width)) for i in range(width)])
    return Join(node.columns, "semi" if node.kind == "intersect" else "anti", left, node.right, condition)
