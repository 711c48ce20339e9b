"""Logs on a temporary folder, with a clock that is told and a disk that obeys the test."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from broker.log.flusher import Flusher
from broker.log.partition import LogConfig, PartitionLog
from core.errors import UnavailableError


class Disk:
    """Syncs files for real, counts it, and can be told to wait or to fail."""

    def __init__(self) -> None:
        self.syncs = 0
        self.go = threading.Event()
        self.go.set()
        self.error: OSError | None = None

    def sync(self, fd: int) -> None:
        assert self.go.wait(10), "the test never let the disk go on"
        if self.error is not None:
            raise self.error
        os.fsync(fd)
        self.syncs += 1


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def failures() -> list[UnavailableError]:
    """What the flusher has reported."""
    return []


@pytest.fixture
async def flusher(disk: Disk, failures: list[UnavailableError]) -> Flusher:
    return Flusher("group", 0, failures.append, disk.sync)


OpenLog = Callable[..., PartitionLog]


@pytest.fixture
def open_log(tmp_path: Path, flusher: Flusher) -> OpenLog:
    """Open the log of this test's folder; call it again to open it as a restart would."""

    def open_it(
        segment_bytes: int = 1 << 20, timestamp_type: str = "CreateTime", now_ms: Callable[[], int] = lambda: 0, **more: int
    ) -> PartitionLog:
        config = LogConfig(segment_bytes, 1 << 20, timestamp_type, **more)  # type: ignore[arg-type]  # the tests give one of the two
        return PartitionLog(tmp_path, config, flusher, now_ms)

    return open_it
