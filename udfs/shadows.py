"""Shadows: asked aside of the answer, never served, never waited for.

```
predict answers ---> offer (a queue with an end; full: shed and counted) ---> feeder thread ---> pipe
    ---> a process of its own, at the lowest priority: models ---> sink (topic `predictions.shadow`)
```

The rows go as they came, when the answer has left; which of them a shadow gets is decided in the other process. What the
server does for a shadow is to put three references into a queue, and some time later to copy what waits into a pipe. Nobody
is woken by an offer: the feeder looks every now and then, because a thread that wakes up takes the interpreter's lock from the
one that answers.

The process yields every processor to whoever wants it, and that is not enough: two processors share caches and often a core,
so it also looks how many calls are being answered, a number in memory that both processes see, and takes up a few rows only
while there is none. Who is always busy would starve it, so its patience ends. When it cannot keep up, rows are shed, the
newest first, and the next ones find room as soon as some is done. If it dies, shadows are shed until it is back.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import logging
import multiprocessing
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import md5
from multiprocessing.connection import Connection
from typing import NamedTuple, Protocol

import numpy as np
import pyarrow as pa

from udfs.columns import text_column
from udfs.predict import predict
from udfs.route import Member, Route, RowError, parse_route
from udfs.router import shadowed_keys
from udfs.sessions import ArtifactSource, ModelSessions

logger = logging.getLogger(__name__)

CAPACITY_ROWS = 20_000  # about ten seconds of a fast model; beyond that answers come too late to be worth memory
_LOOK_SECONDS = 0.2  # many calls go over together; nobody waits for what a shadow says
_MESSAGE_ROWS = 4096  # waiting rows of one route go together, up to so many
_CHUNK_ROWS = 64  # between two looks at the calls under way: about a millisecond of a forest
_PATIENCE_SECONDS = 0.02  # then the next rows are taken up in spite of calls: 3,200 a second of a server that never rests
_PAUSE_SECONDS = 0.0005  # a fifth of a short call
_RESTART_SECONDS = 1.0
_LOWEST_PRIORITY = 19
_ROUTE = b"route"


class ShadowAnswer(NamedTuple):
    """What one shadow says about one row, as JSON; its `member` is shaped like the entries of `members`."""

    key: str | None
    text: str


class ShadowSink(Protocol):
    """Takes the answers of shadows. Adapter: `udfs.shadow_topic.ShadowTopic`."""

    def write(self, answers: Sequence[ShadowAnswer]) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class ShadowPlan:
    """What the process opens for itself; both must be picklable."""

    open_source: Callable[[], ArtifactSource]
    open_sink: Callable[[], ShadowSink]


class ShadowLane:
    """The server's end. `offer` may be called from any thread.

    Args:
        plan: of the other process.
        capacity_rows: rows that may wait, those in the pipe and those being answered among them.

    Attributes:
        calls_under_way: the server keeps it up to date; the other process rests while it is not 0.
    """

    def __init__(self, plan: ShadowPlan, *, capacity_rows: int = CAPACITY_ROWS) -> None:
        self._plan = plan
        self._capacity = capacity_rows
        self._context = multiprocessing.get_context("spawn")
        self.calls_under_way = self._context.RawValue(ctypes.c_int, 0)
        self._changed = threading.Condition()
        self._waiting: deque[tuple[str, pa.Array, pa.Array]] = deque()
        self._waiting_rows = 0
        self._counts = dict.fromkeys(("offered", "answered", "shed"), 0)
        self._closed = threading.Event()
        self._feeder = threading.Thread(target=self._feed, daemon=True, name="shadow-feeder")

    def offer(self, route: str, keys: pa.Array, features: pa.Array) -> None:
        """Hand over rows that were answered, if there is room; never waits.

        Args:
            route: as it came.
            keys: string[rows].
            features: list<double>[rows].
        """
        rows = len(keys)
        with self._changed:
            self._counts["offered"] += rows
            if self._closed.is_set() or self._waiting_rows + rows > self._capacity:
                self._counts["shed"] += rows
                return
            self._waiting.append((route, keys, features))
            self._waiting_rows += rows
            if self._feeder.ident is None:
                self._feeder.start()

    def counts(self) -> dict[str, int]:
        """Rows so far: `offered` = `answered` + `shed` + `waiting`."""
        with self._changed:
            return {**self._counts, "waiting": self._waiting_rows}

    def wait_until_done(self, timeout_seconds: float) -> bool:
        """Whether nothing waits any more within the time."""
        with self._changed:
            return self._changed.wait_for(lambda: self._waiting_rows == 0, timeout_seconds)

    def close(self) -> None:
        """Let the process end; what still waits is shed."""
        self._closed.set()
        if self._feeder.ident is not None:
            self._feeder.join(5.0)

    # -- below: the feeder's thread

    def _feed(self) -> None:
        while not self._closed.is_set():
            try:
                self._serve_process()
            except (OSError, EOFError) as problem:
                logger.warning("shadow process lost", extra={"reason": str(problem)})
            with self._changed:
                self._counts["shed"] += self._waiting_rows
                self._waiting.clear()
                self._waiting_rows = 0
                self._changed.notify_all()
            self._closed.wait(_RESTART_SECONDS)

    def _serve_process(self) -> None:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=_run, args=(theirs, self._plan, self.calls_under_way), daemon=True, name="headrace-shadows"
        )
        process.start()
        theirs.close()
        try:
            while (job := self._next()) is not None:
                ours.send_bytes(_packed(*job))
                ours.recv_bytes()  # one batch at a time: what waits, waits here, where it is counted
                with self._changed:
                    self._counts["answered"] += len(job[1])
                    self._waiting_rows -= len(job[1])
                    self._changed.notify_all()
        finally:
            ours.close()  # the process ends by that
            process.join(5.0)
            if process.is_alive():
                process.kill()

    def _next(self) -> tuple[str, pa.Array, pa.Array] | None:
        """The oldest rows, with those of the same route right behind them; None when it is over."""
        while not self._closed.wait(_LOOK_SECONDS):
            if not self._waiting:
                continue
            wait_for_a_gap(self.calls_under_way)
            with self._changed:
                jobs = [self._waiting.popleft()]
                rows = len(jobs[0][1])
                while self._waiting and self._waiting[0][0] == jobs[0][0] and rows < _MESSAGE_ROWS:
                    jobs.append(self._waiting.popleft())
                    rows += len(jobs[-1][1])
            if len(jobs) == 1:
                return jobs[0]
            return jobs[0][0], pa.concat_arrays([job[1] for job in jobs]), pa.concat_arrays([job[2] for job in jobs])
        return None


def shadow_answers(
    route_text: str, route: Route, keys: pa.Array, features: pa.Array, sessions: ModelSessions
) -> list[ShadowAnswer]:
    """Ask the shadows of a route; a row that no model can be asked about has no answer, the served row says why."""
    digest = md5(route_text.encode(), usedforsecurity=False).hexdigest()
    found: list[ShadowAnswer] = []
    for member in route.members:
        if member.is_shadow:
            chosen = pa.array(np.flatnonzero(shadowed_keys(member, keys)))
            if len(chosen):
                found += _ask(member, digest, keys.take(chosen), features.take(chosen), sessions)
    return found


def _ask(member: Member, digest: str, keys: pa.Array, features: pa.Array, sessions: ModelSessions) -> list[ShadowAnswer]:
    model, version = json.dumps(member.key.model), member.key.version
    served = f'"model": {model}, "version": {version}, "role": "champion", "weight": 1.0'
    route = f'{{"strategy": "ensemble_mean", "members": [{{{served}}}]}}'
    outcome = predict(pa.array([route]).take(pa.array(np.zeros(len(keys), np.int64))), keys, features, sessions)
    told = text_column(outcome.field("members")).to_pylist()
    same = f'"model": {model}, "version": {version}'
    tail = f'{same}, "member": {{{same}, "role": "shadow", "weight": 0.0, '
    answers = []
    for key, vector, members in zip(keys.to_pylist(), features.to_pylist(), told, strict=True):
        if members is not None:  # `[{"model": ..., "weight": ..., what it says}]`
            said = members.split('"weight": ', 1)[1].split(", ", 1)[1][:-1]
            row = f'"route_md5": "{digest}", "key": {json.dumps(key)}, "features": {json.dumps(vector)}'
            text = f"{{{row}, {tail}{said}}}"
            answers.append(ShadowAnswer(key, text))
    return answers


def _packed(route: str, keys: pa.Array, features: pa.Array) -> bytes:
    schema = pa.schema([("key", keys.type), ("features", features.type)], metadata={_ROUTE: route.encode()})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_batch(pa.RecordBatch.from_arrays([keys, features], schema=schema))
    packed: bytes = sink.getvalue().to_pybytes()
    return packed


def _run(connection: Connection, plan: ShadowPlan, calls_under_way: ctypes.c_int) -> None:
    """The process: answer batches until the pipe is closed, which the server's end does also by dying."""
    _step_back()
    sessions, sink = ModelSessions(plan.open_source(), threads=1), plan.open_sink()
    try:
        while True:
            with pa.ipc.open_stream(connection.recv_bytes()) as reader:
                text = reader.schema.metadata[_ROUTE].decode()
                batch = reader.read_next_batch()
            route = parse_route(text)
            if not isinstance(route, RowError):
                for begin in range(0, batch.num_rows, _CHUNK_ROWS):
                    wait_for_a_gap(calls_under_way)
                    chunk = batch.slice(begin, _CHUNK_ROWS)
                    sink.write(shadow_answers(text, route, chunk.column(0), chunk.column(1), sessions))
            wait_for_a_gap(calls_under_way)
            connection.send_bytes(b"done")
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass
    finally:
        sink.close()


def wait_for_a_gap(calls_under_way: ctypes.c_int, patience_seconds: float = _PATIENCE_SECONDS) -> None:
    """Until no call is being answered, or the patience ends."""
    until = time.monotonic() + patience_seconds
    while calls_under_way.value and time.monotonic() < until:
        time.sleep(_PAUSE_SECONDS)


def _step_back() -> None:
    """Take a processor only when nobody else wants it, as far as the system knows such a thing."""
    with contextlib.suppress(OSError):
        os.nice(_LOWEST_PRIORITY)
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
