"""Temporal join: each left row meets the right side as it was when the epoch began, and is never revised.

Nothing is remembered for an append-only left side; a left side that retracts is refused, as what it met cannot be known
again. Source: RisingWave documentation, "Process-time temporal joins".
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.catalog.objects import Relation
from engine.operators.base import Delta, EpochContext, Operator, no_change, store
from engine.operators.join import join_columns, render_join
from engine.operators.leaf import RelationLeaf
from engine.plan.algebra import JoinKind
from engine.sql.expressions import Expr


class TemporalJoin(Operator):
    """Columns: left visible, right visible, left hidden. The right side is read from the relation's own storage."""

    def __init__(self, kind: JoinKind, left: Operator, right: Relation, condition: Expr | None) -> None:
        self._lookup = RelationLeaf(right)
        self.inputs = (left,)
        self.looks_up = right.id
        self._kind = kind
        self._condition = condition
        plan = join_columns(left, self._lookup, half=False)
        self._order = plan.order
        self.types, self.visible = plan.types, plan.visible
        self.key = plan.key
        self.append_only = left.append_only
        self._left = plan.left
        self.watermarked = frozenset(plan.left[p] for p in left.watermarked)

    def step(self, epoch: EpochContext, deltas: Sequence[Delta]) -> Delta:
        (delta,) = deltas
        watermarks = {self._left[p]: w for p, w in delta.watermarks.items()}
        if delta.empty:
            return no_change(watermarks)
        right = f"({self._lookup.snapshot()})"
        select = render_join(self.inputs[0].visible, self._order, delta.source, right, self._kind, self._condition, "l.d")
        stored = store(epoch, select)
        return Delta(stored.source, stored.empty, watermarks)

    def details(self) -> str:
        return f"{self._kind}, right {self._lookup.details()}"
