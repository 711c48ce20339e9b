"""Group commit: one fdatasync covers every append that waits, and only then are they acknowledged.

While one flush runs in the worker thread, the next group collects. Policies: `group` flushes as soon as the worker is
free, `interval` waits so many milliseconds first, `never` leaves it to the operating system and acknowledges at once.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, Protocol

from core.errors import UnavailableError

logger = logging.getLogger(__name__)

SyncFile = Callable[[int], None]


class Flushable(Protocol):
    """A log that has bytes in the page cache."""

    def pending(self) -> tuple[int, int]:
        """File descriptor to flush, and the mark that is durable after it."""
        ...

    def flushed(self, mark: int) -> None: ...


class Flusher:
    """Makes appends durable and wakes those who wait for it.

    Args:
        on_failure: called once when the disk refuses to flush. What was not acknowledged may be lost, and a second
            fsync would lie about it, so the broker must stop.
        sync_file: replaced by tests that let the disk fail or count the calls.
    """

    def __init__(
        self,
        policy: Literal["group", "interval", "never"],
        interval_ms: int,
        on_failure: Callable[[UnavailableError], None],
        sync_file: SyncFile = os.fdatasync,
    ) -> None:
        self.policy = policy
        self._interval_seconds = interval_ms / 1000 if policy == "interval" else 0.0
        self._on_failure = on_failure
        self._sync_file = sync_file
        self._dirty: dict[Flushable, None] = {}
        self._waiting: asyncio.Future[None] | None = None
        self._running: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="broker-flush")
        self._failure: UnavailableError | None = None

    def durable(self, log: Flushable) -> asyncio.Future[None]:
        """Return a future that is done when all that `log` has written so far is durable by the policy.

        The future fails with UnavailableError if the disk does; it is shared, so shield it before cancelling.
        """
        loop = asyncio.get_running_loop()
        if self._failure is not None:
            failed: asyncio.Future[None] = loop.create_future()
            failed.set_exception(self._failure)
            return failed
        if self.policy == "never":
            log.flushed(log.pending()[1])
            done: asyncio.Future[None] = loop.create_future()
            done.set_result(None)
            return done
        self._dirty[log] = None
        if self._waiting is None:
            self._waiting = loop.create_future()
            # Nobody may be left to wait for it (acks=0); its failure is reported by on_failure.
            self._waiting.add_done_callback(lambda future: future.exception())
        if self._running is None:
            self._running = loop.create_task(self._run())
        return self._waiting

    async def drain(self) -> None:
        """Wait until nothing is in the worker thread's hands."""
        if self._running is not None:
            await asyncio.shield(self._running)

    def forget(self, log: Flushable) -> None:
        self._dirty.pop(log, None)

    def sync_now(self, fd: int) -> None:
        """Flush one file at once, in the caller's thread (used when a segment is full)."""
        if self.policy == "never":
            return
        try:
            self._sync_file(fd)
        except OSError as error:
            raise self._fail(error) from error

    def sync_folder(self, folder: Path) -> None:
        """Make the names in a folder durable at once: a file that was created, renamed or removed."""
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self.sync_now(fd)
        finally:
            os.close(fd)

    async def close(self) -> None:
        await self.drain()
        self._thread.shutdown(wait=True)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting is not None:
                if self._interval_seconds:
                    await asyncio.sleep(self._interval_seconds)
                waiting, self._waiting = self._waiting, None
                group = [(log, *log.pending()) for log in self._dirty]
                self._dirty.clear()
                try:
                    await loop.run_in_executor(self._thread, self._sync_files, [fd for _, fd, _ in group])
                except OSError as error:
                    waiting.set_exception(self._fail(error))
                    return
                for log, _, mark in group:
                    log.flushed(mark)
                waiting.set_result(None)
        finally:
            self._running = None

    def _sync_files(self, fds: list[int]) -> None:
        for fd in fds:
            self._sync_file(fd)

    def _fail(self, error: OSError) -> UnavailableError:
        if self._failure is None:
            self._failure = UnavailableError(
                f"the disk refused to flush: `{error}`",
                fix="Mend the disk, then start the broker again; it recovers by itself.",
            )
            logger.error("broker cannot flush", extra={"error": str(error)})
            if self._waiting is not None:
                self._waiting.set_exception(self._failure)
                self._waiting = None
            self._on_failure(self._failure)
        return self._failure
