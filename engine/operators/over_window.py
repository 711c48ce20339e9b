"""Window functions: touched partitions are computed before and after, and the difference goes out.

The stream key is put behind the user's ORDER BY, so that ties do not differ between two runs.
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.operators.base import (
    Delta,
    EpochContext,
    Operator,
    StateTable,
    apply_to_state,
    column_list,
    columns,
    consolidate,
    no_change,
    stored_input,
)
from engine.plan.batch import render_over
from engine.sql.expressions import WindowCall, render


class OverWindow(Operator):
    """Columns: the input's visible ones, one a call, then the hidden ones. State: `rows`, the input."""

    def __init__(self, source: Operator, calls: tuple[WindowCall, ...]) -> None:
        self.inputs = (source,)
        self._calls = calls
        self._partition = calls[0].partition_by
        width = source.visible
        self.types = (*source.types[:width], *(c.type for c in calls), *source.types[width:])
        self.visible = width + len(calls)
        self._moved = {p: p if p < width else p + len(calls) for p in range(len(source.types))}
        self.key = tuple(self._moved[p] for p in source.key)
        self._rows = ""

    def name_state(self, prefix: str) -> None:
        self._rows = f"{prefix}_rows"

    def state(self) -> tuple[StateTable, ...]:
        return (StateTable(self._rows, self.inputs[0].types),)

    def step(self, epoch: EpochContext, deltas: Sequence[Delta]) -> Delta:
        source = self.inputs[0]
        width = len(source.types)
        incoming = stored_input(epoch, deltas[0], source)
        if incoming is None:
            return no_change()
        items = ", ".join(f"{render(e)} AS k{i}" for i, e in enumerate(self._partition))
        touched = epoch.temp(f"SELECT DISTINCT {items} FROM {incoming} AS t")[0] if self._partition else ""
        old, _ = epoch.temp(self._compute(touched))
        apply_to_state(epoch, self._rows, incoming, width, source.key, source.append_only or deltas[0].grows)
        all_names = column_list(len(self.types))
        new = self._compute(touched)
        changed, count = consolidate(
            epoch,
            f"SELECT {all_names}, 1 AS d FROM ({new}) AS n UNION ALL SELECT {all_names}, -1 AS d FROM {old}",
            len(self.types),
        )
        return Delta(changed, count == 0)

    def _compute(self, touched: str) -> str:
        source = self.inputs[0]
        rows = self._rows
        if touched:
            on = " AND ".join(f"{render(e, 's')} IS NOT DISTINCT FROM x.k{i}" for i, e in enumerate(self._partition))
            rows = f"(SELECT s.* FROM {rows} AS s SEMI JOIN {touched} AS x ON {on})"
        keys = tuple(f"c{p}" for p in source.key)
        hidden = [f"c{p} AS c{self._moved[p]}" for p in range(source.visible, len(source.types))]
        computed = render_over(rows, self._calls, [*columns(source.visible), *hidden], source.visible, keys)
        return f"SELECT {column_list(len(self.types))} FROM ({computed}) AS w"

    def details(self) -> str:
        return ", ".join(c.name for c in self._calls)
