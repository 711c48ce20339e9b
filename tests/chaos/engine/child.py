"""The engine as a process that kills itself: at the n-th visit of a step, or some microseconds after it.

usage: child.py DATA_DIR PORT JOURNAL [STEP VISIT DELAY_SECONDS]

Every step is written to the journal before it is acted on, so that the test can prove where a kill fell: a journal whose last
line is `epoch: before commit` means that the process died inside the commit.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
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


def main() -> None:
    data_dir, port, journal, *failpoint = sys.argv[1:]
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    step, visit, delay = (failpoint[0], int(failpoint[1]), float(failpoint[2])) if failpoint else ("", 0, 0.0)
    point = Failpoint(Path(journal), step, visit, delay)
    run(Path(data_dir), "127.0.0.1", int(port), EngineSettings(epoch_interval_ms=20), failpoint=point)


if __name__ == "__main__":
    main()
