"""Calls of the UDF server that come at the same time go as one batch.

There is no waiting for company: a call goes at once when its lane is free, and what arrives while the lane is busy goes
together as soon as it is free again. So a lone caller waits for nobody, and under load the cost of a call is shared. Large
requests have a lane of their own, so that a small one never waits behind ten thousand rows. A row that cannot be answered
has a typed error of its own (`udfs.predict`), so callers in one batch do not notice each other.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple

import pyarrow as pa
import pyarrow.flight as flight

from core.errors import HeadraceError, UnavailableError
from udfs.client import Exchange, UdfClient

logger = logging.getLogger(__name__)

LARGE_ROWS = 512  # more than this in one request takes the other lane
BATCH_ROWS = 1024  # at most so many rows of several requests together
PATIENCE_SECONDS = 5.0  # a UDF server that is restarted is back sooner
_GRACE_SECONDS = 1.0  # beyond it a call is cut off; its retries have ended before
_RETRY_SECONDS = 0.05
_TRANSIENT = (flight.FlightUnavailableError, flight.FlightCancelledError, flight.FlightTimedOutError)


class Call(NamedTuple):
    """One caller's columns, all of the same length: the arguments of the function."""

    columns: tuple[pa.Array, ...]
    answer: asyncio.Future[pa.Array]

    @property
    def rows(self) -> int:
        return len(self.columns[0])


@dataclass
class _Lane:
    """One call at a time, over an exchange that stays open. Mutable: what waits for it, and its connection."""

    executor: ThreadPoolExecutor
    waiting: deque[Call] = field(default_factory=deque)
    busy: bool = False
    client: UdfClient | None = None
    exchange: Exchange | None = None

    def disconnect(self) -> None:
        """Let go of the connection; the next call opens another one."""
        exchange, client, self.exchange, self.client = self.exchange, self.client, None, None
        if exchange is not None:
            exchange.cancel()
        if client is not None:
            client.close()


class Batcher:
    """Calls one function of a UDF server.

    Args:
        url: of the UDF server.
        function: its name there.
        names: of its arguments.
    """

    def __init__(self, url: str, function: str, names: tuple[str, ...], *, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._url = url
        self._function = function
        self._names = names
        self._patience_seconds = patience_seconds
        self._small, self._large = (
            _Lane(ThreadPoolExecutor(1, thread_name_prefix=f"{function}-{name}")) for name in ("small", "large")
        )
        self.calls = 0
        """How many batches were sent."""

    async def call(self, *columns: pa.Array) -> pa.Array:
        """Send rows and return the function's results, row by row in order.

        Raises:
            UnavailableError: the server does not answer, or cannot decide now.
            HeadraceError: it has no such function, or takes other arguments.
        """
        call = Call(columns, asyncio.get_running_loop().create_future())
        lane = self._large if call.rows > LARGE_ROWS else self._small
        lane.waiting.append(call)
        self._send(lane)
        return await call.answer

    def close(self) -> None:
        """Let go of the connections; nothing may be called any more."""
        for lane in (self._small, self._large):
            lane.executor.submit(lane.disconnect)
            lane.executor.shutdown(wait=True)

    def _send(self, lane: _Lane) -> None:
        while lane.waiting and not lane.busy:
            calls = self._take(lane)
            if calls:
                self._start(lane, calls)

    def _start(self, lane: _Lane, calls: list[Call]) -> None:
        lane.busy = True
        self.calls += 1
        loop = asyncio.get_running_loop()
        sent = loop.run_in_executor(lane.executor, self._exchange, lane, calls)
        watch = loop.call_later(self._patience_seconds + _GRACE_SECONDS, self._give_up, lane)
        sent.add_done_callback(lambda done: self._answered(lane, calls, done, watch))

    def _give_up(self, lane: _Lane) -> None:
        """An open exchange has no deadline of its own."""
        exchange = lane.exchange
        if exchange is not None:
            logger.warning("udf call takes too long, cut off", extra={"function": self._function})
            exchange.cancel()

    def _take(self, lane: _Lane) -> list[Call]:
        calls: list[Call] = []
        rows = 0
        while lane.waiting and (not calls or rows + lane.waiting[0].rows <= BATCH_ROWS):
            call = lane.waiting.popleft()
            if not call.answer.done():  # its caller has gone
                calls.append(call)
                rows += call.rows
        return calls

    def _answered(self, lane: _Lane, calls: list[Call], done: asyncio.Future[pa.Array], watch: asyncio.TimerHandle) -> None:
        watch.cancel()
        lane.busy = False
        problem = asyncio.CancelledError() if done.cancelled() else done.exception()
        start = 0
        for call in calls:
            if call.answer.done():
                pass
            elif problem is not None:
                call.answer.set_exception(_told(problem))
            else:
                call.answer.set_result(done.result().slice(start, call.rows))
            start += call.rows
        self._send(lane)

    def _exchange(self, lane: _Lane, calls: list[Call]) -> pa.Array:
        """In the lane's thread: one batch for the server, again while it cannot decide."""
        columns = [pa.concat_arrays(column) for column in zip(*(call.columns for call in calls), strict=True)]
        batch = pa.RecordBatch.from_arrays(columns, names=list(self._names))
        deadline = time.monotonic() + self._patience_seconds
        while True:
            try:
                return self._open(lane, batch.schema).call(batch)
            except (flight.FlightError, pa.ArrowException, OSError) as problem:
                # A new connection does not inherit the back-off of the one whose server has gone.
                lane.disconnect()
                if not isinstance(problem, _TRANSIENT) or time.monotonic() + _RETRY_SECONDS > deadline:
                    raise
                logger.info("udf server away, trying again", extra={"reason": str(problem).splitlines()[0]})
                time.sleep(_RETRY_SECONDS)

    def _open(self, lane: _Lane, schema: pa.Schema) -> Exchange:
        if lane.client is None:
            lane.client = UdfClient(self._url, timeout_seconds=self._patience_seconds)
        if lane.exchange is None:
            lane.exchange = lane.client.open(self._function, schema)
        return lane.exchange


def _told(problem: BaseException) -> HeadraceError:
    first = (str(problem).strip() or type(problem).__name__).splitlines()[0]
    if isinstance(problem, (*_TRANSIENT, asyncio.CancelledError, OSError)):
        return UnavailableError(f"the UDF server does not answer: {first}", where="UDF server", fix="Try again in a moment.")
    logger.error("udf call failed", exc_info=problem)
    return HeadraceError(f"the UDF server refuses the call: {first}", where="UDF server")
