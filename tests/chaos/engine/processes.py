"""The engine as a process of its own, and the journal by which a test proves where a kill fell."""

from __future__ import annotations

import multiprocessing
import signal
import time
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path

import psycopg

from core.settings import EngineSettings
from headrace.ports import accepts_connections, free_port
from tests.chaos.engine import child

# Forked from a process that has imported everything: a round starts in a tenth of the time.
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload([child.__name__])
HOST = "127.0.0.1"
START_SECONDS = 90.0
STOP_SECONDS = 30.0

Connection = psycopg.Connection[tuple[object, ...]]


@dataclass
class EngineProcess:
    """One data folder and whatever process runs on it at the moment; the port stays the same over restarts."""

    folder: Path
    port: int = field(default_factory=lambda: free_port(HOST))
    settings: EngineSettings = field(default_factory=lambda: EngineSettings(epoch_interval_ms=20, metrics_port=None))
    process: BaseProcess | None = field(default=None, repr=False)

    @property
    def journal(self) -> Path:
        return self.folder.parent / "journal"

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.is_alive()

    @property
    def killed(self) -> bool:
        return self.process is not None and self.process.exitcode == -signal.SIGKILL

    def start(self, step: str = "", visit: int = 0, delay_seconds: float = 0.0) -> None:
        """Start without waiting; it kills itself so long after that visit of the step."""
        self.journal.unlink(missing_ok=True)
        self.process = _FORKS.Process(
            target=child.serve, args=(self.folder, self.port, (step, visit, delay_seconds), self.settings), daemon=True
        )
        self.process.start()

    def await_port(self) -> bool:
        """Whether it listens; False if it is dead before."""
        deadline = time.monotonic() + START_SECONDS
        while not accepts_connections(HOST, self.port):
            if not self.running:
                return False
            assert time.monotonic() < deadline, "the engine does not listen"
            time.sleep(0.01)
        return True

    def connect(self) -> Connection:
        return psycopg.connect(f"postgresql://root@{HOST}:{self.port}/dev", autocommit=True, connect_timeout=20)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.join(STOP_SECONDS)

    def stop(self) -> int | None:
        """SIGTERM; the exit status, None if it does not end."""
        assert self.process is not None
        self.process.terminate()
        self.process.join(STOP_SECONDS)
        return self.process.exitcode

    def inside(self) -> str | None:
        """What was under way when the process died: `epoch`, `ddl`, `checkpoint` (a commit of each), `sink`, or nothing."""
        lines = self.journal.read_text().splitlines() if self.journal.exists() else []
        for kind in ("epoch", "ddl", "checkpoint", "sink"):
            # Each begins with a line `before` and ends with one `after`; sinks run beside the others, on threads of their own.
            steps = [line.rpartition(": ")[2].split()[0] for line in lines if line.startswith(f"{kind}: ")]
            if steps and steps.count("before") > steps.count("after"):
                return kind
        return None


def query(connection: Connection, sql: str) -> list[tuple[object, ...]]:
    return connection.execute(sql).fetchall()  # type: ignore[call-overload,no-any-return]  # psycopg wants a literal
