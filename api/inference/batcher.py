"""Requests to the UDF server that come at the same time go as one batch.

    job --> waiting --> [lane: encode, exchange, decode, in its thread] --> finish, in the event loop --> each job's answer

There is no waiting for company: a job goes at once when its lane is free, and what arrives while the lane is busy goes
together as soon as it is free again. So a lone caller waits for nobody, and under load the cost of a call is shared. Large
requests have a lane of their own, so that a small one never waits behind ten thousand rows. A row that cannot be answered
has a typed error of its own, so callers in one batch do not notice each other.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

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


class Job(Protocol):
    """One caller's request."""

    @property
    def rows(self) -> int:
        """How many rows it has, at least one."""
        ...

    @property
    def answer(self) -> asyncio.Future[Any]:  # Any: each kind of job has its own
        """What its caller waits for."""
        ...


J = TypeVar("J", bound=Job)
E = TypeVar("E")
D = TypeVar("D")


@dataclass(frozen=True)
class Steps(Generic[J, E, D]):
    """What is done with a batch of jobs.

    Attributes:
        encode: the function's arguments, a column each, and what `decode` needs to know of them; in the lane's thread.
        decode: what the column of results means; in the lane's thread.
        finish: sets the answer of every job, or raises for all; in the event loop, while the lane goes on.
    """

    encode: Callable[[list[J]], tuple[Sequence[pa.Array], E]]
    decode: Callable[[list[J], E, pa.Array], D]
    finish: Callable[[list[J], D], Awaitable[None]]


@dataclass
class _Lane(Generic[J]):
    """One call at a time, over an exchange that stays open. Mutable: what waits for it, and its connection."""

    executor: ThreadPoolExecutor
    waiting: deque[J] = field(default_factory=deque)
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


class Batcher(Generic[J, E, D]):
    """Calls one function of a UDF server.

    Args:
        url: of the UDF server.
        function: its name there.
        names: of its arguments.
        steps: what is done with a batch.
        patience_seconds: how long a server is waited for that is away.
    """

    def __init__(
        self,
        url: str,
        function: str,
        names: tuple[str, ...],
        steps: Steps[J, E, D],
        *,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self._url = url
        self._function = function
        self._names = list(names)
        self._steps = steps
        self._patience_seconds = patience_seconds
        self._small: _Lane[J] = _Lane(ThreadPoolExecutor(1, thread_name_prefix=f"{function}-small"))
        self._large: _Lane[J] = _Lane(ThreadPoolExecutor(1, thread_name_prefix=f"{function}-large"))
        self._finishing: set[asyncio.Task[None]] = set()
        self.calls = 0
        """How many batches were sent."""

    async def call(self, job: J) -> Any:  # Any: what `finish` sets
        """Send a job and return its answer.

        Raises:
            UnavailableError: the server does not answer, or cannot decide now.
            HeadraceError: it has no such function, or takes other arguments.
        """
        lane = self._large if job.rows > LARGE_ROWS else self._small
        lane.waiting.append(job)
        self._send(lane)
        return await job.answer

    def close(self) -> None:
        """Let go of the connections; nothing may be called any more."""
        for lane in (self._small, self._large):
            lane.executor.submit(lane.disconnect)
            lane.executor.shutdown(wait=True)

    def _send(self, lane: _Lane[J]) -> None:
        while lane.waiting and not lane.busy:
            jobs = self._take(lane)
            if jobs:
                self._start(lane, jobs)

    def _take(self, lane: _Lane[J]) -> list[J]:
        jobs: list[J] = []
        rows = 0
        while lane.waiting and (not jobs or rows + lane.waiting[0].rows <= BATCH_ROWS):
            job = lane.waiting.popleft()
            if not job.answer.done():  # its caller has gone
                jobs.append(job)
                rows += job.rows
        return jobs

    def _start(self, lane: _Lane[J], jobs: list[J]) -> None:
        lane.busy = True
        self.calls += 1
        loop = asyncio.get_running_loop()
        sent = loop.run_in_executor(lane.executor, self._run, lane, jobs)
        watch = loop.call_later(self._patience_seconds + _GRACE_SECONDS, self._give_up, lane)
        sent.add_done_callback(lambda done: self._answered(lane, jobs, done, watch))

    def _give_up(self, lane: _Lane[J]) -> None:
        """An open exchange has no deadline of its own."""
        exchange = lane.exchange
        if exchange is not None:
            logger.warning("udf call takes too long, cut off", extra={"function": self._function})
            exchange.cancel()

    def _answered(self, lane: _Lane[J], jobs: list[J], done: asyncio.Future[D], watch: asyncio.TimerHandle) -> None:
        watch.cancel()
        lane.busy = False
        problem = asyncio.CancelledError() if done.cancelled() else done.exception()
        if problem is not None:
            _fail(jobs, _told(problem))
        else:
            task = asyncio.ensure_future(self._finish(jobs, done.result()))
            self._finishing.add(task)
            task.add_done_callback(self._finishing.discard)
        self._send(lane)

    async def _finish(self, jobs: list[J], decoded: D) -> None:
        try:
            await self._steps.finish(jobs, decoded)
        except HeadraceError as problem:
            _fail(jobs, problem)
        except Exception as problem:  # noqa: BLE001 - the last frame: every caller is told, and the surprise is logged
            _fail(jobs, _told(problem))

    def _run(self, lane: _Lane[J], jobs: list[J]) -> D:
        """In the lane's thread: one batch for the server, again while it cannot decide."""
        columns, encoded = self._steps.encode(jobs)
        batch = pa.RecordBatch.from_arrays(list(columns), names=self._names)
        deadline = time.monotonic() + self._patience_seconds
        while True:
            try:
                answer = self._open(lane, batch.schema).call(batch)
            except (flight.FlightError, pa.ArrowException, OSError) as problem:
                # A new connection does not inherit the back-off of the one whose server has gone.
                lane.disconnect()
                if not isinstance(problem, _TRANSIENT) or time.monotonic() + _RETRY_SECONDS > deadline:
                    raise
                logger.info("udf server away, trying again", extra={"reason": str(problem).splitlines()[0]})
                time.sleep(_RETRY_SECONDS)
            else:
                return self._steps.decode(jobs, encoded, answer)

    def _open(self, lane: _Lane[J], schema: pa.Schema) -> Exchange:
        if lane.client is None:
            lane.client = UdfClient(self._url, timeout_seconds=self._patience_seconds)
        if lane.exchange is None:
            lane.exchange = lane.client.open(self._function, schema)
        return lane.exchange


def _fail(jobs: Sequence[Job], problem: HeadraceError) -> None:
    for job in jobs:
        if not job.answer.done():
            job.answer.set_exception(problem)


def _told(problem: BaseException) -> HeadraceError:
    first = (str(problem).strip() or type(problem).__name__).splitlines()[0]
    if isinstance(problem, (*_TRANSIENT, asyncio.CancelledError, OSError)):
        return UnavailableError(f"the UDF server does not answer: {first}", where="UDF server", fix="Try again in a moment.")
    logger.error("udf call failed", exc_info=problem)
    return HeadraceError(f"the UDF server refuses the call: {first}", where="UDF server")
