"""Joins: inner, left, right, full, semi, anti, with any condition.

Both inputs are remembered. The epoch is taken in two steps, which is exact: first the left changes meet the right state of
before, then the right changes meet the left state of after.

    d(A join B)  =  dA join B_old   +   A_new join dB

Where an input keeps its output anyway (an aggregate), an inner join reads it there, as it is after the epoch, and has no copy:

    d(A join B)  =  A_old join dB   +   dA join B_new                      B kept below
                 =  A_new join dB   +   dA join B_new   -   dA join dB     both kept below

An inner join is that and no more. Where a side is preserved (outer, semi, anti), a change on the other side may give or take
a row its only match, so those join keys are computed before and after, and the difference goes out. Touched keys are found
with IS NOT DISTINCT FROM, but joined with the condition as written, or preserved rows with NULL keys would vanish.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import replace

from engine.operators.base import (
    Delta,
    EpochContext,
    Operator,
    StateTable,
    apply_to_state,
    column_list,
    consolidate,
    no_change,
    store,
    stored_input,
)
from engine.operators.time_bounds import dead_before, outgoing, time_bounds
from engine.plan.algebra import JoinKind
from engine.sql.expressions import Call, Expr, columns_of, conjuncts, render, render_literal, transform
from engine.sql.expressions import Column as ColumnRef
from engine.sql.types import BOOL, TIMESTAMP


def equi_keys(condition: Expr | None, left_width: int) -> list[tuple[Expr, Expr]]:
    """The pairs (left expression, right expression over right's own positions) of `a = b` conjuncts across the sides."""
    pairs: list[tuple[Expr, Expr]] = []
    for part in conjuncts(condition) if condition is not None else []:
        if not isinstance(part, Call) or part.name not in ("=", "is not distinct from"):
            continue
        for a, b in (part.args, part.args[::-1]):
            in_a, in_b = columns_of(a), columns_of(b)
            if in_a and in_b and max(in_a) < left_width <= min(in_b):
                pairs.append(
                    (a, transform(b, lambda e: ColumnRef(e.type, e.index - left_width) if isinstance(e, ColumnRef) else None))
                )
                break
    return pairs


class Join(Operator):
    """Columns: left visible, right visible, left hidden, right hidden (semi and anti: only left's; full: whether right is missing).

    Args:
        condition: over left's visible columns, then right's.
    """

    def __init__(self, kind: JoinKind, left: Operator, right: Operator, condition: Expr | None) -> None:
        self.inputs = (left, right)
        self._kind = kind
        self._condition = condition
        self._pairs = equi_keys(condition, left.visible)
        self._half = kind in ("semi", "anti")
        plan = join_columns(left, right, self._half)
        self._order = plan.order
        self.types, self.visible = plan.types, plan.visible
        self.key = tuple(plan.left[p] for p in left.key) if self._half else plan.key
        if kind == "full":
            # Whether the right side is missing: keys may be NULL, and then a left row alone and a right row alone look the same.
            self.key = (*self.key, len(self.types))
            self.types = (*self.types, BOOL)
        self.append_only = left.append_only and right.append_only and kind in ("inner",)
        self._bounds = time_bounds(condition, left.visible, left.watermarked, right.watermarked)
        # A preserved side may be NULL in the output, and a NULL is no time.
        marked_left = {b.left for b in self._bounds if b.at_least} if kind in ("inner", "left", "semi", "anti") else set()
        marked_right = {b.right for b in self._bounds if not b.at_least} if kind in ("inner", "right") else set()
        self._marked = ({p: plan.left[p] for p in marked_left}, {p: plan.right[p] for p in marked_right})
        self.watermarked = frozenset([*self._marked[0].values(), *self._marked[1].values()])
        self._kept = (kind == "inner" and left.keeps, kind == "inner" and right.keeps)
        self._left = self._right = ""

    def name_state(self, prefix: str) -> None:
        names = (f"{prefix}_left", f"{prefix}_right")
        self._left, self._right = (
            source.kept() if kept else name for source, kept, name in zip(self.inputs, self._kept, names, strict=True)
        )

    def state(self) -> tuple[StateTable, ...]:
        own = zip((self._left, self._right), self.inputs, self._kept, strict=True)
        return tuple(StateTable(name, source.types) for name, source, kept in own if not kept)

    def step(self, epoch: EpochContext, deltas: Sequence[Delta]) -> Delta:
        left = stored_input(epoch, deltas[0], self.inputs[0])
        right = stored_input(epoch, deltas[1], self.inputs[1])
        marks = self._outgoing(deltas)
        if left is None and right is None:
            return no_change(marks)
        # The right state stays as it was until the output is computed; the left one is brought up to date first where the right
        # changes have to meet it. A side that is kept below is up to date already, so then the other one waits.
        parts: list[str] = []
        if left is not None:
            parts += self._left_changes(epoch, left)
            if not self._kept[1]:
                self._apply(epoch, left, 0, deltas[0].grows)
        if right is not None:
            parts += self._right_changes(epoch, right)
        twice = left is not None and right is not None and self._kept == (True, True)
        if left is not None and right is not None and twice:
            parts.append(self._select(left, right, self._kind, "-l.d * r.d"))
        union = " UNION ALL ".join(parts)
        grows = (
            self._kind == "inner"
            and not twice
            and all(delta.empty or delta.grows or source.append_only for delta, source in zip(deltas, self.inputs, strict=True))
        )
        if grows:
            result = replace(store(epoch, union), grows=True)
        else:
            name, count = consolidate(epoch, union, len(self.types))
            result = Delta(name, count == 0)
        if left is not None and self._kept[1]:
            self._apply(epoch, left, 0, deltas[0].grows)
        if right is not None:
            self._apply(epoch, right, 1, deltas[1].grows)
        if self.cleaning_due(epoch.number):
            self._clean(epoch, deltas)
        return replace(result, watermarks=marks)

    def _outgoing(self, deltas: Sequence[Delta]) -> dict[int, dt.datetime]:
        sides = outgoing(self._bounds, deltas[0].watermarks, deltas[1].watermarks)
        return {to: side[p] for side, places in zip(sides, self._marked, strict=True) for p, to in places.items() if p in side}

    def _clean(self, epoch: EpochContext, deltas: Sequence[Delta]) -> None:
        """Drop rows that will meet nothing new. A right row that keeps a left one from standing alone must stay."""
        if not (self.inputs[0].append_only and self.inputs[1].append_only) or self._kind in ("right", "full"):
            return
        dead = dead_before(self._bounds, deltas[0].watermarks, deltas[1].watermarks)
        for state, side in ((self._left, dead[0]), (self._right, dead[1] if self._kind == "inner" else {})):
            if side:
                old = " OR ".join(f"c{p} < {render_literal(mark, TIMESTAMP)}" for p, mark in side.items())
                epoch.execute(f"DELETE FROM {state} WHERE {old}")

    def _apply(self, epoch: EpochContext, delta: str, side: int, grows: bool) -> None:
        if self._kept[side]:
            return
        source = self.inputs[side]
        state = self._left if side == 0 else self._right
        apply_to_state(epoch, state, delta, len(source.types), source.key, source.append_only or grows)

    def _left_changes(self, epoch: EpochContext, delta: str) -> list[str]:
        """`dA join B_old`; where the right side is preserved, also what its rows lose or gain."""
        if self._kind not in ("right", "full"):
            return [self._select(delta, self._right, self._kind, "l.d")]
        touched = self._touched(epoch, delta, 0)
        old = self._select(self._restricted(0, touched), self._restricted(1, touched), self._kind, "-1")
        new = self._select(self._restricted(0, touched, delta), self._restricted(1, touched), self._kind, "1")
        # Computed now: the left state is about to change.
        names = column_list(len(self.types))
        stored, _ = epoch.temp(f"SELECT {names}, d FROM ({old} UNION ALL {new}) AS x")
        return [f"SELECT {names}, d FROM {stored}"]

    def _right_changes(self, epoch: EpochContext, delta: str) -> list[str]:
        """`A_new join dB`; where the left side is preserved, touched keys before and after instead."""
        if self._kind in ("inner", "right"):
            return [self._select(self._left, delta, self._kind, "r.d")]
        touched = self._touched(epoch, delta, 1)
        left = self._restricted(0, touched)
        return [
            self._select(left, self._restricted(1, touched), self._kind, "-1"),
            self._select(left, self._restricted(1, touched, delta), self._kind, "1"),
        ]

    def _touched(self, epoch: EpochContext, delta: str, side: int) -> str:
        """The join keys of a change, as a table with k0 ..; empty text if the join has no keys."""
        if not self._pairs:
            return ""
        items = ", ".join(f"{render(pair[side])} AS k{i}" for i, pair in enumerate(self._pairs))
        return epoch.temp(f"SELECT DISTINCT {items} FROM {delta} AS t")[0]

    def _restricted(self, side: int, touched: str, change: str = "") -> str:
        """One side's state, only rows with touched keys, and as it is after `change`."""
        state = self._left if side == 0 else self._right
        rows = f"(SELECT * FROM {state} AS s{self._semi(side, touched)})" if touched else state
        if not change:
            return rows
        names = column_list(len(self.inputs[side].types))
        return (
            f"(SELECT {names} FROM (SELECT {names}, 1 AS d FROM {rows} AS a UNION ALL SELECT {names}, d FROM {change}) AS u"
            f" GROUP BY {names} HAVING sum(d) > 0)"
        )

    def _semi(self, side: int, touched: str) -> str:
        on = " AND ".join(f"{render(pair[side], 's')} IS NOT DISTINCT FROM x.k{i}" for i, pair in enumerate(self._pairs))
        return f" SEMI JOIN {touched} AS x ON {on}"

    def _select(self, left: str, right: str, kind: str, diff: str) -> str:
        change = f"CAST({diff} AS TINYINT)"
        if kind == "full":
            right = f"(SELECT *, true AS here FROM {right} AS h)"
            change = f"r.here IS NULL AS c{len(self._order)}, {change}"
        return render_join(self.inputs[0].visible, self._order, left, right, kind, self._condition, change)

    def details(self) -> str:
        return f"{self._kind} on {', '.join(f'{render(a)} = {render(b)}' for a, b in self._pairs) or 'true'}"


class join_columns:  # noqa: N801  a small computed record, used like a function
    """Where the inputs' columns go in a join's output."""

    def __init__(self, left: Operator, right: Operator, half: bool) -> None:
        sides = [("l", left, range(left.visible)), ("r", right, range(right.visible))]
        hidden = [("l", left, range(left.visible, len(left.types))), ("r", right, range(right.visible, len(right.types)))]
        if half:
            sides, hidden = sides[:1], hidden[:1]
        self.order: list[tuple[str, int]] = [(name, p) for name, _, span in sides + hidden for p in span]
        by_side = {"l": left, "r": right}
        self.types = tuple(by_side[name].types[p] for name, p in self.order)
        self.visible = sum(len(span) for _, _, span in sides)
        self.left = {p: i for i, (name, p) in enumerate(self.order) if name == "l"}
        self.right = {p: i for i, (name, p) in enumerate(self.order) if name == "r"}
        self.key = tuple(self.left[p] for p in left.key) + (tuple(self.right[p] for p in right.key) if not half else ())


def render_join(
    left_visible: int, order: Sequence[tuple[str, int]], left: str, right: str, kind: str, condition: Expr | None, diff: str
) -> str:
    """SELECT of a join of two FROM items with the output's column order and a diff."""

    def name_of(index: int) -> str:
        return f"l.c{index}" if index < left_visible else f"r.c{index - left_visible}"

    items = ", ".join(f"{side}.c{p} AS c{i}" for i, (side, p) in enumerate(order))
    on = render(condition, name_of) if condition is not None else "true"
    return f"SELECT {items}, {diff} AS d FROM {left} AS l {kind.upper()} JOIN {right} AS r ON {on}"
