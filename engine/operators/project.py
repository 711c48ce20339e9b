"""Projection: new columns from old ones; the stream key stays, hidden where the SELECT list dropped it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from engine.operators.base import Delta, EpochContext, Operator, no_change
from engine.operators.monotone import time_column, value_at
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
        followed = ((i, time_column(e, source.watermarked)) for i, e in enumerate(self._exprs))
        self._carried = [(i, column) for i, column in followed if column is not None]
        self.watermarked = frozenset(i for i, _ in self._carried)
        self.rising = frozenset(i for i, e in enumerate(self._exprs) if time_column(e, source.rising) is not None)
        self._known: dict[tuple[int, dt.datetime], dt.datetime | None] = {}
        self._keeps_all = {e.index for e in self._exprs if isinstance(e, Column)} == set(range(len(source.types)))

        self.keeps = source.keeps and all(isinstance(e, Column) for e in self._exprs)

    def kept(self) -> str:
        picked = ", ".join(f"{render(e)} AS c{i}" for i, e in enumerate(self._exprs))
        return f"(SELECT {picked} FROM {self.inputs[0].kept()} AS k)"

    def step(self, epoch: EpochContext, deltas: Sequence[Delta]) -> Delta:
        (delta,) = deltas
        watermarks = self._watermarks(epoch, delta)
        if delta.empty:
            return no_change(watermarks)
        exprs = ", ".join(f"{render_lenient(e)} AS c{i}" for i, e in enumerate(self._exprs))
        picked = delta.cheap and all(isinstance(e, Column) for e in self._exprs)
        exact = picked and (delta.stored or delta.exact) and self._keeps_all
        return Delta(f"(SELECT {exprs}, d FROM {delta.source} AS t)", False, watermarks, picked, exact, delta.grows)

    def _watermarks(self, epoch: EpochContext, delta: Delta) -> dict[int, dt.datetime]:
        found: dict[int, dt.datetime] = {}
        for position, source in self._carried:
            moment, expr = delta.watermarks.get(source), self._exprs[position]
            if moment is None:
                continue
            if isinstance(expr, Column):
                found[position] = moment
                continue
            if (position, moment) not in self._known:
                self._known = {key: value for key, value in self._known.items() if key[0] != position}
                self._known[position, moment] = value_at(epoch, expr, moment)
            mark = self._known[position, moment]
            if mark is not None:
                found[position] = mark
        return found

    def details(self) -> str:
        return ", ".join(render(e) for e in self._exprs[: self.visible])
