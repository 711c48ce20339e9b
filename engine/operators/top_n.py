"""ORDER BY with LIMIT: the first rows of all.

Kept in order is only the head: the first rows, some more than are asked for. A change behind the head's last row cannot move
the result, and one in it is decided in it, so an epoch costs the head and not the input. Rows that may be retracted are kept
as well; they are read when retractions have used the head up.

    head   [ 1 2 3 ... limit | spare ... ]  <- all rows up to its last one, and nothing behind it
    rows   [ everything that may be retracted ]   read only when fewer than `limit` are left in the head
"""

from __future__ import annotations

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
    same_key,
    stored_input,
)
from engine.plan.batch import render_order_limit
from engine.sql.expressions import OrderKey, render, render_order

_SPARE = 1_000  # so many retractions of first rows are needed before the input is read again; ranking them costs a millisecond


class TopN(Operator):
    """State: `head`, with `more`: whether there are rows behind it; `rows`, the input, only where it may retract."""

    def __init__(
        self, source: Operator, order_by: tuple[OrderKey, ...], limit: int | None, offset: int, with_ties: bool
    ) -> None:
        self.inputs = (source,)
        self._order_by, self._limit, self._offset, self._with_ties = order_by, limit, offset, with_ties
        self.types, self.visible, self.key = source.types, source.visible, source.key
        self._keys = tuple(f"c{p}" for p in self.key)
        # Rows that tie stay together where they go out together.
        order = [render_order(key, render) for key in order_by] + ([] if with_ties else list(self._keys))
        self._order = ", ".join(order) or "true"
        self._need = None if limit is None else max(1, limit + offset)
        self._again = self._need is not None and not source.append_only
        self._head = self._rows = ""

    def name_state(self, prefix: str) -> None:
        self._head, self._rows = f"{prefix}_head", f"{prefix}_rows"

    def state(self) -> tuple[StateTable, ...]:
        head = StateTable(self._head, self.types, (("more", "BOOLEAN"),))
        return (head, StateTable(self._rows, self.types)) if self._again else (head,)

    def step(self, epoch: EpochContext, deltas: Sequence[Delta]) -> Delta:
        source = self.inputs[0]
        width = len(self.types)
        incoming = stored_input(epoch, deltas[0], source)
        if incoming is None:
            return no_change()
        grows = source.append_only or deltas[0].grows
        if self._again:
            apply_to_state(epoch, self._rows, incoming, width, source.key, grows)
        ranked, _ = epoch.temp(self._ranked(incoming, grows))
        ((kept, left, came, more),) = epoch.fetch_rows(
            f"SELECT count(*) FILTER (WHERE stays), count(*) FILTER (WHERE old AND NOT stays),"
            f" count(*) FILTER (WHERE NOT old AND stays), coalesce(bool_or(more), false) FROM {ranked}"
        )
        if not left and not came:
            return no_change()
        after = self._store(epoch, ranked, kept, more)
        names = column_list(width)
        changed, count = consolidate(
            epoch,
            f"SELECT {names}, 1 AS d FROM ({self._first(after)}) AS n"
            f" UNION ALL SELECT {names}, -1 AS d FROM ({self._first(f'{ranked} AS t WHERE old')}) AS p",
            width,
        )
        return Delta(changed, count == 0)

    def _ranked(self, incoming: str, grows: bool) -> str:
        """The head as it was and the new rows; `stays` says which of them make the head as it is."""
        names = column_list(len(self.types))
        gone = "false"
        if not grows:
            gone = f"EXISTS (SELECT 1 FROM {incoming} AS x WHERE x.d < 0 AND {same_key('h', 'x', self.key)})"
        new = "" if grows else " WHERE d > 0"
        both = (
            f"SELECT {column_list(len(self.types), 'h')}, h.more, true AS old, {gone} AS gone FROM {self._head} AS h"
            f" UNION ALL SELECT {names}, NULL, false, false FROM {incoming} AS i{new}"
        )
        placed = f"SELECT *, rank() OVER (ORDER BY {self._order}) AS place FROM ({both}) AS b"
        bounded = f"SELECT *, max(place) FILTER (WHERE old AND more) OVER () AS edge FROM ({placed}) AS r"
        return f"SELECT {names}, more, old, NOT gone AND place <= coalesce(edge, place) AS stays FROM ({bounded}) AS e"

    def _store(self, epoch: EpochContext, ranked: str, kept: int, more: bool) -> str:
        """Write the head; returns FROM and WHERE that read it as it is now."""
        names = column_list(len(self.types))
        now = f"{ranked} AS t WHERE stays"
        room = None if self._need is None else self._need + (_SPARE if self._again else 0)
        dry = self._again and more and self._need is not None and kept < self._need
        if room is not None and (dry or kept > (2 * room if self._again else room)):
            place = f"SELECT *, rank() OVER (ORDER BY {self._order}) AS place FROM {self._rows if dry else now}"
            head, count = epoch.temp(f"SELECT {names} FROM ({place}) AS p WHERE place <= {room}")
            epoch.execute(f"DELETE FROM {self._head}")
            epoch.execute(f"INSERT INTO {self._head} SELECT {names}, {count >= room} FROM {head}")
            return f"{head} AS t"
        gone = f"(SELECT * FROM {ranked} WHERE old AND NOT stays)"
        epoch.execute(f"DELETE FROM {self._head} USING {gone} AS x WHERE {same_key(self._head, 'x', self.key)}")
        epoch.execute(f"INSERT INTO {self._head} SELECT {names}, {more} FROM {now} AND NOT old")
        return now

    def _first(self, rows: str) -> str:
        limited = render_order_limit(self._order_by, self._limit, self._offset, self._with_ties, self._keys)
        return f"SELECT {column_list(len(self.types))} FROM {rows}{limited}"

    def details(self) -> str:
        return f"limit {self._limit}, offset {self._offset}"
