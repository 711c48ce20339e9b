"""Projection: new columns from old ones; the stream key stays, hidden where the SELECT list dropped it."""

from __future__ import annotations

from collections.abc import Sequence

from engine.operators.base import Delta, EpochContext, Operator, no_change
from engine.sql.expressions import Column, Expr, render, render_lenient


class Project(Operator):
    def __init__(self, source: Operator, exprs: tuple[Expr, ...]) -> None:
        self.inputs = (source,)
        kept = {expr.index: i for i, expr in reversed(list(enumerate(exprs))) if isinstance(expr, Column)}
        hidden = [position for position in source.key if position not in kept]
        self._exprs = (*exprs, *(Column(source.types[p], p) for p in hidden))
        kept.update({p: len(exprs) + i for i, p in enumerate(hidden)})
        self.types = tuple(expr.type for expr in self._exprs)
        self.visible = len(exprs)
        self.key = tuple(kept[p] for p in source.key)
        self.append_only = source.append_only
        self._carried = [
            (i, e.index) for i, e in enumerate(self._exprs) if isinstance(e, Column) and e.index in source.watermarked
        ]
        self.watermarked = frozenset(i for i, _ in self._carried)
        self._keeps_all = {e.index for e in self._exprs if isinstance(e, Column)} == set(range(len(source.types)))

        self.keeps = source.keeps and all(isinstance(e, Column) for e in self._exprs)

    def kept(self) -> str:
        picked = ", ".join(f"{render(e)} AS c{i}" for i, e in enumerate(self._exprs))
        return f"(SELECT {picked} FROM {self.inputs[0].kept()} AS k)"

    def step(self, epoch: EpochContext, deltas: Sequence[Delta]) -> Delta:
        del epoch
        (delta,) = deltas
        watermarks = {i: delta.watermarks[source] for i, source in self._carried if source in delta.watermarks}
        if delta.empty:
            return no_change(watermarks)
        exprs = ", ".join(f"{render_lenient(e)} AS c{i}" for i, e in enumerate(self._exprs))
        picked = delta.cheap and all(isinstance(e, Column) for e in self._exprs)
        exact = picked and (delta.stored or delta.exact) and self._keeps_all
        return Delta(f"(SELECT {exprs}, d FROM {delta.source} AS t)", False, watermarks, picked, exact, delta.grows)

    def details(self) -> str:
        return ", ".join(render(e) for e in self._exprs[: self.visible])
