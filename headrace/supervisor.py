"""Starts our processes, keeps them running, and leaves none behind.

```
  start ---> ready ---------> running ----exit----> wait (back-off) ---> start
    |  (accepts connections)      |                      |
    +-- dies or is late: error    +-- stop: SIGTERM, SIGKILL after a grace      too often in a row: give up
```

Every process is in a session of its own, so that Ctrl-C in a terminal
reaches the supervisor only, which then stops them in the reverse order of their start. Each holds a lifeline (see there),
so none survives a supervisor that was killed.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import IO

from core.errors import ConflictError, UnavailableError
from headrace.lifeline import GRACE_SECONDS
from headrace.ports import accepts_connections
from headrace.run_file import LOCK_FILE, RUN_FILE

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.05
READY_SECONDS = 60.0  # a cold import of the scientific stack on a loaded two-core machine takes up to 20 s


@dataclass(frozen=True)
class ProcessSpec:
    """One process to keep running: ready when HOST:PORT accepts connections.

    Attributes:
        command: program and arguments; `--lifeline FD` is appended.
        niceness: 0 to 19; with more of it, the others go first where all want the processor.
    """

    name: str
    command: tuple[str, ...]
    host: str
    port: int
    niceness: int = 0


@dataclass(frozen=True)
class RestartPolicy:
    """Waits 0.1 s, 0.2 s, 0.4 s ... up to `longest_seconds`; forgets earlier crashes after `stable_seconds` of running."""

    first_seconds: float = 0.1
    longest_seconds: float = 5.0
    attempts: int = 8
    stable_seconds: float = 30.0

    def delay_seconds(self, crashes: int) -> float:
        """How long to wait before the restart that follows the `crashes`-th crash in a row."""
        return float(min(self.longest_seconds, self.first_seconds * 2 ** max(crashes - 1, 0)))


@dataclass(frozen=True)
class ProcessEvent:
    """What happened to a process: started, ready, exited (with its return code), restarting, failed, stopped."""

    name: str
    kind: str
    pid: int
    return_code: int | None = None


@dataclass
class _Child:
    spec: ProcessSpec
    process: subprocess.Popen[bytes]
    started_seconds: float
    log: Path
    restarts: int = 0
    crashes: int = 0
    ready: bool = False
    restart_at_seconds: float | None = None


@dataclass
class Supervisor:
    """Runs `specs` on one data folder, which it locks.

    Args:
        specs: stopped in the reverse order.
        data_dir: gets `run.json`, `supervisor.lock` and `logs/`.
        environ: environment of the children.
        on_event: called from the monitor thread; must be quick.
    """

    specs: Sequence[ProcessSpec]
    data_dir: Path
    environ: Mapping[str, str]
    policy: RestartPolicy = field(default_factory=RestartPolicy)
    on_event: Callable[[ProcessEvent], None] = lambda _event: None
    _children: dict[str, _Child] = field(default_factory=dict, init=False)
    _guard: threading.RLock = field(default_factory=threading.RLock, init=False)
    _stopping: threading.Event = field(default_factory=threading.Event, init=False)
    _failed: str | None = field(default=None, init=False)
    _monitor: threading.Thread | None = field(default=None, init=False)
    _lock_file: IO[str] | None = field(default=None, init=False)
    _pipe: tuple[int, int] | None = field(default=None, init=False)

    def __enter__(self) -> Supervisor:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def start(self, timeout_seconds: float = READY_SECONDS) -> None:
        """Start everything and return when each accepts connections.

        Raises:
            ConflictError: the data folder is in use, or somebody else listens on one of the ports.
            UnavailableError: a process ended or did not become ready in time; the text ends with its last log lines.
        """
        (self.data_dir / "logs").mkdir(parents=True, exist_ok=True)
        self._lock()
        self._pipe = os.pipe()
        try:
            for spec in self.specs:
                self._check_port_is_free(spec)
            # All at once: each waits for those it needs by itself, as it must after a crash, and importing takes longest.
            for spec in self.specs:
                with self._guard:
                    self._children[spec.name] = self._spawn(spec)
            for spec in self.specs:
                self._await_ready(spec.name, timeout_seconds)
        except BaseException:
            self.stop()
            raise
        self._monitor = threading.Thread(target=self._watch, name="supervisor", daemon=True)
        self._monitor.start()

    def pid(self, name: str) -> int:
        """The process id that runs, or ran last, under this name."""
        with self._guard:
            return self._children[name].process.pid

    def restarts(self, name: str) -> int:
        """How often the process was started again."""
        with self._guard:
            return self._children[name].restarts

    def is_ready(self, name: str) -> bool:
        """Whether the process runs and has accepted connections."""
        with self._guard:
            child = self._children[name]
            return child.ready and child.process.poll() is None

    def kill(self, name: str) -> int:
        """Send SIGKILL, as a crash would; the monitor brings the process back. Returns the killed pid."""
        with self._guard:
            process = self._children[name].process
            process.send_signal(signal.SIGKILL)
            return process.pid

    def wait_ready(self, name: str, timeout_seconds: float = READY_SECONDS, *, restarts: int = 0) -> None:
        """Return when the process was restarted at least `restarts` times and accepts connections.

        Raises:
            UnavailableError: not within the time.
        """
        deadline = time.monotonic() + timeout_seconds
        while time.monotonic() < deadline:
            with self._guard:
                child = self._children[name]
                done = child.restarts >= restarts and child.ready and child.process.poll() is None
            if done:
                return
            self.check()
            self._stopping.wait(POLL_SECONDS)
        raise UnavailableError(f"`{name}` is not back after {timeout_seconds:g} s", where=str(self._log(name)))

    def check(self) -> None:
        """Raise `UnavailableError` if a process was given up."""
        if self._failed is not None:
            raise UnavailableError(self._failed, fix="Its log says why; everything else is being stopped.")

    def stop(self, grace_seconds: float = GRACE_SECONDS) -> None:
        """Stop all in reverse order, SIGTERM first, SIGKILL by pid after the grace; safe to call twice."""
        self._stopping.set()
        if self._monitor is not None and self._monitor is not threading.current_thread():
            self._monitor.join()
        for spec in reversed(self.specs):
            child = self._children.get(spec.name)
            if child is not None:
                self._end(child, grace_seconds)
        if self._pipe is not None:
            for descriptor in self._pipe:
                os.close(descriptor)
            self._pipe = None
        if self._lock_file is not None:
            (self.data_dir / RUN_FILE).unlink(missing_ok=True)
            self._lock_file.close()
            self._lock_file = None

    # -- below: called by the above, in this order

    def _lock(self) -> None:
        file = (self.data_dir / LOCK_FILE).open("a+", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.close()
            raise ConflictError(
                "another headrace runs on this data folder",
                where=str(self.data_dir),
                fix="Stop it, or choose another folder with --data-dir.",
            ) from error
        self._lock_file = file

    def _check_port_is_free(self, spec: ProcessSpec) -> None:
        if accepts_connections(spec.host, spec.port):
            raise ConflictError(
                f"`{spec.host}:{spec.port}` is in use by another process",
                where=spec.name,
                fix="Stop it, or choose another port (port 0 takes a free one).",
            )

    def _spawn(self, spec: ProcessSpec) -> _Child:
        assert self._pipe is not None
        log = self._log(spec.name)
        read_end = self._pipe[0]
        with log.open("ab") as output:
            process = subprocess.Popen(
                [*spec.command, "--lifeline", str(read_end)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=dict(self.environ),
                pass_fds=(read_end,),
                # Ctrl-C reaches the supervisor only. A session of its own would do that too, but Linux shares the processor by
                # session first (autogroup), and then niceness says nothing between these processes.
                process_group=0,
            )
        if spec.niceness:
            # Before it has threads: they take their own from the one that starts them.
            with suppress(ProcessLookupError):
                os.setpriority(os.PRIO_PROCESS, process.pid, min(19, os.getpriority(os.PRIO_PROCESS, 0) + spec.niceness))
        self._tell(ProcessEvent(spec.name, "started", process.pid))
        return _Child(spec, process, time.monotonic(), log)

    def _await_ready(self, name: str, timeout_seconds: float) -> None:
        child = self._children[name]
        deadline = time.monotonic() + timeout_seconds
        while time.monotonic() < deadline:
            if child.process.poll() is not None:
                raise UnavailableError(
                    f"`{name}` ended with {child.process.returncode} before it was ready",
                    where=str(child.log),
                    fix=_tail(child.log),
                )
            if accepts_connections(child.spec.host, child.spec.port):
                self._mark_ready(child)
                return
            self._stopping.wait(POLL_SECONDS)
        raise UnavailableError(
            f"`{name}` does not accept connections after {timeout_seconds:g} s", where=str(child.log), fix=_tail(child.log)
        )

    def _watch(self) -> None:
        while not self._stopping.wait(POLL_SECONDS):
            for child in list(self._children.values()):
                if child.process.poll() is not None:
                    self._revive(child)
                elif not child.ready and accepts_connections(child.spec.host, child.spec.port):
                    self._mark_ready(child)
                elif child.crashes and time.monotonic() - child.started_seconds > self.policy.stable_seconds:
                    child.crashes = 0

    def _revive(self, child: _Child) -> None:
        now = time.monotonic()
        if child.restart_at_seconds is None:
            child.ready = False
            child.crashes += 1
            self._tell(ProcessEvent(child.spec.name, "exited", child.process.pid, child.process.returncode))
            if child.crashes > self.policy.attempts:
                self._failed = self._failed or f"`{child.spec.name}` ended {child.crashes} times in a row"
            child.restart_at_seconds = now + self.policy.delay_seconds(child.crashes)
        elif self._failed is None and now >= child.restart_at_seconds:
            with self._guard:
                fresh = self._spawn(child.spec)
                child.process, child.started_seconds = fresh.process, fresh.started_seconds
                child.restart_at_seconds = None
                child.restarts += 1
            self._write_run_file()

    def _mark_ready(self, child: _Child) -> None:
        child.ready = True
        self._tell(ProcessEvent(child.spec.name, "ready", child.process.pid))
        self._write_run_file()

    def _end(self, child: _Child, grace_seconds: float) -> None:
        if child.process.poll() is None:
            child.process.terminate()
            try:
                child.process.wait(grace_seconds)
            except subprocess.TimeoutExpired:
                logger.warning("process ignored SIGTERM", extra={"service": child.spec.name, "pid": child.process.pid})
                child.process.kill()
                child.process.wait()
        self._tell(ProcessEvent(child.spec.name, "stopped", child.process.pid, child.process.returncode))

    def _write_run_file(self) -> None:
        services = {
            name: {
                "pid": child.process.pid,
                "host": child.spec.host,
                "port": child.spec.port,
                "restarts": child.restarts,
                "log": str(child.log),
            }
            for name, child in self._children.items()
        }
        entry = {"pid": os.getpid(), "written_at": datetime.now(UTC).isoformat(), "services": services}
        partial = self.data_dir / f"{RUN_FILE}.partial"
        partial.write_text(json.dumps(entry, indent=2) + "\n", encoding="utf-8")
        partial.replace(self.data_dir / RUN_FILE)

    def _tell(self, event: ProcessEvent) -> None:
        unexpected = event.kind == "exited"
        logger.log(
            logging.WARNING if unexpected else logging.INFO,
            "process event",
            extra={"service": event.name, "kind": event.kind, "pid": event.pid, "return_code": event.return_code},
        )
        self.on_event(event)

    def _log(self, name: str) -> Path:
        return self.data_dir / "logs" / f"{name}.log"


def _tail(log: Path, lines: int = 5) -> str:
    """The last lines of a log, to put into an error."""
    text = log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:] if log.exists() else []
    return "Its log ends with:\n" + "\n".join(text)
