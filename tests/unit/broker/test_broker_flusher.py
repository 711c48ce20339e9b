"""Acknowledged means synced: the disk is a real one that can be held back or made to fail."""

from __future__ import annotations

import asyncio
import errno

import pytest

from broker.log.flusher import Flusher
from core.errors import UnavailableError
from tests.contract.broker.clients import batch
from tests.unit.broker.conftest import Disk, OpenLog


async def test_nothing_is_acknowledged_or_read_before_it_is_synced(open_log: OpenLog, disk: Disk) -> None:
    log = open_log()
    disk.go.clear()
    log.append(batch([b"x"]))
    acknowledged = asyncio.ensure_future(log.durable())
    done, _ = await asyncio.wait([acknowledged], timeout=0.1)
    assert not done
    assert (log.high_watermark, log.end_offset) == (0, 1)
    assert log.read(0, 1000, committed=False).records == b""
    disk.go.set()
    await asyncio.wait_for(acknowledged, 5)
    assert log.high_watermark == 1
    assert log.read(0, 1000, committed=False).records != b""


async def test_one_sync_covers_all_that_wait(open_log: OpenLog, disk: Disk) -> None:
    log = open_log()
    before = disk.syncs
    for _ in range(50):
        log.append(batch([b"x"]))
    await asyncio.gather(*(log.durable() for _ in range(50)))
    assert disk.syncs - before <= 2
    assert log.high_watermark == 50


async def test_readers_are_woken_when_it_is_durable(open_log: OpenLog) -> None:
    log = open_log()
    woken = asyncio.Event()
    log.watch(woken.set)
    log.append(batch([b"x"]))
    assert not woken.is_set()
    await log.durable()
    assert woken.is_set()


async def test_a_failing_disk_fails_every_waiter_and_is_reported_once(
    open_log: OpenLog, disk: Disk, failures: list[UnavailableError]
) -> None:
    log = open_log()
    disk.error = OSError(errno.EIO, "input/output error")
    for _ in range(2):
        log.append(batch([b"x"]))
        with pytest.raises(UnavailableError, match="refused to flush"):
            await log.durable()
    assert len(failures) == 1
    assert log.high_watermark == 0, "what is not durable is not shown"


async def test_a_full_segment_is_durable_before_the_next_begins(open_log: OpenLog, disk: Disk) -> None:
    log = open_log(segment_bytes=1024)
    log.append(batch([b"x" * 900]))
    before = disk.syncs
    log.append(batch([b"y" * 900]))
    assert disk.syncs > before
    assert log.high_watermark == 1, "the first segment needs no other sync"


async def test_the_policy_never_waits_for_nobody(disk: Disk, open_log: OpenLog) -> None:
    flusher = Flusher("never", 0, lambda _: None, disk.sync)
    log = open_log()
    log._flusher = flusher
    disk.error = OSError(errno.EIO, "nobody asks the disk")
    log.append(batch([b"x"]))
    await log.durable()
    assert log.high_watermark == 1
    await flusher.close()
