"""Dynamic filter: rows beyond a value that is a query of its own, `time > (SELECT max(time) - INTERVAL '1 hour' FROM t)`.

With a the bound of the last epoch and b the one of this epoch, what goes out is

    state rows between a and b  +  change beyond b

so a moving bound costs the rows that it passes, not those that stay. Where it only ever rises (the maximum of append-only
input), a row that it has passed is forgotten; its retraction, should it come, does not pass and is dropped. That is what makes
a sliding window of event time: it holds the rows of the window and no others.

Source: RisingWave documentation, "Dynamic filters"; its `StreamDynamicFilter`, snapshot of August 2026.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

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
from engine.operators.monotone import time_column
from engine.sql.expressions import Call, Column, Expr, columns_of, is_volatile, render_lenient, render_literal, transform
from engine.sql.types import DATE, INT2, INT4, INT8, TIMESTAMP, TIMESTAMPTZ

_MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
_ORDERED = (TIMESTAMP, TIMESTAMPTZ, DATE, INT2, INT4, INT8)
"""Types whose values Python orders as SQL does, so that the rows between two bounds are a range."""

type_bound = dt.date | int
"""A timestamp is a date too."""


@dataclass(frozen=True)
class Comparison:
    """`value sign bound`: `value` over the left side's columns, `bound` over the right side's own."""

    value: Expr
    sign: str
    bound: Expr


def comparison(condition: Expr | None, left_width: int) -> Comparison | None:
    """The condition as a comparison of one side with the other, if it is that and no more."""
    if not isinstance(condition, Call) or condition.name not in _MIRRORED or is_volatile(condition):
        return None
    value, bound = condition.args
    sign = condition.name
    if columns_of(value) and min(columns_of(value)) >= left_width:
        value, bound, sign = bound, value, _MIRRORED[sign]
    sides = columns_of(value), columns_of(bound)
    if not all(sides) or max(sides[0]) >= left_width or min(sides[1]) < left_width:
        return None
    if value.type not in _ORDERED or bound.type not in _ORDERED:
        return None
    moved = transform(bound, lambda e: Column(e.type, e.index - left_width) if isinstance(e, Column) else None)
    return Comparison(value, sign, moved)


class DynamicFilter(Operator):
    """Columns: the left input's. State: `rows`, its rows that may pass; `bound`, the right input's value (one row, or none).

    Args:
        right: gives at most one row.
    """

    def __init__(self, left: Operator, right: Operator, condition: Comparison) -> None:
        self.inputs = (left, right)
        self._value, self._sign, self._bound = condition.value, condition.sign, condition.bound
        self.types, self.visible, self.key = left.types, left.visible, left.key
        self.watermarked = left.watermarked
        rises = time_column(self._bound, right.rising) is not None
        self._forgets = rises and self._sign in (">", ">=")
        self.append_only = left.append_only and rises and not self._forgets
        self._rows = self._bounds = ""

    def name_state(self, prefix: str) -> None:
        self._rows, self._bounds = f"{prefix}_rows", f"{prefix}_bound"

    def state(self) -> tuple[StateTable, ...]:
        return (StateTable(self._rows, self.types), StateTable(self._bounds, (self._bound.type,)))

    def step(self, epoch: EpochContext, deltas: Sequence[Delta]) -> Delta:
        left = self.inputs[0]
        width, names = len(self.types), column_list(len(self.types))
        marks = deltas[0].watermarks
        before, after = self._move(epoch, deltas[1])
        incoming = stored_input(epoch, deltas[0], left)
        parts = []
        crossing = self._crossing(before, after)
        if crossing is not None:
            where, diff = crossing
            parts.append(f"SELECT {names}, {diff} AS d FROM {self._rows} AS t WHERE {where}")
        if incoming is not None and after is not None:
            parts.append(f"SELECT {names}, d FROM {incoming} AS t WHERE {self._passes(after)}")
        if not parts:
            result = no_change(marks)
        else:
            # Nothing can cancel out where no row was there before: what came and passes.
            fresh = crossing is None and (left.append_only or deltas[0].grows)
            union = " UNION ALL ".join(parts)
            name, count = epoch.temp(union) if fresh else consolidate(epoch, union, width)
            result = Delta(name, count == 0, marks, grows=fresh)
        if incoming is not None:
            kept = f"(SELECT {names}, d FROM {incoming} AS t WHERE {self._passes(after)})" if self._drops(after) else incoming
            apply_to_state(epoch, self._rows, kept, width, left.key, left.append_only or deltas[0].grows)
        if self._drops(after) and self.cleaning_due(epoch.number):
            epoch.execute(f"DELETE FROM {self._rows} AS t WHERE ({self._passes(after)}) IS NOT TRUE")
        return result

    def _move(self, epoch: EpochContext, change: Delta) -> tuple[type_bound | None, type_bound | None]:
        """The bound before and after this epoch; None lets nothing pass."""
        stored = f"SELECT c0, 0 AS d FROM {self._bounds}"
        if change.empty:
            found = epoch.fetch_rows(stored)
            before = found[0][0] if found else None
            return before, before
        new = f"SELECT {render_lenient(self._bound)} AS c0, CAST(d AS INTEGER) AS d FROM {change.source} AS t"
        found = epoch.fetch_rows(f"{stored} UNION ALL {new}")
        before = next((value for value, d in found if d == 0), None)
        came = [value for value, d in found if d > 0]
        went = any(d < 0 for _, d in found)
        after = came[0] if came else (None if went else before)
        if after != before:
            epoch.execute(f"DELETE FROM {self._bounds}")
            if after is not None:
                epoch.execute(f"INSERT INTO {self._bounds} VALUES ({render_literal(after, self._bound.type)})")
        return before, after

    def _passes(self, bound: type_bound | None) -> str:
        """A condition that is false or NULL for what does not pass."""
        assert bound is not None
        return f"{render_lenient(self._value)} {self._sign} {render_literal(bound, self._bound.type)}"

    def _drops(self, bound: type_bound | None) -> bool:
        """Whether what does not pass now never will."""
        return self._forgets and bound is not None

    def _crossing(self, before: type_bound | None, after: type_bound | None) -> tuple[str, int] | None:
        """Which stored rows change sides, and with which sign; None if the bound stands still."""
        if before == after:
            return None
        if before is None or after is None:
            return self._passes(after if before is None else before), 1 if before is None else -1
        value = render_lenient(self._value)
        rises = before < after  # type: ignore[operator]  # both of the bound's type
        low, high = (render_literal(each, self._bound.type) for each in ((before, after) if rises else (after, before)))
        inclusive = self._sign in (">=", "<")  # whether the lower bound itself changes sides
        between = f"{value} >= {low} AND {value} < {high}" if inclusive else f"{value} > {low} AND {value} <= {high}"
        enters = rises == (self._sign in ("<", "<="))
        return between, 1 if enters else -1

    def details(self) -> str:
        return f"{render_lenient(self._value)} {self._sign} {render_lenient(self._bound)}{', forgets' if self._forgets else ''}"
