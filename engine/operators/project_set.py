"""Set-returning functions: each row once for every element of its lists; the ordinal joins the stream key.

Nothing is remembered: a retraction gives the same elements again.
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.operators.base import Delta, EpochContext, Operator, no_change
from engine.plan.algebra import ProjectSet as ProjectSetNode
from engine.plan.batch import render_project_set
from engine.sql.types import INT8


class ProjectSet(Operator):
    """Columns: the input's visible ones, the elements, the ordinal if it is asked for, the hidden ones, else the ordinal."""

    def __init__(self, source: Operator, node: ProjectSetNode) -> None:
        self.inputs = (source,)
        self._node = node
        width = source.visible
        elements = tuple(c.type for c in node.columns[width : width + len(node.calls)])
        ordinal = (INT8,)
        first = width + len(elements) + (1 if node.ordinality else 0)
        self.types = (
            *source.types[:width], *elements, *(ordinal if node.ordinality else ()), *source.types[width:],
            *(() if node.ordinality else ordinal),
        )  # fmt: skip
        self.visible = first
        self._moved = {p: p if p < width else first + p - width for p in range(len(source.types))}
        at = width + len(elements) if node.ordinality else len(self.types) - 1
        self.key = (*(self._moved[p] for p in source.key), at)
        self.append_only = source.append_only
        self.watermarked = frozenset(self._moved[p] for p in source.watermarked)
        self._ordinal = at

    def step(self, epoch: EpochContext, deltas: Sequence[Delta]) -> Delta:
        del epoch
        (delta,) = deltas
        watermarks = {self._moved[p]: w for p, w in delta.watermarks.items()}
        if delta.empty:
            return no_change(watermarks)
        width = self.inputs[0].visible
        items = [(f"c{p}", f"c{m}") for p, m in self._moved.items()]
        outputs = [f"c{width + i}" for i in range(len(self._node.calls))]
        sql = render_project_set(self._node, delta.source, [*items, ("d", "d")], outputs, f"c{self._ordinal}")
        return Delta(f"({sql})", watermarks=watermarks)

    def details(self) -> str:
        return ", ".join(getattr(call, "name", "set") for call in self._node.calls)
