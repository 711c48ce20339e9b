"""Aggregate that keeps the rows of every group and computes touched groups anew.

For what cannot be undone exactly: float sums and averages, ordered and distinct aggregates, standard deviations. The result does not depend on where epochs were cut. Cost: the rows of the touched groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from engine.operators.aggregate_input import plan_aggregate_input
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
)
from engine.operators.group_watermarks import carried_watermarks, forget_groups
from engine.plan.batch import render_grouped
from engine.sql.expressions import AggregateCall, Expr

_ORDERLESS = frozenset({"min", "max", "count", "bool_and", "bool_or"})


class RecomputeAggregate(Operator):
    """State: `rows`, the remembered input; `out`, the groups as they were emitted."""

    def __init__(self, source: Operator, groups: tuple[Expr, ...], calls: tuple[AggregateCall, ...]) -> None:
        self.inputs = (source,)
        self._input = plan_aggregate_input(source, groups, calls)
        self.types = (*(g.type for g in groups), *(c.type for c in calls))
        self.visible = len(self.types)
        self.key = tuple(range(len(groups)))
        self._carried = carried_watermarks(source, groups)
        self.watermarked = frozenset(self._carried)
        self._groups = len(groups)
        self.keeps = not self._carried  # groups behind a watermark are forgotten, which is no change of the output
        self._rows = self._out = ""

    def kept(self) -> str:
        return self._out

    def name_state(self, prefix: str) -> None:
        self._rows, self._out = f"{prefix}_rows", f"{prefix}_out"

    def state(self) -> tuple[StateTable, ...]:
        return (StateTable(self._rows, self._input.types), StateTable(self._out, self.types))

    def initialize(self, epoch: EpochContext) -> Delta:
        if self._groups:
            return no_change()
        # Without GROUP BY there is one row from the start: counts 0, the rest NULL.
        delta = store(epoch, f"SELECT *, CAST(1 AS TINYINT) AS d FROM ({self._compute(self._rows)}) AS x")
        epoch.execute(f"INSERT INTO {self._out} SELECT {column_list(self.visible)} FROM {delta.source}")
        return delta

    def step(self, epoch: EpochContext, deltas: Sequence[Delta]) -> Delta:
        (delta,) = deltas
        marks = {i: delta.watermarks[p] for i, p in self._carried.items() if p in delta.watermarks}
        result = no_change() if delta.empty else self._recompute(epoch, delta)
        forget_groups(epoch, self, (self._rows, self._out), marks)
        return replace(result, watermarks=marks)

    def _recompute(self, epoch: EpochContext, delta: Delta) -> Delta:
        append_only = self.inputs[0].append_only or delta.grows
        select = self._input.select(delta.source)
        width = len(self._input.types)
        # Consolidated already where no column is lost; a column that is lost may make two rows one.
        exact = delta.cheap and (delta.stored or delta.exact) and self._input.keeps_all(len(self.inputs[0].types))
        incoming, count = epoch.temp(select) if append_only or exact else consolidate(epoch, select, width)
        if not count:
            return no_change()
        apply_to_state(epoch, self._rows, incoming, width, self._input.key, append_only)
        touched = f"(SELECT DISTINCT {column_list(self._groups)} FROM {incoming})" if self._groups else ""
        rows = self._rows
        if self._groups:
            rows = f"(SELECT s.* FROM {self._rows} AS s SEMI JOIN {touched} AS x ON {same_key('s', 'x', self.key)})"
        old = f"SELECT {column_list(self.visible, 'o')} FROM {self._out} AS o"
        if self._groups:
            old += f" SEMI JOIN {touched} AS x ON {same_key('o', 'x', self.key)}"
        names = column_list(self.visible)
        changed, count = consolidate(
            epoch,
            f"SELECT {names}, 1 AS d FROM ({self._compute(rows)}) AS n UNION ALL SELECT {names}, -1 AS d FROM ({old}) AS p",
            self.visible,
        )
        if not count:
            return no_change()
        apply_to_state(epoch, self._out, changed, self.visible, self.key, append_only=False)
        return Delta(changed)

    def _compute(self, rows: str) -> str:
        # The key orders the rows, so that a float sum adds them in one order whatever the epochs were.
        ordered_calls = [call for call in self._input.calls if call.name not in _ORDERLESS]
        keys = ", ".join(f"c{p}" for p in self._input.key) if ordered_calls else ""
        ordered = f"(SELECT * FROM {rows}{f' ORDER BY {keys}' if keys else ''}) AS t"
        return render_grouped(ordered, self._input.group_exprs, self._input.calls, strict=False)

    def details(self) -> str:
        return f"groups {self._groups}, {', '.join(c.name for c in self._input.calls)}"
