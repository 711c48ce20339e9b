"""EMIT ON WINDOW CLOSE of a plain query: rows wait until the watermark has passed them, and leave in its order."""

from __future__ import annotations

from collections.abc import Sequence

from engine.operators.base import (
    Delta,
    EpochContext,
    Operator,
    StateTable,
    apply_to_state,
    column_list,
    no_change,
    store,
    stored_input,
)
from engine.sql.expressions import render_literal
from engine.sql.types import TIMESTAMP


class WindowCloseSort(Operator):
    """State: `rows`, what waits. `column` carries the watermark."""

    def __init__(self, source: Operator, column: int) -> None:
        self.inputs = (source,)
        self._column = column
        self.types, self.visible, self.key = source.types, source.visible, source.key
        self.append_only = True  # what the watermark has passed does not change any more
        self.watermarked = source.watermarked
        self._rows = ""

    def name_state(self, prefix: str) -> None:
        self._rows = f"{prefix}_rows"

    def state(self) -> tuple[StateTable, ...]:
        return (StateTable(self._rows, self.types),)

    def step(self, epoch: EpochContext, deltas: Sequence[Delta]) -> Delta:
        (delta,) = deltas
        width = len(self.types)
        names = column_list(width)
        if not delta.empty:
            incoming = stored_input(epoch, delta, self.inputs[0])
            if incoming is not None:
                apply_to_state(epoch, self._rows, incoming, width, self.key, self.inputs[0].append_only)
        moment = delta.watermarks.get(self._column)
        if moment is None:
            return no_change(delta.watermarks)
        closed = f"c{self._column} < {render_literal(moment, TIMESTAMP)}"
        result = store(
            epoch, f"SELECT {names}, CAST(1 AS TINYINT) AS d FROM {self._rows} WHERE {closed} ORDER BY c{self._column}"
        )
        if not result.empty:
            epoch.execute(f"DELETE FROM {self._rows} WHERE {closed}")
        return Delta(result.source, result.empty, delta.watermarks)
