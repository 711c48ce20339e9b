"""The engine as a process that kills itself: at the n-th visit of a step, or some microseconds after it.

Every step is written to the journal before it is acted on, so that the test can prove where a kill fell: a journal whose last
line is `epoch: before commit` means that the process died inside the commit.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from multiprocessing.connection import wait
from pathlib import Path

from core.settings import EngineSettings
from engine.main import run


class Failpoint:
    def __init__(self, journal: Path, step: str, visit: int, delay_seconds: float) -> None:
        self._journal = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._step, self._visit, self._delay_seconds = step, visit, delay_seconds
        self._visits = 0
        self._lock = threading.Lock()

    def __call__(self, step: str) -> None:
        with self._lock:
            os.write(self._journal, f"{step}\n".encode())
            if step != self._step:
                return
            self._visits += 1
            if self._visits != self._visit:
                return
        if self._delay_seconds == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        threading.Thread(target=self._kill_soon, daemon=True).start()

    def _kill_soon(self) -> None:
        end = time.perf_counter() + self._delay_seconds
        while time.perf_counter() < end:
            pass
        os.kill(os.getpid(), signal.SIGKILL)


def serve(folder: Path, port: int, failpoint: tuple[str, int, float], settings: EngineSettings) -> None:
    """What the process does. Its journal and its log lie beside the data folder."""
    _end_with_the_test_run()
    log = os.open(folder.parent / "engine.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, sys.stdout.fileno())
    os.dup2(log, sys.stderr.fileno())
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    logging.getLogger("engine.connectors").setLevel(logging.CRITICAL)  # brokers are killed: no news
    point = Failpoint(folder.parent / "journal", *failpoint)
    run(folder, "127.0.0.1", port, settings, failpoint=point)


def _end_with_the_test_run() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
