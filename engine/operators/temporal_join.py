"""Temporal join: each left row meets the right side as it was when the epoch began, and is never revised.

Nothing is remembered for an append-only left side. Where the left side retracts, what each of its rows met is remembered by its
key, and the retraction takes back exactly that. Source: RisingWave documentation, "Process-time temporal joins".
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.catalog.objects import Relation
from engine.operators.base import (
    Delta,
    EpochContext,
    Operator,
    StateTable,
    apply_to_state,
    column_list,
    consolidate,
    no_change,
    same_key,
    store,
    stored_input,
)
from engine.operators.join import join_columns, render_join
from engine.operators.leaf import RelationLeaf
from engine.plan.algebra import JoinKind
from engine.sql.expressions import Expr


class TemporalJoin(Operator):
    """Columns: left visible, right visible, left hidden, right hidden. The right side is read from the relation's own storage.

    State: `met`, the rows that went out, where the left side may retract.
    """

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
        self._met = ""

    def name_state(self, prefix: str) -> None:
        self._met = f"{prefix}_met"

    def state(self) -> tuple[StateTable, ...]:
        return () if self.append_only else (StateTable(self._met, self.types),)

    def step(self, epoch: EpochContext, deltas: Sequence[Delta]) -> Delta:
        (delta,) = deltas
        watermarks = {self._left[p]: w for p, w in delta.watermarks.items()}
        if delta.empty:
            return no_change(watermarks)
        if self.append_only:
            stored = store(epoch, self._lookup_of(delta.source, "l.d"))
            return Delta(stored.source, stored.empty, watermarks)
        left = self.inputs[0]
        incoming = stored_input(epoch, delta, left)
        if incoming is None:
            return no_change(watermarks)
        width = len(self.types)
        key = [self._left[p] for p in left.key]
        gone = f"(SELECT * FROM {incoming} WHERE d < 0)"
        taken_back = (
            f"SELECT {column_list(width, 's')}, CAST(-1 AS TINYINT) AS d FROM {self._met} AS s"
            f" SEMI JOIN {gone} AS x ON {same_key('s', 'x', key, left.key)}"
        )
        met = self._lookup_of(f"(SELECT * FROM {incoming} WHERE d > 0)", "l.d")
        changed, count = consolidate(epoch, f"{taken_back} UNION ALL {met}", width)
        if count:
            apply_to_state(epoch, self._met, changed, width, self.key, append_only=False)
        return Delta(changed, count == 0, watermarks)

    def _lookup_of(self, rows: str, diff: str) -> str:
        right = f"({self._lookup.snapshot()})"
        return render_join(self.inputs[0].visible, self._order, rows, right, self._kind, self._condition, diff)

    def details(self) -> str:
        return f"{self._kind}, right {self._lookup.details()}"
