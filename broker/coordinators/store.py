"""The coordinators' tables in one SQLite file, written in groups by one thread.

Everything is held in memory by the coordinators and read from here once, at start. Writes that arrive while a commit runs
share the next one, and with it the one fsync.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from core.errors import CorruptDataError, UnavailableError

logger = logging.getLogger(__name__)

Value = str | int | None
Statement = tuple[str, Sequence[Value]]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS transactions (
    transactional_id TEXT PRIMARY KEY, producer_id INTEGER NOT NULL, epoch INTEGER NOT NULL, timeout_ms INTEGER NOT NULL,
    state TEXT NOT NULL, started_ms INTEGER NOT NULL, partitions TEXT NOT NULL, groups TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS offsets (
    group_id TEXT, topic TEXT, number INTEGER, committed INTEGER NOT NULL, leader_epoch INTEGER NOT NULL, metadata TEXT,
    PRIMARY KEY (group_id, topic, number)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS pending_offsets (
    producer_id INTEGER, group_id TEXT, topic TEXT, number INTEGER, committed INTEGER NOT NULL, leader_epoch INTEGER NOT NULL,
    metadata TEXT, PRIMARY KEY (producer_id, group_id, topic, number)) WITHOUT ROWID;
"""


@dataclass(slots=True)
class _Job:
    statements: tuple[Statement, ...]
    durable: bool
    done: asyncio.Future[None]


class Store:
    """Durable tables of the coordinators."""

    def __init__(self, path: Path, *, sync: bool) -> None:
        """Open or create the file.

        Args:
            sync: false leaves everything to the operating system (fsync policy `never`).

        Raises:
            CorruptDataError: the file is no database of ours.
        """
        self._sync = sync
        self._jobs: list[_Job] = []
        self._running: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="broker-store")
        try:
            self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.executescript(_SCHEMA)
        except sqlite3.DatabaseError as error:
            raise CorruptDataError(
                f"the coordinators' file cannot be read: `{error}`",
                where=str(path),
                fix="Restore it, or move it away: committed offsets and transactional ids are lost then, records are not.",
            ) from error

    def load(self, query: str) -> list[tuple[Value, ...]]:
        """Read rows; only while nothing is being written (at start)."""
        return list(self._connection.execute(query))

    async def write(self, *statements: Statement, durable: bool = True) -> None:
        """Apply statements together, all or none, in the order of the calls.

        Args:
            durable: false survives a kill of the process but perhaps not a power cut; for what recovery can rebuild.

        Raises:
            UnavailableError: the disk is full or broken; nothing was applied.
        """
        loop = asyncio.get_running_loop()
        job = _Job(statements, durable and self._sync, loop.create_future())
        self._jobs.append(job)
        if self._running is None:
            self._running = loop.create_task(self._run())
        await job.done

    async def close(self) -> None:
        if self._running is not None:
            await self._running
        self._thread.shutdown(wait=True)
        self._connection.close()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._jobs:
                jobs, self._jobs = self._jobs, []
                try:
                    await loop.run_in_executor(self._thread, self._apply, jobs)
                except sqlite3.Error as error:
                    logger.error("broker cannot write its coordinators' state", extra={"error": str(error)})
                    failure = UnavailableError(
                        f"the coordinators' state cannot be written: `{error}`", fix="Look after the disk."
                    )
                    for job in jobs:
                        if not job.done.done():
                            job.done.set_exception(failure)
                    continue
                for job in jobs:
                    if not job.done.done():
                        job.done.set_result(None)
        finally:
            self._running = None

    def _apply(self, jobs: list[_Job]) -> None:
        durable = any(job.durable for job in jobs)
        self._connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            for job in jobs:
                for sql, values in job.statements:
                    self._connection.execute(sql, values)
            self._connection.execute("COMMIT")
        except sqlite3.Error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
