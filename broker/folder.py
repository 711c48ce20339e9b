"""The data folder belongs to one broker at a time."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from core.errors import ConflictError

LOCK_NAME = "broker.lock"


class FolderLock:
    """Holds a data folder; the operating system lets go of it when the process dies, however it dies."""

    def __init__(self, folder: Path) -> None:
        """Create and lock the folder.

        Raises:
            ConflictError: another broker runs on it.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.pread(self._fd, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(self._fd)
            raise ConflictError(
                f"the data folder `{folder}` is in use by the broker with process id `{owner}`",
                fix="Stop that broker, or give this one another folder.",
            ) from error
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        os.close(self._fd)
