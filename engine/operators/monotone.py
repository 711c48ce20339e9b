"""Expressions that keep the order of time: what a watermark says of a column, it says of them too.

`date_trunc('minute', ts)`, `ts + interval '1 hour'`, and the like: no later row has a smaller value than the expression has
at the watermark.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection

from engine.operators.base import EpochContext
from engine.sql.expressions import Call, Column, Expr, Literal, render, transform
from engine.sql.types import TIMESTAMP, TIMESTAMPTZ

_TIMES = (TIMESTAMP, TIMESTAMPTZ)


def time_column(expr: Expr, watermarked: Collection[int]) -> int | None:
    """The watermarked column that the expression follows, or None."""
    if isinstance(expr, Column):
        return expr.index if expr.index in watermarked else None
    if not isinstance(expr, Call) or expr.type not in _TIMES or len(expr.args) != 2:
        return None
    first, second = expr.args
    if expr.name == "date_trunc" and isinstance(first, Literal):
        return time_column(second, watermarked)
    if expr.name in ("+", "-") and isinstance(second, Literal) and first.type == expr.type:
        return time_column(first, watermarked)
    if expr.name == "+" and isinstance(first, Literal) and second.type == expr.type:
        return time_column(second, watermarked)
    return None


def value_at(epoch: EpochContext, expr: Expr, moment: dt.datetime) -> dt.datetime | None:
    """What the expression is where its column is `moment`."""
    fixed = transform(expr, lambda e: Literal(e.type, moment) if isinstance(e, Column) else None)
    ((value,),) = epoch.fetch_rows(f"SELECT TRY({render(fixed)})")
    return value if isinstance(value, dt.datetime) else None
