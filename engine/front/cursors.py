"""Cursors: over a query's result, and over a subscription's changelog.

A cursor holds rows in memory or a position in the log, never a DuckDB transaction.
Source: RisingWave documentation, "Subscriptions".
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pyarrow as pa

from engine.catalog.catalog import Catalog
from engine.catalog.objects import Subscription
from engine.runtime.engine import Engine
from engine.runtime.jobs import OP_DELETE, OP_INSERT, OP_UPDATE_DELETE, OP_UPDATE_INSERT
from engine.session import Field
from engine.sql.errors import UndefinedCursor
from engine.sql.statements import DeclareSubscriptionCursor
from engine.sql.types import INT8, VARCHAR

_OP_NAMES = {OP_INSERT: "Insert", OP_DELETE: "Delete", OP_UPDATE_DELETE: "UpdateDelete", OP_UPDATE_INSERT: "UpdateInsert"}
_LAST = 2**62


@dataclass
class QueryCursor:
    """Rows that were read when it was declared."""

    fields: tuple[Field, ...]
    rows: pa.Table
    position: int = 0

    async def fetch(self, count: int, timeout_seconds: float | None) -> pa.Table:
        del timeout_seconds
        part = self.rows.slice(self.position, count)
        self.position += part.num_rows
        return part


@dataclass
class SubscriptionCursor:
    """A position in a subscription's log; `snapshot` rows come first, if any.

    It ends when nobody has fetched from it for as long as the subscription keeps its log: rows may be gone by then.
    """

    engine: Engine
    subscription: Subscription
    fields: tuple[Field, ...]
    epoch: int
    seq: int
    snapshot: pa.Table | None = None
    taken: int = 0
    last_fetch_seconds: float = 0.0

    def __post_init__(self) -> None:
        self.last_fetch_seconds = self.engine.clock.monotonic_seconds()

    @property
    def idle_seconds(self) -> float:
        return self.engine.clock.monotonic_seconds() - self.last_fetch_seconds

    async def fetch(self, count: int, timeout_seconds: float | None) -> pa.Table:
        """Up to `count` rows; as soon as there is one and the log is dry, or none after the timeout, which counts whole seconds.

        Raises:
            UndefinedCursor: the retention time has passed since the last fetch.
        """
        if self.idle_seconds > self.subscription.retention_seconds:
            raise UndefinedCursor(
                f"the cursor on `{self.subscription.name}` has outlived the retention of {self.subscription.retention_seconds:g} s",
                sqlstate="55000",
                fix="CLOSE it and DECLARE a new one; fetch more often, or keep the log longer.",
            )
        rows = await self._fetch(count, int(timeout_seconds or 0))
        self.last_fetch_seconds = self.engine.clock.monotonic_seconds()
        return rows

    async def _fetch(self, count: int, timeout_seconds: int) -> pa.Table:
        if self.snapshot is not None:
            part = self.snapshot.slice(self.taken, count)
            self.taken += part.num_rows
            if part.num_rows:
                return part
            self.snapshot = None
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_seconds
        woken = asyncio.Event()

        def listener() -> None:
            loop.call_soon_threadsafe(woken.set)

        self.engine.on_commit(listener)
        try:
            while True:
                woken.clear()
                rows = await self._read(count)
                left = deadline - loop.time()
                if rows.num_rows or left <= 0:
                    return rows
                try:
                    await asyncio.wait_for(woken.wait(), left)
                except TimeoutError:
                    return await self._read(count)
        finally:
            self.engine.remove_listener(listener)

    async def _read(self, count: int) -> pa.Table:
        width = len(self.fields) - 2
        names = "CASE op " + " ".join(f"WHEN {op} THEN '{name}'" for op, name in _OP_NAMES.items()) + " END"
        columns = "".join(f"c{i}, " for i in range(width))
        sql = (
            f"SELECT {columns}{names} AS op, ts, epoch, seq FROM {self.subscription.log}"
            f" WHERE epoch > {self.epoch} OR (epoch = {self.epoch} AND seq > {self.seq}) ORDER BY epoch, seq LIMIT {count}"
        )
        rows = await asyncio.wrap_future(self.engine.reads.submit(sql))
        if rows.num_rows:
            self.epoch = rows.column("epoch")[-1].as_py()
            self.seq = rows.column("seq")[-1].as_py()
        return rows.drop_columns(["epoch", "seq"])


async def open_subscription_cursor(
    engine: Engine, catalog: Catalog, subscription: Subscription, statement: DeclareSubscriptionCursor
) -> SubscriptionCursor:
    """Declare a cursor: from now, from a time, from the beginning, or with the table's rows first."""
    relation = catalog.pinned(subscription.pins).relation(subscription.relation)
    fields = (*(Field(c.name, c.type) for c in relation.visible), Field("op", VARCHAR), Field("rw_timestamp", INT8))
    since = statement.since
    if since == "begin":
        return SubscriptionCursor(engine, subscription, fields, 0, 0)
    if isinstance(since, int):
        sql = f"SELECT coalesce(max(epoch), 0) AS e FROM {subscription.log} WHERE ts < {since}"
        found = await asyncio.wrap_future(engine.reads.submit(sql))
        return SubscriptionCursor(engine, subscription, fields, found.column("e")[0].as_py(), _LAST)
    if since == "full":
        positions = [i for i, c in enumerate(relation.columns) if not c.hidden]
        rows_sql = f"SELECT {', '.join(f'c{p} AS c{i}' for i, p in enumerate(positions))}, 'Insert' AS op, CAST(NULL AS BIGINT) AS ts FROM {relation.physical}"
        epoch_sql = "SELECT value FROM hr.meta WHERE name = 'epoch'"
        epoch, rows = await asyncio.wrap_future(engine.reads.submit_many([epoch_sql, rows_sql]))
        return SubscriptionCursor(engine, subscription, fields, epoch.column(0)[0].as_py(), _LAST, rows)
    return SubscriptionCursor(engine, subscription, fields, engine.epoch, _LAST)
