"""DISTINCT of input that never retracts: a row goes out when it is seen for the first time, and stays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from engine.operators.base import Delta, EpochContext, Operator, StateTable, column_list, no_change, same_key, store
from engine.operators.group_watermarks import carried_watermarks, forget_groups
from engine.sql.expressions import Expr, render_lenient


class Deduplicate(Operator):
    """State: `seen`, the rows that went out; one that the watermark has passed cannot come again and is forgotten."""

    def __init__(self, source: Operator, groups: tuple[Expr, ...]) -> None:
        self.inputs = (source,)
        self._groups = groups
        self.types = tuple(g.type for g in groups)
        self.visible = len(groups)
        self.key = tuple(range(len(groups)))
        self.append_only = True
        self._carried = carried_watermarks(source, groups)
        self.watermarked = frozenset(self._carried)
        self._seen = ""

    def name_state(self, prefix: str) -> None:
        self._seen = f"{prefix}_seen"

    def state(self) -> tuple[StateTable, ...]:
        return (StateTable(self._seen, self.types),)

    def step(self, epoch: EpochContext, deltas: Sequence[Delta]) -> Delta:
        (delta,) = deltas
        watermarks = {i: delta.watermarks[p] for i, p in self._carried.items() if p in delta.watermarks}
        result = self._fresh(epoch, delta)
        forget_groups(epoch, self, (self._seen,), watermarks)
        return replace(result, watermarks=watermarks)

    def _fresh(self, epoch: EpochContext, delta: Delta) -> Delta:
        """The rows that were not seen before; they are remembered."""
        if delta.empty:
            return no_change()
        items = ", ".join(f"{render_lenient(g)} AS c{i}" for i, g in enumerate(self._groups))
        rows = f"(SELECT DISTINCT {items} FROM {delta.source} AS t)"
        fresh = f"SELECT x.*, CAST(1 AS TINYINT) AS d FROM {rows} AS x ANTI JOIN {self._seen} AS s ON {same_key('x', 's', self.key)}"
        result = store(epoch, fresh)
        if not result.empty:
            epoch.execute(f"INSERT INTO {self._seen} SELECT {column_list(self.visible)} FROM {result.source}")
        return result

    def details(self) -> str:
        return f"{self.visible} columns"
