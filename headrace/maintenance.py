"""The maintenance process: looks after the lake at intervals, when nobody else wants the processor.

    sleep until a task is due --> the task for each table (`iceberg.maintenance`) --> state file, metrics --> sleep ...

It runs at the lowest priority, on one thread for computing, and loads nothing until the first task is due. What it did last stands
in `DATA_DIR/maintenance.json` and at `/state` of its port, beside Prometheus text at `/metrics`.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from core.clock import Clock, SystemClock
from core.errors import UnavailableError
from core.settings import MaintenanceSettings, Settings

logger = logging.getLogger(__name__)

STATE_FILE = "maintenance.json"
_COUNTED = ("files_saved", "bytes_saved", "dead_rows", "snapshots", "rows_beyond_retention", "files", "size_bytes", "given_up")


def run(settings: Settings, host: str, port: int) -> None:
    """Serve state and metrics, and do what is due, until SIGTERM or SIGINT."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stop.set())
    state = State(settings.data_dir / STATE_FILE)
    server = serve(state, host, port)
    try:
        Loop(settings, state, stop).run()
    finally:
        server.shutdown()
        server.server_close()


class State:
    """What was done, kept in a file that is whole at any time, for people and for a scraper."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._guard = threading.Lock()
        self._tasks: dict[str, dict[str, Any]] = {}  # Any: JSON
        self._totals: Counter[tuple[str, str]] = Counter()
        self._next: dict[str, str] = {}

    def plan(self, due: Mapping[str, datetime]) -> None:
        """Remember when each task comes next."""
        with self._guard:
            self._next = {task: moment.isoformat(timespec="seconds") for task, moment in due.items()}
        self._store()

    def add(self, task: str, began: datetime, seconds: float, done: list[Any], error: str | None = None) -> None:
        """Remember a pass; `done` are `iceberg.maintenance.Done`."""
        failed = [each for each in done if each.error is not None and not each.held]
        with self._guard:
            self._totals[task, "runs"] += 1
            self._totals[task, "failures"] += len(failed) + (error is not None)
            for each in done:
                for name in _COUNTED:
                    self._totals[task, name] += each.counts.get(name, 0)
            self._tasks[task] = {
                "began": began.isoformat(timespec="seconds"),
                "seconds": round(seconds, 3),
                "tables": len(done),
                "changed": {each.table: dict(each.counts) for each in done if any(each.counts.values())},
                "held": [each.table for each in done if each.held],
                "failed": {each.table: each.error for each in failed} | ({"all": error} if error else {}),
            }
        self._store()

    def as_json(self) -> dict[str, object]:
        with self._guard:
            totals: dict[str, dict[str, int]] = {}
            for (task, name), value in self._totals.items():
                totals.setdefault(task, {})[name] = value
            return {"last": dict(self._tasks), "next": dict(self._next), "totals": totals}

    def metrics(self) -> str:
        """Prometheus text."""
        lines = []
        with self._guard:
            for name in ("runs", "failures", *_COUNTED):
                values = {task: value for (task, what), value in self._totals.items() if what == name}
                lines.append(f"# TYPE headrace_maintenance_{name}_total counter")
                lines += [
                    f'headrace_maintenance_{name}_total{{task="{task}"}} {value}' for task, value in sorted(values.items())
                ]
            lines.append("# TYPE headrace_maintenance_last_run_timestamp_seconds gauge")
            for task, last in sorted(self._tasks.items()):
                began = datetime.fromisoformat(last["began"]).timestamp()
                lines.append(f'headrace_maintenance_last_run_timestamp_seconds{{task="{task}"}} {began:.0f}')
        return "\n".join(lines) + "\n"

    def _store(self) -> None:
        temporary = self._path.with_suffix(".tmp")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps(self.as_json(), indent=2) + "\n", encoding="utf-8")
            temporary.replace(self._path)
        except OSError:
            logger.warning("maintenance state not written", extra={"file": str(self._path)}, exc_info=True)


class Loop:
    """Does each task at its interval; the first time one interval after the start.

    Args:
        settings: of the platform.
        state: told of everything.
        stop: ends the loop, at the latest after the table that is being done.
        clock: now.
    """

    def __init__(self, settings: Settings, state: State, stop: threading.Event, clock: Clock | None = None) -> None:
        self._settings = settings
        self._state = state
        self._stop = stop
        self._clock = clock or SystemClock()
        self._maintenance: Any = None

    def run(self) -> None:
        """Go on until told to stop."""
        intervals = intervals_of(self._settings.maintenance)
        due = {task: time.monotonic() + seconds for task, seconds in intervals.items()}
        self._tell(due)
        while due:
            task = min(due, key=lambda name: due[name])
            if self._stop.wait(max(0.0, due[task] - time.monotonic())):
                return
            self.do(task)
            due[task] = time.monotonic() + intervals[task]
            self._tell(due)
        self._stop.wait()

    def do(self, task: str) -> None:
        """Do one task for all tables."""
        began, clock = self._clock.now(), time.monotonic()
        done, error = [], None
        try:
            done = self._opened().run(task, stop=self._stop.is_set)
        except (UnavailableError, OSError) as problem:  # the catalog does not answer now; the next pass will try again
            logger.warning("maintenance cannot reach the lake", extra={"task": task, "error": str(problem)})
            error = str(problem)
        self._state.add(task, began, time.monotonic() - clock, done, error)

    def _opened(self) -> Any:
        """Everything heavy is loaded here, when it is needed first."""
        if self._maintenance is None:
            import pyarrow as pa

            from iceberg.catalog import open_lake
            from iceberg.maintenance import Maintenance

            pa.set_cpu_count(1)
            settings = self._settings
            self._maintenance = Maintenance(open_lake(settings), settings.resolved_warehouse, settings.maintenance, self._clock)
        return self._maintenance

    def _tell(self, due: Mapping[str, float]) -> None:
        now, clock = datetime.now(UTC), time.monotonic()
        self._state.plan({task: datetime.fromtimestamp(now.timestamp() + at - clock, UTC) for task, at in due.items()})


def intervals_of(settings: MaintenanceSettings) -> dict[str, float]:
    """Seconds between two passes of each task that is switched on."""
    found = {
        "compact": settings.compact_seconds,
        "expire": settings.expire_seconds,
        "orphans": settings.orphans_seconds,
    }
    return {task: seconds for task, seconds in found.items() if seconds}


def serve(state: State, host: str, port: int) -> ThreadingHTTPServer:
    """Answer `/state` and `/metrics` in a thread of its own."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = {"/state": ("application/json", json.dumps(state.as_json())), "/metrics": ("text/plain", state.metrics())}
            found = known.get(self.path)
            if found is None:
                self.send_error(404)
                return
            content = found[1].encode()
            self.send_response(200)
            self.send_header("Content-Type", found[0])
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args: object) -> None:
            logger.debug("request", extra={"line": args})

    server = ThreadingHTTPServer((host, port), Handler)
    threading.Thread(target=server.serve_forever, name="maintenance-http", daemon=True).start()
    logger.info("maintenance waits", extra={"port": server.server_port, "pid": os.getpid()})
    return server
