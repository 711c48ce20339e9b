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
    same_key,
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
        names = column_list(width)
        before = self._rows
        if self._partition:
            # One reading of the state: what is there of the touched partitions, before; the change applied to it, after.
            items = ", ".join(f"{render(e)} AS k{i}" for i, e in enumerate(self._partition))
            on = " AND ".join(f"{render(e, 's')} IS NOT DISTINCT FROM x.k{i}" for i, e in enumerate(self._partition))
            touched = f"(SELECT DISTINCT {items} FROM {incoming} AS t)"
            before, _ = epoch.temp(f"SELECT {names} FROM {self._rows} AS s SEMI JOIN {touched} AS x ON {on}")
        grows = source.append_only or deltas[0].grows
        if grows:
            after = f"(SELECT {names} FROM {before} AS o UNION ALL SELECT {names} FROM {incoming} AS i)"
        else:
            stays = f"{before} AS o ANTI JOIN (SELECT * FROM {incoming} WHERE d < 0) AS x ON {same_key('o', 'x', source.key)}"
            after = f"(SELECT {names} FROM {stays} UNION ALL SELECT {names} FROM {incoming} AS i WHERE d > 0)"
        everything = column_list(len(self.types))
        changed, count = consolidate(
            epoch,
            f"SELECT {everything}, 1 AS d FROM ({self._compute(after)}) AS n"
            f" UNION ALL SELECT {everything}, -1 AS d FROM ({self._compute(before)}) AS p",
            len(self.types),
        )
        apply_to_state(epoch, self._rows, incoming, width, source.key, grows)
        return Delta(changed, count == 0)

    def _compute(self, rows: str) -> str:
        source = self.inputs[0]
        keys = tuple(f"c{p}" for p in source.key)
        hidden = [f"c{p} AS c{self._moved[p]}" for p in range(source.visible, len(source.types))]
        computed = render_over(rows, self._calls, [*columns(source.visible), *hidden], source.visible, keys)
        return f"SELECT {column_list(len(self.types))} FROM ({computed}) AS w"

    def details(self) -> str:
        return ", ".join(c.name for c in self._calls)
