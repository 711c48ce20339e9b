"""Aggregate with EMIT ON WINDOW CLOSE: a group goes out once, when the watermark has passed it, and is forgotten.

Append-only out of append-only. The rows of open groups are kept and aggregated at the close, so a result is the batch
aggregate of its window, to the last bit, whatever the epochs were.
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.operators.aggregate_input import plan_aggregate_input
from engine.operators.base import Delta, EpochContext, Operator, StateTable, apply_to_state, no_change, store
from engine.plan.batch import render_grouped
from engine.sql.expressions import AggregateCall, Column, Expr, render_literal
from engine.sql.types import TIMESTAMP


class WindowCloseAggregate(Operator):
    """State: `rows`, the remembered input of open groups.

    Args:
        source: append-only, with a watermark on the column of `groups[window_group]`.
        window_group: the group column that decides when a group is closed.
    """

    def __init__(
        self, source: Operator, groups: tuple[Expr, ...], calls: tuple[AggregateCall, ...], window_groups: tuple[int, ...]
    ) -> None:
        self.inputs = (source,)
        self._input = plan_aggregate_input(source, groups, calls)
        self._window = window_groups[0]
        self._sources = {i: groups[i].index for i in window_groups if isinstance(groups[i], Column)}  # type: ignore[attr-defined]
        self.types = (*(g.type for g in groups), *(c.type for c in calls))
        self.visible = len(self.types)
        self.key = tuple(range(len(groups)))
        self.append_only = True
        self.watermarked = frozenset(window_groups)
        self._rows = ""

    def name_state(self, prefix: str) -> None:
        self._rows = f"{prefix}_rows"

    def state(self) -> tuple[StateTable, ...]:
        return (StateTable(self._rows, self._input.types),)

    def step(self, epoch: EpochContext, deltas: Sequence[Delta]) -> Delta:
        (delta,) = deltas
        if not delta.empty:
            incoming, count = epoch.temp(self._input.select(delta.source))
            if count:
                apply_to_state(epoch, self._rows, incoming, len(self._input.types), (), append_only=True)
        watermarks = {i: delta.watermarks[p] for i, p in self._sources.items() if p in delta.watermarks}
        moment = watermarks.get(self._window)
        if moment is None:
            return no_change()
        closed = f"c{self._window} < {render_literal(moment, TIMESTAMP)}"
        keys = ", ".join(f"c{p}" for p in self._input.key)
        rows = f"(SELECT * FROM {self._rows} WHERE {closed} ORDER BY {keys}) AS t"
        grouped = render_grouped(rows, self._input.group_exprs, self._input.calls, strict=False)
        result = store(epoch, f"SELECT *, CAST(1 AS TINYINT) AS d FROM ({grouped}) AS g")
        if result.empty:
            return no_change(watermarks)
        epoch.execute(f"DELETE FROM {self._rows} WHERE {closed}")
        return Delta(result.source, watermarks=watermarks)

    def details(self) -> str:
        return f"window column c{self._window}, {', '.join(c.name for c in self._input.calls)}"
