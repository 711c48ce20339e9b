"""The stream database, reached by the PostgreSQL wire: ours or RisingWave.

Each read is its own transaction (so it sees one epoch), bounded by a time-out; a read whose caller has gone is cancelled on
the server too, because psycopg sends a cancel request when its task is cancelled. Writes are few: what people decide.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, LiteralString, Protocol

import psycopg
from psycopg import AsyncConnection, sql
from psycopg.conninfo import make_conninfo
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from core.errors import HeadraceError, UnavailableError

logger = logging.getLogger(__name__)

Statement = LiteralString | sql.SQL | sql.Composed
Parameters = Sequence[object]

CONNECT_SECONDS = 2  # libpq's smallest; a dead loopback port refuses at once
_GONE_CLASSES = ("08", "57P")  # connection exceptions; the server is starting or shutting down


class StatementError(HeadraceError):
    """The stream database refused a statement; `sqlstate` says how."""

    def __init__(self, what: str, *, sqlstate: str | None) -> None:
        super().__init__(what, where="stream database")
        self.sqlstate = sqlstate


class Reads(Protocol):
    """Runs reads. Adapters: `Database`, and in tests a scripted one."""

    async def fetch(
        self, statement: Statement, parameters: Parameters = (), *, timeout_seconds: float | None = None
    ) -> list[dict[str, Any]]:  # Any: whatever type the column has
        """Run one read and return its rows, each as column to value.

        Raises:
            UnavailableError: the database is away or too slow.
            StatementError: it refuses the statement.
        """
        ...


class Database:
    """A pool of connections that are opened when they are needed."""

    def __init__(self, url: str, *, max_connections: int = 8, timeout_seconds: float = 10.0) -> None:
        self._url = make_conninfo(url, connect_timeout=CONNECT_SECONDS, application_name="headrace-api")
        self._timeout_seconds = timeout_seconds
        self._pool: AsyncConnectionPool[AsyncConnection[DictRow]] = AsyncConnectionPool(
            self._url,
            connection_class=AsyncConnection[DictRow],
            # Without server-side prepared statements: a view that is rebuilt under the same name stays readable.
            kwargs={"autocommit": True, "prepare_threshold": None, "row_factory": dict_row},
            min_size=0,
            max_size=max_connections,
            timeout=CONNECT_SECONDS,
            # Give up an attempt early; the next request tries again, so that a returned database is found at once.
            reconnect_timeout=0.5,
            open=False,
            name="stream-database",
        )

    async def open(self) -> None:
        """Start the pool; does not need the database to be there."""
        await self._pool.open(wait=False)

    async def close(self) -> None:
        await self._pool.close(timeout=CONNECT_SECONDS)

    async def fetch(
        self, statement: Statement, parameters: Parameters = (), *, timeout_seconds: float | None = None
    ) -> list[dict[str, Any]]:  # Any: whatever type the column has
        """See `Reads`."""
        try:
            async with asyncio.timeout(timeout_seconds or self._timeout_seconds):
                try:
                    return await self._fetch_once(statement, parameters)
                except psycopg.OperationalError as error:
                    if not is_gone(error) or isinstance(error, PoolTimeout):
                        raise
                    # A pooled connection whose server has restarted; a read may be repeated.
                    return await self._fetch_once(statement, parameters)
        except TimeoutError as error:
            raise UnavailableError("the stream database does not answer in time", where="stream database") from error
        except psycopg.Error as error:
            raise translate(error) from error

    async def execute(self, statement: Statement, parameters: Parameters = ()) -> None:
        """Run one write; all that it changed can be read when this returns. It is never repeated by itself.

        Raises:
            UnavailableError: the database is away or too slow; the write may have happened.
            StatementError: it refuses the statement.
        """
        try:
            async with asyncio.timeout(self._timeout_seconds), self._pool.connection() as connection:
                await connection.execute(statement, parameters or None)
                await connection.execute("FLUSH")
        except TimeoutError as error:
            raise UnavailableError("the stream database does not answer in time", where="stream database") from error
        except psycopg.Error as error:
            raise translate(error) from error

    async def _fetch_once(self, statement: Statement, parameters: Parameters) -> list[dict[str, Any]]:
        async with self._pool.connection() as connection:
            cursor = await connection.execute(statement, parameters or None)
            return await cursor.fetchall() if cursor.description else []

    async def connect(self) -> AsyncConnection[DictRow]:
        """A connection of one's own, for a cursor that lives long.

        Raises:
            UnavailableError: the database is away.
        """
        try:
            return await AsyncConnection.connect(self._url, autocommit=True, prepare_threshold=None, row_factory=dict_row)
        except psycopg.Error as error:
            raise translate(error) from error


def is_gone(error: psycopg.Error) -> bool:
    """Whether the error says that the server is not there, and not that it refuses something."""
    return error.sqlstate is None or error.sqlstate.startswith(_GONE_CLASSES)


def translate(error: psycopg.Error) -> HeadraceError:
    """Say a driver's error as one of ours."""
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError) and is_gone(error):
        return UnavailableError("the stream database is away", where="stream database", fix="Try again in a moment.")
    return StatementError(str(error.diag.message_primary or error).strip(), sqlstate=error.sqlstate)
