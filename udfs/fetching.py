"""Fetches artifacts in a process beside the server, so that looking one up does not hold calls up.

A lookup in the registry is tens of milliseconds of Python, and while it runs a call waits for Python's lock again and again: a call
of 3 ms took 10 to 30. The process is started with the server; until it is there, and whenever it is not, artifacts are fetched here.
It ends when the server does, however that ends: its pipe closes.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import signal
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

import core.errors
from core.errors import HeadraceError, UnavailableError
from udfs.sessions import ArtifactSource

logger = logging.getLogger(__name__)

ANSWER_SECONDS = 15.0  # a fetch is tens of milliseconds; a caller of the server gives up after 30 s


class FetchingProcess:
    """A source of artifacts in a process of its own; one fetch at a time.

    Args:
        open_source: opens the source, in that process; can be pickled.
        local: serves while the process is not there.
        answer_seconds: how long a fetch may take before the process is given up and started anew.
    """

    def __init__(
        self,
        open_source: Callable[[], ArtifactSource],
        local: ArtifactSource,
        *,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        self._open_source, self._local, self._answer_seconds = open_source, local, answer_seconds
        self._lock = threading.Lock()
        self._process: BaseProcess | None = None
        self._pipe: Connection | None = None
        self._is_ready = False
        self._start()

    def load_artifact(self, name: str, version: int) -> bytes:
        """As the source; raises UnavailableError too when the process ends or does not answer in time."""
        with self._lock:
            if not self._ready():
                return self._local.load_artifact(name, version)
            assert self._pipe is not None, "a process that is ready has a pipe"
            try:
                self._pipe.send((name, version))
                if not self._pipe.poll(self._answer_seconds):
                    raise TimeoutError(f"no answer within {self._answer_seconds:g} s")
                answer = self._pipe.recv()
            except (OSError, EOFError) as problem:  # TimeoutError is an OSError
                self._end()
                self._start()
                raise UnavailableError(f"`{name}@{version}` cannot be fetched now: {problem}") from problem
        if isinstance(answer, bytes):
            return answer
        kind, what, where, fix = answer
        raise getattr(core.errors, kind, HeadraceError)(what, where=where, fix=fix)

    def await_ready(self, seconds: float) -> bool:
        """Whether the process is there within so many seconds; fetches need not wait for it."""
        with self._lock:
            return self._ready(seconds)

    def close(self) -> None:
        with self._lock:
            self._end()

    def _ready(self, seconds: float = 0.0) -> bool:
        if not self._is_ready and self._pipe is not None:
            with contextlib.suppress(OSError, EOFError):
                self._is_ready = self._pipe.poll(seconds) and self._pipe.recv() == "ready"
        return self._is_ready

    def _start(self) -> None:
        self._pipe, theirs = multiprocessing.Pipe()
        # Not forked: the server has threads, and a fork inherits their locks.
        self._process = multiprocessing.get_context("spawn").Process(
            target=_serve, args=(theirs, self._open_source), daemon=True, name="fetching"
        )
        self._process.start()
        theirs.close()

    def _end(self) -> None:
        self._is_ready = False
        if self._pipe is not None:
            self._pipe.close()
        if self._process is not None:
            self._process.kill()
            self._process.join()
        self._pipe = self._process = None


def _serve(pipe: Connection, open_source: Callable[[], ArtifactSource]) -> None:
    """In the process: answer until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, which closes the pipe
    try:
        source = open_source()
        pipe.send("ready")
        while True:
            name, version = pipe.recv()
            pipe.send(_answer(source, name, version))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def _answer(source: ArtifactSource, name: str, version: int) -> bytes | tuple[str, str, str | None, str | None]:
    try:
        return source.load_artifact(name, version)
    except HeadraceError as problem:
        return type(problem).__name__, problem.what, problem.where, problem.fix
    except Exception as problem:  # noqa: BLE001  the storage's and catalog's own: nothing is known about the model
        logger.warning("artifact not fetched", extra={"model": f"{name}@{version}", "reason": str(problem)})
        return UnavailableError.__name__, f"`{name}@{version}` cannot be fetched now: {problem}", None, None
