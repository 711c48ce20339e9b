"""UNION ALL: the branches' changelogs side by side, the branch number in the key."""

from __future__ import annotations

from collections.abc import Sequence

from engine.operators.base import Delta, EpochContext, Operator, no_change
from engine.sql.types import INT4


class UnionAll(Operator):
    """Hidden columns: the branch, then the keys of all branches side by side (NULL for the others)."""

    def __init__(self, branches: Sequence[Operator]) -> None:
        self.inputs = tuple(branches)
        self.visible = branches[0].visible
        hidden = [branch.types[p] for branch in branches for p in branch.key]
        self.types = (*branches[0].types[: self.visible], INT4, *hidden)
        self.key = tuple(range(self.visible, len(self.types)))
        self.append_only = all(branch.append_only for branch in branches)
        shared = [branch.watermarked for branch in branches]
        self.watermarked = frozenset(p for p in range(self.visible) if all(p in w for w in shared))

    def step(self, epoch: EpochContext, deltas: Sequence[Delta]) -> Delta:
        del epoch
        selects: list[str] = []
        offset = self.visible + 1
        total = len(self.types) - offset
        before = 0
        for number, (branch, delta) in enumerate(zip(self.inputs, deltas, strict=True)):
            if not delta.empty:
                items = [f"CAST(c{i} AS {self.types[i].duckdb}) AS c{i}" for i in range(self.visible)]
                items.append(f"CAST({number} AS INTEGER) AS c{self.visible}")
                for k in range(total):
                    own = before <= k < before + len(branch.key)
                    value = f"c{branch.key[k - before]}" if own else f"CAST(NULL AS {self.types[offset + k].duckdb})"
                    items.append(f"{value} AS c{offset + k}")
                selects.append(f"SELECT {', '.join(items)}, d FROM {delta.source} AS t")
            before += len(branch.key)
        watermarks = {
            p: min(d.watermarks[p] for d in deltas) for p in self.watermarked if all(p in d.watermarks for d in deltas)
        }
        return Delta(f"({' UNION ALL '.join(selects)})", watermarks=watermarks) if selects else no_change(watermarks)
