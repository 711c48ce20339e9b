"""A filter that keeps the first rows of each partition becomes one node.

`SELECT .. FROM (SELECT .., row_number() OVER (PARTITION BY p ORDER BY o) AS r ..) WHERE r <= 3`, the same with rank(), DISTINCT ON,
and LIMIT inside a correlated subquery.
"""

from __future__ import annotations

from engine.plan.algebra import Filter, GroupTopN, Node, Over
from engine.plan.traversal import with_inputs
from engine.sql.expressions import Call, Column, Expr, Literal, conjunction, conjuncts

_MIRRORED = {"<=": ">=", "<": ">", ">=": "<=", ">": "<", "=": "="}


def find_group_top_n(node: Node) -> Node:
    node = with_inputs(node, tuple(find_group_top_n(below) for below in node.inputs()))
    if not isinstance(node, Filter) or not isinstance(node.input, Over):
        return node
    over = node.input
    (call, *others) = over.calls
    if others or call.name not in ("row_number", "rank"):
        return node
    rank = len(over.input.columns)
    limit: int | None = None
    rest: list[Expr] = []
    for part in conjuncts(node.predicate):
        bound = _upper_bound(part, rank)
        if bound is None:
            rest.append(part)
            continue
        limit = bound[0] if limit is None else min(limit, bound[0])
        if bound[1] and not (bound[0] == 1 and call.name == "row_number"):
            rest.append(part)
    if limit is None or limit < 0:
        return node
    first: Node = GroupTopN(over.columns, over.input, call, limit)
    above = conjunction(rest)
    return first if above is None else Filter(first.columns, first, above)


def _upper_bound(part: Expr, rank: int) -> tuple[int, bool] | None:
    """(largest rank, whether it is the only one) of a comparison of the rank with a constant."""
    if not isinstance(part, Call) or part.name not in _MIRRORED or len(part.args) != 2:
        return None
    left, right = part.args
    sign = part.name
    if isinstance(left, Literal):
        left, right, sign = right, left, _MIRRORED[sign]
    if not isinstance(left, Column) or left.index != rank or not isinstance(right, Literal):
        return None
    if not isinstance(right.value, int) or isinstance(right.value, bool):
        return None
    if sign in ("<=", "="):
        return right.value, sign == "="
    return (right.value - 1, False) if sign == "<" else None
