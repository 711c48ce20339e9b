"""Which inputs must wait because a sink below them cannot get rid of its rows: an outbox is bounded, and nothing is dropped.

A sink whose target is down keeps its rows in its outbox. Beyond the limit the sources that feed it are not polled (their records
wait in the broker) and its tables refuse rows. Everything else goes on, and DROP SINK works.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import duckdb

from engine.catalog.catalog import Catalog
from engine.runtime.delivery import Delivery

_LOOK_SECONDS = 1.0  # counting a backlog costs a fifth of a millisecond; the bound is exact to a second of input


class BackPressure:
    """Belongs to the barrier loop; `reason` may be asked from any thread.

    Args:
        limit_rows: of each outbox.
    """

    def __init__(self, limit_rows: int) -> None:
        self._limit_rows = limit_rows
        self._look_at = 0.0
        self._reasons: Mapping[int, str] = {}

    def look(self, now: float, deliveries: Iterable[Delivery], catalog: Catalog, connection: duckdb.DuckDBPyConnection) -> None:
        """Count the backlogs, once a second."""
        if now < self._look_at:
            return
        self._look_at = now + _LOOK_SECONDS
        reasons: dict[int, str] = {}
        for delivery in deliveries:
            sink = delivery.sink
            ((rows,),) = connection.execute(f"SELECT count(*) FROM {sink.outbox} WHERE epoch > {delivery.delivered}").fetchall()
            if rows >= self._limit_rows:
                why = delivery.problem or "it is slower than its input"
                reason = f"sink `{sink.name}` holds back its inputs, {rows} rows wait for delivery: {why}"
                reasons.update(dict.fromkeys(_below(sink.id, catalog), reason))
        self._reasons = reasons

    @property
    def seconds_until_look(self) -> float | None:
        """How long the loop may sleep while somebody is held back; None if nobody is."""
        return _LOOK_SECONDS if self._reasons else None

    def reason(self, relation: int) -> str | None:
        """Why this input must wait, if it must."""
        return self._reasons.get(relation)

    @property
    def problem(self) -> str | None:
        return next(iter(self._reasons.values()), None)


def _below(sink: int, catalog: Catalog) -> set[int]:
    """Everything that the sink is made of; a table that other sinks feed is made of what they are made of."""
    found, look = set[int](), [sink]
    feeds: dict[int, list[int]] = {}
    for other in catalog.objects.values():
        into = getattr(other, "into", 0)
        if into:
            feeds.setdefault(into, []).append(other.id)
    while look:
        number = look.pop()
        if number in found or number not in catalog.objects:
            continue
        found.add(number)
        look += [*catalog.get(number).depends_on, *feeds.get(number, [])]
    return found
