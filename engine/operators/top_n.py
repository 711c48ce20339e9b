"""ORDER BY with LIMIT: the first rows of all, computed before and after each epoch."""

from __future__ import annotations

from collections.abc import Sequence

from engine.operators.base import (
    Delta,
    EpochContext,
    Operator,
    StateTable,
    apply_to_state,
    column_list,
    consolidate,
    no_change,
    stored_input,
)
from engine.plan.batch import render_order_limit
from engine.sql.expressions import OrderKey


class TopN(Operator):
    """State: `rows`, the input; `out`, the rows that were emitted."""

    def __init__(
        self, source: Operator, order_by: tuple[OrderKey, ...], limit: int | None, offset: int, with_ties: bool
    ) -> None:
        self.inputs = (source,)
        self._order_by, self._limit, self._offset, self._with_ties = order_by, limit, offset, with_ties
        self.types, self.visible, self.key = source.types, source.visible, source.key
        self._rows = self._out = ""

    def name_state(self, prefix: str) -> None:
        self._rows, self._out = f"{prefix}_rows", f"{prefix}_out"

    def state(self) -> tuple[StateTable, ...]:
        return (StateTable(self._rows, self.types), StateTable(self._out, self.types))

    def step(self, epoch: EpochContext, deltas: Sequence[Delta]) -> Delta:
        source = self.inputs[0]
        width = len(self.types)
        names = column_list(width)
        incoming = stored_input(epoch, deltas[0], source)
        if incoming is None:
            return no_change()
        apply_to_state(epoch, self._rows, incoming, width, source.key, source.append_only or deltas[0].grows)
        keys = tuple(f"c{p}" for p in self.key)
        top = f"SELECT * FROM {self._rows} AS t" + render_order_limit(
            self._order_by, self._limit, self._offset, self._with_ties, keys
        )
        changed, count = consolidate(
            epoch, f"SELECT {names}, 1 AS d FROM ({top}) AS n UNION ALL SELECT {names}, -1 AS d FROM {self._out}", width
        )
        if count:
            apply_to_state(epoch, self._out, changed, width, self.key, append_only=False)
        return Delta(changed, count == 0)

    def details(self) -> str:
        return f"limit {self._limit}, offset {self._offset}"
