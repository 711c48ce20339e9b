"""Run a broker as a process."""

from __future__ import annotations

import asyncio
import resource
import signal
from pathlib import Path

from broker.server import Broker
from core.settings import BrokerSettings


def run(data_dir: Path, host: str, port: int, settings: BrokerSettings) -> None:
    """Run until SIGTERM or SIGINT, then flush, close and return.

    Raises:
        HeadraceError: it could not start, or the disk failed while it ran.
    """
    # Each segment keeps its file open; the usual soft limit of 1,024 is soon reached.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    asyncio.run(_run(data_dir, host, port, settings))


async def _run(data_dir: Path, host: str, port: int, settings: BrokerSettings) -> None:
    broker = Broker(data_dir, host, port, settings)
    await broker.start()
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    waiting = asyncio.create_task(stopping.wait())
    failing = asyncio.create_task(broker.wait_failed())
    try:
        await asyncio.wait((waiting, failing), return_when=asyncio.FIRST_COMPLETED)
        if failing.done():
            await failing
    finally:
        for task in (waiting, failing):
            task.cancel()
        await asyncio.gather(waiting, failing, return_exceptions=True)
        await broker.stop()
