"""Reading: queries run on connections of their own, see one epoch, and hold nothing open when they return."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import duckdb
import pyarrow as pa

from core.settings import EngineSettings
from engine.runtime.disk import disk_error
from engine.runtime.duckdb_errors import to_sql_error
from engine.runtime.store import Store
from engine.sql.errors import QueryCanceled

_THREADS = 4


class Running:
    """A query under way; `cancel` may be called from any thread.

    Args:
        timeout_seconds: the session's own limit, if it has one; the engine's holds in any case.
    """

    def __init__(self, timeout_seconds: float | None = None) -> None:
        self.timeout_seconds = timeout_seconds
        self._lock = threading.Lock()
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._cancelled: str | None = None

    def begin(self, connection: duckdb.DuckDBPyConnection) -> None:
        with self._lock:
            self._connection = connection

    def end(self) -> str | None:
        with self._lock:
            self._connection = None
            return self._cancelled

    def cancel(self, reason: str = "canceling statement due to user request") -> None:
        with self._lock:
            self._cancelled = reason
            if self._connection is not None:
                self._connection.interrupt()


class ReadPool:
    """Runs SELECTs of the engine's own making on a few threads."""

    def __init__(self, store: Store, settings: EngineSettings) -> None:
        self._store = store
        self._timeout_seconds = settings.statement_timeout_seconds
        self._local = threading.local()
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="read")

    def submit(
        self, sql: str, running: Running | None = None, tables: Mapping[str, pa.Table] | None = None
    ) -> Future[pa.Table]:
        """Run one SELECT, which may name `tables` in memory; the result is in memory when the future is done."""
        return self._pool.submit(self.run, sql, running or Running(), tables or {})

    def submit_many(self, statements: list[str]) -> Future[list[pa.Table]]:
        """Run several SELECTs that see the same epoch."""
        return self._pool.submit(self._run_many, statements)

    def run(self, sql: str, running: Running, tables: Mapping[str, pa.Table]) -> pa.Table:
        connection = self._connection()
        for name, table in tables.items():
            connection.register(name, table)
        running.begin(connection)
        timeout = min(self._timeout_seconds, running.timeout_seconds or self._timeout_seconds)
        watchdog = threading.Timer(timeout, running.cancel, ["canceling statement due to statement timeout"])
        watchdog.daemon = True
        watchdog.start()
        try:
            return connection.sql(sql).to_arrow_table()
        except duckdb.InterruptException as error:
            raise QueryCanceled(running.end() or "canceling statement") from error
        except duckdb.Error as error:
            raise disk_error(error, self._store.path.parent) or to_sql_error(error) from error
        finally:
            watchdog.cancel()
            running.end()
            for name in tables:
                connection.unregister(name)

    def _run_many(self, statements: list[str]) -> list[pa.Table]:
        connection = self._connection()
        connection.execute("BEGIN")
        try:
            return [connection.sql(sql).to_arrow_table() for sql in statements]
        finally:
            connection.execute("ROLLBACK")

    def _connection(self) -> duckdb.DuckDBPyConnection:
        connection = getattr(self._local, "connection", None)
        if not isinstance(connection, duckdb.DuckDBPyConnection):
            connection = self._store.cursor()
            self._local.connection = connection
        return connection

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
