"""Filter: the rows for which the predicate is true."""

from __future__ import annotations

from collections.abc import Sequence

from engine.operators.base import Delta, EpochContext, Operator, no_change
from engine.sql.expressions import Expr, render, render_lenient


class Filter(Operator):
    def __init__(self, source: Operator, predicate: Expr) -> None:
        self.inputs = (source,)
        self._predicate = predicate
        self.types = source.types
        self.visible = source.visible
        self.key = source.key
        self.append_only = source.append_only
        self.watermarked = source.watermarked

    def step(self, epoch: EpochContext, deltas: Sequence[Delta]) -> Delta:
        del epoch
        (delta,) = deltas
        if delta.empty:
            return no_change(delta.watermarks)
        return Delta(
            f"(SELECT * FROM {delta.source} AS t WHERE {render_lenient(self._predicate)})",
            watermarks=delta.watermarks,
            grows=delta.grows,
        )

    def details(self) -> str:
        return render(self._predicate)
