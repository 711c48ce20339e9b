"""Window functions with EMIT ON WINDOW CLOSE: a row goes out once, when its frame is complete, and is never revised.

Append-only out of append-only, ordered by a watermark column. A row is closed when the watermark has passed it; its frame is
complete when as many closed rows follow as the frame looks ahead. Where every frame begins a known number of rows before, only
those rows are kept of what went out.

Source: RisingWave documentation, "Emit on window close".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from engine.operators.base import (
    Delta,
    EpochContext,
    Operator,
    StateTable,
    column_list,
    columns,
    no_change,
    same_key,
    store,
)
from engine.plan.batch import render_over
from engine.sql.errors import UnsupportedQuery
from engine.sql.expressions import Column, Literal, WindowCall, render, render_literal
from engine.sql.types import TIMESTAMP

_FRAME = re.compile(r"(ROWS|RANGE) BETWEEN (.+?) AND (.+?)(?: EXCLUDE .+)?$")


class WindowCloseOver(Operator):
    """Columns: the input's visible ones, one a call, then the hidden ones. State: `rows`, the input and whether it went out."""

    def __init__(self, source: Operator, calls: tuple[WindowCall, ...], time_column: int) -> None:
        self.inputs = (source,)
        self._calls = calls
        self._time = time_column
        width = source.visible
        self.types = (*source.types[:width], *(c.type for c in calls), *source.types[width:])
        self.visible = width + len(calls)
        self._moved = {p: p if p < width else p + len(calls) for p in range(len(source.types))}
        self.key = tuple(self._moved[p] for p in source.key)
        self.append_only = True
        self.watermarked = frozenset({self._moved[time_column]})
        self._back = _most(_rows_back(call) for call in calls)
        self._rows = ""
        for call in calls:
            self._complete(call, "TIMESTAMP '2000-01-01'")  # refuses what never completes

    @staticmethod
    def time_of(source: Operator, calls: tuple[WindowCall, ...]) -> int | None:
        """The watermark column that all calls are ordered by; None if they are not."""
        orders = {call.order_by for call in calls}
        (order,) = orders if len(orders) == 1 else ((),)
        if not source.append_only or len(order) != 1 or order[0].descending or not isinstance(order[0].expr, Column):
            return None
        return order[0].expr.index if order[0].expr.index in source.watermarked else None

    def name_state(self, prefix: str) -> None:
        self._rows = f"{prefix}_rows"

    def state(self) -> tuple[StateTable, ...]:
        return (StateTable(self._rows, self.inputs[0].types, (("sent", "BOOLEAN"),)),)

    def step(self, epoch: EpochContext, deltas: Sequence[Delta]) -> Delta:
        (delta,) = deltas
        source = self.inputs[0]
        width = len(source.types)
        if not delta.empty:
            epoch.execute(f"INSERT INTO {self._rows} SELECT {column_list(width)}, false FROM {delta.source} AS t")
        moment = delta.watermarks.get(self._time)
        if moment is None:
            return no_change()
        result = store(epoch, self._closed(render_literal(moment, TIMESTAMP)))
        if not result.empty:
            on = same_key(self._rows, "x", source.key, self.key)
            epoch.execute(f"UPDATE {self._rows} SET sent = true FROM {result.source} AS x WHERE {on}")
            self._forget(epoch)
        # Rows before the watermark may still wait for their frame: what goes out later is at least the first of them.
        waiting = epoch.fetch(f"SELECT min(c{self._time}) AS m FROM {self._rows} WHERE NOT sent").column("m")[0].as_py()
        mark = moment if waiting is None else min(moment, waiting)
        return Delta(result.source, result.empty, {self._moved[self._time]: mark})

    def _closed(self, moment: str) -> str:
        source = self.inputs[0]
        width = len(source.types)
        keys = tuple(f"c{p}" for p in source.key)
        closed = f"(SELECT * FROM {self._rows} WHERE c{self._time} < {moment})"
        parts = ", ".join(render(e) for e in self._calls[0].partition_by)
        by = f"PARTITION BY {parts} " if parts else ""
        ahead = f"row_number() OVER ({by}ORDER BY c{self._time} DESC, {', '.join(f'{k} DESC' for k in keys)}) - 1 AS ahead"
        hidden = [f"c{p} AS c{self._moved[p]}" for p in range(source.visible, width)]
        items = [*columns(source.visible), *hidden, "sent", "ahead"]
        computed = render_over(f"(SELECT *, {ahead} FROM {closed} AS t)", self._calls, items, source.visible, keys)
        time = f"c{self._moved[self._time]}"
        complete = " AND ".join(self._complete(call, moment) for call in self._calls)
        names = column_list(len(self.types))
        return f"SELECT {names}, CAST(1 AS TINYINT) AS d FROM ({computed}) AS w WHERE NOT sent AND {complete} ORDER BY {time}"

    def _complete(self, call: WindowCall, moment: str) -> str:
        """Whether no later row can change the call's value."""
        time = f"c{self._moved[self._time]}"
        if call.gap is not None:
            raise UnsupportedQuery(
                "SESSION frames with EMIT ON WINDOW CLOSE are not supported yet", fix="Leave EMIT ON WINDOW CLOSE out."
            )
        if call.name == "lead":
            return f"ahead >= {_offset(call)}"
        if call.name in ("row_number", "rank", "dense_rank", "lag") or not call.frame:
            return "true" if call.order_by else "false"
        found = _FRAME.match(call.frame)
        end = found.group(3) if found else ""
        if end == "UNBOUNDED FOLLOWING":
            raise UnsupportedQuery(
                "a frame that ends at UNBOUNDED FOLLOWING never closes",
                fix="End it at CURRENT ROW or a number of rows FOLLOWING.",
            )
        if end.endswith("FOLLOWING"):
            amount = end.removesuffix(" FOLLOWING")
            return f"{time} + {amount} < {moment}" if call.frame.startswith("RANGE") else f"ahead >= {amount}"
        return "true"

    def _forget(self, epoch: EpochContext) -> None:
        if self._back is None:
            return
        source = self.inputs[0]
        parts = ", ".join(render(e) for e in self._calls[0].partition_by)
        by = f"PARTITION BY {parts} " if parts else ""
        keys = ", ".join(f"c{p} DESC" for p in source.key)
        age = f"row_number() OVER ({by}ORDER BY c{self._time} DESC, {keys}) AS age"
        old = f"(SELECT * FROM (SELECT *, {age} FROM {self._rows} WHERE sent) AS a WHERE age > {self._back})"
        epoch.execute(f"DELETE FROM {self._rows} USING {old} AS x WHERE {same_key(self._rows, 'x', source.key)}")

    def details(self) -> str:
        return ", ".join(c.name for c in self._calls)


def _offset(call: WindowCall) -> int:
    if len(call.args) < 2:
        return 1
    value = call.args[1].value if isinstance(call.args[1], Literal) else None
    if not isinstance(value, int) or value < 0:
        raise UnsupportedQuery(f"the offset of {call.name} must be a constant with EMIT ON WINDOW CLOSE", fix="Write a number.")
    return value


def _rows_back(call: WindowCall) -> int | None:
    """How many rows before the current one the call looks at; None if that is not known."""
    if call.name == "lag":
        return _offset(call)
    if call.name == "lead":
        return 0
    found = _FRAME.match(call.frame)
    if call.gap is not None or found is None or found.group(1) != "ROWS" or call.ignore_nulls:
        return None
    start = found.group(2)
    if start.endswith("PRECEDING"):
        amount = start.removesuffix(" PRECEDING")
        return int(amount) if amount.isdigit() else None
    return 0


def _most(amounts: Iterable[int | None]) -> int | None:
    """The largest, None if one is not known."""
    most = 0
    for amount in amounts:
        if amount is None:
            return None
        most = max(most, amount)
    return most
