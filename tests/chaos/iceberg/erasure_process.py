"""Erases in a process that kills itself at a step: `python -m tests.chaos.iceberg.erasure_process FOLDER STEP OCCURRENCE`."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from tests.unit.iceberg.erasure_lake import WHO, eraser


def main(folder: Path, step: str, occurrence: int) -> None:
    left = occurrence

    def reached(now: str) -> None:
        nonlocal left
        if now == step:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    eraser(folder, failpoint=reached).erase(WHO)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
