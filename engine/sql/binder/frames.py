"""Window frames: ROWS and RANGE as DuckDB text, SESSION as its gap.

Source: RisingWave documentation, "Window function calls"; PostgreSQL documentation, 4.2.8 (which bounds may meet).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlglot import exp

from engine.sql.binder.scope import position_of
from engine.sql.errors import SqlError, UnsupportedQuery
from engine.sql.expressions import Expr, Literal, OrderKey, render
from engine.sql.intervals import parse_interval
from engine.sql.types import INT8, INTERVAL, UNKNOWN

Bind = Callable[[exp.Expr], Expr]
_TIMES = ("timestamp", "timestamptz", "date", "time")
_INTEGERS = ("int2", "int4", "int8")


@dataclass(frozen=True)
class Frame:
    """`text` is DuckDB's frame clause, empty for the default; `gap` is the constant of `SESSION WITH GAP`."""

    text: str = ""
    gap: Expr | None = None


def bind_frame(spec: exp.Expr | None, order: Sequence[OrderKey], bind: Bind) -> Frame:
    """`ROWS BETWEEN 1 PRECEDING AND CURRENT ROW` and the like.

    Raises:
        UnsupportedQuery: a frame that we cannot maintain.
        SqlError: bounds that contradict each other, or do not fit the ORDER BY.
    """
    if spec is None:
        return Frame()
    kind = str(spec.args.get("kind") or "").upper()
    if kind == "SESSION":
        return Frame(gap=_gap(spec, order, bind))
    if kind not in ("ROWS", "RANGE"):
        raise UnsupportedQuery(f"`{kind}` frames are not supported", position=position_of(spec), fix="Write ROWS or RANGE.")
    start, start_place = _bound(spec, "start", kind, order, bind)
    end, end_place = ("CURRENT ROW", 0) if spec.args.get("end") is None else _bound(spec, "end", kind, order, bind)
    if start_place == 2 or end_place == -2 or start_place > end_place:
        raise SqlError(f"a frame cannot begin at {start} and end at {end}", position=position_of(spec), sqlstate="42P20")
    return Frame(f"{kind} BETWEEN {start} AND {end}{_exclusion(spec)}")


def _exclusion(spec: exp.Expr) -> str:
    exclude = spec.args.get("exclude")
    words = exclude.name if exclude is not None else "NO OTHERS"
    if words in ("GROUP", "TIES"):
        raise UnsupportedQuery(
            f"EXCLUDE {words} is not supported",
            position=position_of(spec),
            fix="Write EXCLUDE CURRENT ROW or EXCLUDE NO OTHERS.",
        )
    return "" if words == "NO OTHERS" else f" EXCLUDE {words}"


def _bound(spec: exp.Expr, name: str, kind: str, order: Sequence[OrderKey], bind: Bind) -> tuple[str, int]:
    """The text, and where it lies: -2 unbounded preceding, -1, 0 the current row, 1, 2."""
    value, side = spec.args.get(name), str(spec.args.get(f"{name}_side") or "PRECEDING")
    direction = -1 if side == "PRECEDING" else 1
    if isinstance(value, exp.Expr):
        shown = _rows(value) if kind == "ROWS" else _distance(value, order, bind)
        return f"{shown} {side}", direction
    text = str(value or "CURRENT ROW").upper()
    return (text, 0) if text == "CURRENT ROW" else (f"{text} {side}", 2 * direction)


def _rows(value: exp.Expr) -> str:
    if not isinstance(value, exp.Literal) or value.is_string or not str(value.this).isdigit():
        raise UnsupportedQuery("a frame bound must be a constant number of rows", position=position_of(value))
    return str(value.this)


def _distance(value: exp.Expr, order: Sequence[OrderKey], bind: Bind) -> str:
    """The offset of a RANGE bound, in the unit of the one ORDER BY key."""
    if len(order) != 1:
        raise SqlError(
            "RANGE with an offset requires exactly one ORDER BY column", position=position_of(value), sqlstate="42P20"
        )
    return render(_constant(value, order[0], bind, "RANGE"))


def _gap(spec: exp.Expr, order: Sequence[OrderKey], bind: Bind) -> Expr:
    if len(order) != 1 or order[0].descending:
        raise SqlError(
            "SESSION WITH GAP requires exactly one ORDER BY column, ascending", position=position_of(spec), sqlstate="42P20"
        )
    if spec.args.get("exclude") is not None and spec.args["exclude"].name != "NO OTHERS":
        raise UnsupportedQuery("EXCLUDE is not supported with SESSION WITH GAP", position=position_of(spec))
    return _constant(spec.args["start"], order[0], bind, "SESSION WITH GAP")


def _constant(value: exp.Expr, key: OrderKey, bind: Bind, what: str) -> Expr:
    bound = bind(value)
    name = key.expr.type.name
    if isinstance(bound, Literal) and bound.type == UNKNOWN and bound.value is not None:
        bound = _typed(str(bound.value), name, position_of(value)) or bound
    fits = (name in _TIMES and bound.type == INTERVAL) or (name in _INTEGERS and bound.type.name in _INTEGERS)
    if not fits:
        raise UnsupportedQuery(
            f"{what} over {key.expr.type} with an offset of type {bound.type} is not supported",
            position=position_of(value),
            fix="Order by a time and write an INTERVAL, or by an integer and write an integer.",
        )
    if not isinstance(bound, Literal) or bound.value is None:
        raise SqlError(f"the offset of {what} must be a constant", position=position_of(value), sqlstate="42P20")
    if isinstance(bound.value, int) and bound.value < 0:
        raise SqlError("a frame offset must not be negative", position=position_of(value), sqlstate="22013")
    return bound


def _typed(text: str, key: str, position: int | None) -> Literal | None:
    """An offset without a type, in the type that its ORDER BY key asks for; None where the text is none."""
    if key in _TIMES:
        return Literal(INTERVAL, parse_interval(text, None, position))
    return Literal(INT8, int(text)) if key in _INTEGERS and text.strip().isdigit() else None
