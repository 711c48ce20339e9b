"""Lets a writer that keeps losing races go first.

Commits are optimistic: whoever swaps the pointer first wins, and the others try again. With many fast writers one that needs
longer for an attempt (a merge, a compaction) could lose for ever. So every attempt goes through a turnstile, a lock file that is
held for microseconds; a writer that has lost too often keeps it for the length of its attempt, and the others wait outside:

    a  --->|  attempt, attempt ...
    b  --->|  lost 4 times: takes the turnstile along, is alone, commits, gives it back
    c  --->|.... waits for b, some ten milliseconds ....|  attempt

It is courtesy, not correctness: who cannot get it in time goes on without, and the catalog still refuses what would overwrite
somebody. The kernel gives the lock back when its holder is killed.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOSSES = 4
_PATIENCE_SECONDS = 2.0
_LOOK_SECONDS = 0.002


@contextmanager
def turnstile(path: Path | None, losses: int) -> Iterator[None]:
    """Pass the turnstile, and keep it meanwhile after `LOSSES` lost races; without a path there is none."""
    if path is None:
        yield
        return
    path.parent.mkdir(exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        if _lock(descriptor) and losses < LOSSES:
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_LOOK_SECONDS)
        else:
            return True
