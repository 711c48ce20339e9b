"""Temporal filter: conditions on now(), true for a row today and false tomorrow, without any input.

now() is the time of the barrier. With v0, v1 whether a row passes at the last and at this barrier, what goes out is

    state * (v1 - v0)  +  change * v1

A row that has expired for good (`t > now() - INTERVAL '1 hour'` only ever turns false) is forgotten; its retraction, should it
come, does not pass and is dropped. The operator says when the next row changes sides, and the engine wakes for it.

Source: RisingWave documentation, "Temporal filters".
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

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
from engine.sql.expressions import Call, Cast, Expr, Literal, columns_of, render_lenient, render_literal, transform, walk
from engine.sql.intervals import Interval
from engine.sql.types import TIMESTAMP, TIMESTAMPTZ

_EPOCH = dt.datetime(1970, 1, 1)  # noqa: DTZ001  instants inside the engine are naive UTC
_MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
_POLL_MS = 1000


def is_now(expr: Expr) -> bool:
    return isinstance(expr, Call) and expr.name in ("now", "current_timestamp") and not expr.args


def uses_only_now(expr: Expr) -> bool:
    """Whether now() is all that makes it change."""
    volatile = [e for e in walk(expr) if (isinstance(e, Call) and e.volatile)]
    return bool(volatile) and all(is_now(e) for e in volatile)


class NowFilter(Operator):
    """State: `rows`, the input that has not expired; `moment`, now() of the last barrier (one row).

    Attributes:
        next_wake: unix milliseconds at which the output changes without input; None if it never does.
    """

    def __init__(self, source: Operator, parts: Sequence[Expr]) -> None:
        self.inputs = (source,)
        self._parts = tuple(parts)
        self.types, self.visible, self.key = source.types, source.visible, source.key
        self.watermarked = source.watermarked
        self._sides = [_side(part) for part in self._parts]
        self.append_only = source.append_only and all(side is not None and side.sign in ("<", "<=") for side in self._sides)
        self.next_wake: int | None = 0
        self._rows = self._moment = ""

    def name_state(self, prefix: str) -> None:
        self._rows, self._moment = f"{prefix}_rows", f"{prefix}_moment"

    def state(self) -> tuple[StateTable, ...]:
        return (StateTable(self._rows, self.types), StateTable(self._moment, (TIMESTAMP,)))

    def step(self, epoch: EpochContext, deltas: Sequence[Delta]) -> Delta:
        source = self.inputs[0]
        width, names = len(self.types), column_list(len(self.types))
        now = _EPOCH + dt.timedelta(milliseconds=epoch.now_ms)
        stored = epoch.fetch(f"SELECT c0 FROM {self._moment}").column("c0").to_pylist()
        before, after = self._passes(stored[0] if stored else now), self._passes(now)
        crossing = f"SELECT {names}, CASE WHEN {after} THEN 1 ELSE -1 END AS d FROM {self._rows} AS t WHERE {after} <> {before}"
        incoming = stored_input(epoch, deltas[0], source)
        select = crossing
        if incoming is not None:
            select += f" UNION ALL SELECT {names}, d FROM {incoming} AS t WHERE {after}"
        changed, count = consolidate(epoch, select, width)
        if incoming is not None:
            apply_to_state(epoch, self._rows, incoming, width, source.key, source.append_only)
        gone = [
            self._at(part, now)
            for part, side in zip(self._parts, self._sides, strict=True)
            if side and side.sign in (">", ">=")
        ]
        if gone:
            epoch.execute(f"DELETE FROM {self._rows} AS t WHERE NOT ({' AND '.join(gone)})")
        epoch.execute(f"DELETE FROM {self._moment}")
        epoch.execute(f"INSERT INTO {self._moment} VALUES ({render_literal(now, TIMESTAMP)})")
        self.next_wake = self._next(epoch, now)
        if not count:
            return no_change(deltas[0].watermarks)
        return Delta(changed, watermarks=deltas[0].watermarks)

    def _passes(self, moment: dt.datetime) -> str:
        return f"({' AND '.join(self._at(part, moment) for part in self._parts)})"

    def _at(self, part: Expr, moment: dt.datetime) -> str:
        """A condition with now() replaced; NULL is false."""
        fixed = Literal(TIMESTAMPTZ, moment)
        return f"coalesce({render_lenient(transform(part, lambda e: fixed if is_now(e) else None))}, false)"

    def _next(self, epoch: EpochContext, now: dt.datetime) -> int | None:
        """When the first stored row changes sides: exactly where the condition is `value < now() +- constant`."""
        known = [side for side in self._sides if side is not None and side.crossing is not None]
        if len(known) < len(self._sides):
            found = epoch.fetch(f"SELECT count(*) AS n FROM {self._rows}")
            return epoch.now_ms + _POLL_MS if found.column("n")[0].as_py() else None
        moment = render_literal(now, TIMESTAMP)
        firsts = []
        for side in known:
            # `>` and `<=` change in the moment itself, the others behind it.
            late = side.sign in (">=", "<")
            firsts.append(
                f"min(CASE WHEN {side.crossing} {'>=' if late else '>'} {moment} THEN epoch_us({side.crossing}) + {late:d} END)"
            )
        first = f"least({', '.join(firsts)})" if len(firsts) > 1 else firsts[0]
        wake = epoch.fetch(f"SELECT {first} AS n FROM {self._rows} AS t").column("n")[0].as_py()
        return None if wake is None else -(-int(wake) // 1000)

    def details(self) -> str:
        return f"{len(self._parts)} conditions on now()"


class _Side:
    """One condition as `value sign f(now())`, f growing with time.

    Attributes:
        sign: `>` and `>=` turn false for good, `<` and `<=` turn true for good.
        crossing: SQL of the moment at which a row changes sides; None where it cannot be said.
    """

    def __init__(self, sign: str, crossing: str | None) -> None:
        self.sign = sign
        self.crossing = crossing


def _side(part: Expr) -> _Side | None:
    if not isinstance(part, Call) or part.name not in _MIRRORED or len(part.args) != 2:
        return None
    value, bound, sign = part.args[0], part.args[1], part.name
    if any(is_now(e) for e in walk(value)):
        value, bound, sign = bound, value, _MIRRORED[sign]
    if any(is_now(e) for e in walk(value)) or columns_of(bound) or not _grows(bound):
        return None
    back = _inverted(bound)
    return _Side(
        sign, f"({render_lenient(value)}{back})" if back is not None and value.type in (TIMESTAMP, TIMESTAMPTZ) else None
    )


def _grows(bound: Expr) -> bool:
    """Whether it never falls while now() grows."""
    if is_now(bound):
        return True
    if isinstance(bound, Cast):
        return _grows(bound.arg)
    if isinstance(bound, Call) and bound.name in ("+", "-"):
        return _grows(bound.args[0]) and isinstance(bound.args[1], Literal)
    if isinstance(bound, Call) and bound.name == "date_trunc":
        return isinstance(bound.args[0], Literal) and _grows(bound.args[1])
    return False


def _inverted(bound: Expr) -> str | None:
    """What turns the value at which `bound` is reached into now(): ` + INTERVAL ..` for `now() - INTERVAL ..`."""
    if is_now(bound):
        return ""
    if isinstance(bound, Call) and bound.name in ("+", "-") and isinstance(bound.args[1], Literal):
        inner = _inverted(bound.args[0])
        if not isinstance(bound.args[1].value, Interval) or bound.args[1].value.fixed_us is None:
            return None  # months differ in length
        return None if inner is None else f" {'-' if bound.name == '+' else '+'} {render_lenient(bound.args[1])}{inner}"
    return None
