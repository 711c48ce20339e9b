"""Changes by RisingWave's subscription cursor: `DECLARE .. SUBSCRIPTION CURSOR FOR .. SINCE ..`, then `FETCH`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any

import psycopg
from psycopg import sql

from api.database import Database, translate
from api.live.changes import Change

_BATCH = 1000  # rows of one fetch: a second of the rate that the dashboard is built for
_CURSOR = sql.Identifier("headrace_api")


class SubscriptionCursorFeed:
    """Follows one subscription on a connection of its own.

    `FETCH .. WITH (timeout)` blocks on the server until there is a row or the time is over, so nothing is polled.
    """

    def __init__(self, database: Database, subscription: str) -> None:
        self._database = database
        self._subscription = subscription

    async def follow(self, since_ms: int | None) -> AsyncGenerator[Sequence[Change], None]:
        since = sql.SQL("now()") if since_ms is None else sql.Literal(since_ms)
        declare = sql.SQL("DECLARE {} SUBSCRIPTION CURSOR FOR {} SINCE {}").format(
            _CURSOR, sql.Identifier(self._subscription), since
        )
        fetch = sql.SQL("FETCH {} FROM {} WITH (timeout = '1s')").format(sql.Literal(_BATCH), _CURSOR)
        connection = await self._database.connect()
        async with connection:
            try:
                await connection.execute(declare)
                while True:
                    cursor = await connection.execute(fetch)
                    yield [_change(row) for row in (await cursor.fetchall() if cursor.description else [])]
            except psycopg.Error as error:
                raise translate(error) from error


def _change(row: dict[str, Any]) -> Change:
    # Some versions of RisingWave prefix the columns with the view's name.
    plain = {name.rpartition(".")[2]: value for name, value in row.items()}
    op, committed_at_ms = str(plain.pop("op")), plain.pop("rw_timestamp")
    return Change(plain, op, int(committed_at_ms or 0))
