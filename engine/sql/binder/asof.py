"""ASOF JOIN: each left row meets the one nearest right row of the same key.

`a ASOF JOIN b ON a.k = b.k AND a.t >= b.t` is, for each row of a, the row of b with the same k and the largest t that fits: a
LATERAL subquery with ORDER BY and LIMIT 1. Source: RisingWave documentation, "ASOF joins".
"""

from __future__ import annotations

from sqlglot import exp

from engine.plan.algebra import Apply, Filter, JoinKind, Node, TopN
from engine.sql.binder.scope import position_of
from engine.sql.errors import SqlError
from engine.sql.expressions import Call, Column, Expr, OrderKey, OuterColumn, columns_of, conjunction, conjuncts, transform

_AT_MOST = {"<": True, "<=": True, ">": False, ">=": False}


def asof_join(kind: JoinKind, left: Node, right: Node, condition: Expr | None, join: exp.Join) -> Node:
    """Bind one ASOF join; `condition` is over left's columns, then right's."""
    width = len(left.columns)
    order: OrderKey | None = None
    equalities = 0
    parts = conjuncts(condition) if condition is not None else []
    for part in parts:
        sides = _sides(part, width)
        if sides is None:
            continue
        sign, of_right = sides
        if sign == "=":
            equalities += 1
        elif order is None:
            order = OrderKey(of_right, descending=_AT_MOST[sign])
        else:
            order = None
            break
    if kind not in ("inner", "left") or order is None or not equalities or any(_sides(p, width) is None for p in parts):
        raise SqlError(
            "an ASOF join needs equalities and exactly one inequality between the two sides",
            position=position_of(join),
            sqlstate="0A000",
            fix="For example `a ASOF JOIN b ON a.k = b.k AND a.t >= b.t`.",
        )
    args: list[Expr] = []

    def inside(e: Expr) -> Expr | None:
        if not isinstance(e, Column):
            return None
        if e.index >= width:
            return Column(e.type, e.index - width)
        if e not in args:
            args.append(e)
        return OuterColumn(e.type, args.index(e))

    predicate = conjunction([transform(p, inside) for p in parts])
    assert predicate is not None
    key = OrderKey(transform(order.expr, inside), order.descending)
    nearest = TopN(right.columns, Filter(right.columns, right, predicate), (key,), 1, 0)
    return Apply(left.columns + right.columns, "inner" if kind == "inner" else "left", left, nearest, tuple(args))


def _sides(part: Expr, width: int) -> tuple[str, Expr] | None:
    """(how the right expression compares with the left one, the right expression) of a comparison across the sides."""
    if not isinstance(part, Call) or part.name not in ("=", *_AT_MOST):
        return None
    for swapped in (False, True):
        a, b = part.args[::-1] if swapped else part.args
        in_a, in_b = columns_of(a), columns_of(b)
        if in_a and in_b and max(in_a) < width <= min(in_b):
            # `a > b` says that b is less; written the other way round, `b < a`, the sign is b's already.
            mirrored = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "=": "="}
            return (part.name if swapped else mirrored[part.name]), b
    return None
