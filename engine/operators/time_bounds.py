"""What a join condition says about the times of its two sides, for watermarks and for dropping state.

From `l.t >= r.t - INTERVAL '5 minutes'` follows: a left row that is still to come out, for a right row that is still to come, has
l.t at least the right watermark less five minutes; and a left row below that will never meet a new right row.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection
from dataclasses import dataclass

from engine.operators.base import Watermarks
from engine.sql.expressions import Call, Column, Expr, Literal, conjuncts
from engine.sql.intervals import Interval

_MIRRORED = {"=": "=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}


@dataclass(frozen=True)
class TimeBound:
    """`left >= right + offset` if `at_least`, else `left <= right + offset`; columns by each side's own positions."""

    left: int
    right: int
    offset: dt.timedelta
    at_least: bool


def time_bounds(
    condition: Expr | None, width: int, left_marked: Collection[int], right_marked: Collection[int]
) -> tuple[TimeBound, ...]:
    """All bounds between watermark columns that a condition over left's, then right's columns implies."""
    found: list[TimeBound] = []
    for part in conjuncts(condition) if condition is not None else []:
        if not isinstance(part, Call) or part.name not in _MIRRORED or len(part.args) != 2:
            continue
        a, b, sign = _moment(part.args[0]), _moment(part.args[1]), part.name
        if a is None or b is None:
            continue
        if a[0] >= width:
            a, b, sign = b, a, _MIRRORED[sign]
        left, right = a[0], b[0] - width
        if left >= width or right < 0 or left not in left_marked or right not in right_marked:
            continue
        offset = b[1] - a[1]
        if sign != "<" and sign != "<=":
            found.append(TimeBound(left, right, offset, at_least=True))
        if sign != ">" and sign != ">=":
            found.append(TimeBound(left, right, offset, at_least=False))
    return tuple(found)


def _moment(expr: Expr) -> tuple[int, dt.timedelta] | None:
    """A column with constant intervals added, as (column, sum)."""
    if isinstance(expr, Column):
        return expr.index, dt.timedelta()
    if isinstance(expr, Call) and expr.name in ("+", "-") and len(expr.args) == 2 and isinstance(expr.args[1], Literal):
        inner, value = _moment(expr.args[0]), expr.args[1].value
        if inner is None or not isinstance(value, Interval) or value.fixed_us is None:
            return None
        step = dt.timedelta(microseconds=value.fixed_us)
        return inner[0], inner[1] + step if expr.name == "+" else inner[1] - step
    return None


def outgoing(
    bounds: tuple[TimeBound, ...], left: Watermarks, right: Watermarks
) -> tuple[dict[int, dt.datetime], dict[int, dt.datetime]]:
    """Watermarks of the join's output, for left's and right's columns: what an old row of the one side and a new row of the other
    may still give."""
    reached = dead_before(bounds, left, right)
    return (
        {column: min(left[column], mark) for column, mark in reached[0].items() if column in left},
        {column: min(right[column], mark) for column, mark in reached[1].items() if column in right},
    )


def dead_before(
    bounds: tuple[TimeBound, ...], left: Watermarks, right: Watermarks
) -> tuple[dict[int, dt.datetime], dict[int, dt.datetime]]:
    """For each side the times below which a row meets nothing new."""
    lefts: dict[int, dt.datetime] = {}
    rights: dict[int, dt.datetime] = {}
    for bound in bounds:
        if bound.at_least and bound.right in right:
            mark = _shifted(right[bound.right], bound.offset)
            lefts[bound.left] = max(mark, lefts.get(bound.left, mark))
        if not bound.at_least and bound.left in left:
            mark = _shifted(left[bound.left], -bound.offset)
            rights[bound.right] = max(mark, rights.get(bound.right, mark))
    return lefts, rights


def _shifted(moment: dt.datetime, by: dt.timedelta) -> dt.datetime:
    """A moment within what a Python datetime can hold: a row from the year 1 or 9999 must not stop an epoch."""
    try:
        return moment + by
    except OverflowError:
        return dt.datetime.min if by < dt.timedelta() else dt.datetime.max  # noqa: DTZ901  naive UTC, as all instants inside
