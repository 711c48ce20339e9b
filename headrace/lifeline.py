"""A child ends when its parent is gone, however the parent went.

The parent keeps the write end of a pipe that it never writes to; the kernel closes it when the parent dies, also by
SIGKILL. The child waits for the end of file in a thread. Works alike on Linux and macOS, and does not depend on which of
the parent's threads started the child, as `PR_SET_PDEATHSIG` does.
"""

from __future__ import annotations

import logging
import os
import signal
import threading

logger = logging.getLogger(__name__)

GRACE_SECONDS = 10.0  # the same as the supervisor gives for a clean stop


def watch(descriptor: int) -> None:
    """Stop this process by SIGTERM when the other end of the pipe is closed, and by SIGKILL if that does not help."""
    threading.Thread(target=_wait, args=(descriptor,), name="lifeline", daemon=True).start()


def _wait(descriptor: int) -> None:
    while os.read(descriptor, 1):  # nobody writes, so this returns at the end of file only
        pass
    logger.warning("parent is gone, stopping")
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(GRACE_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)
