"""Runs the embedded engine as a process: opens the folder, listens, and stops cleanly on SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import engine.connectors.iceberg_sink  # noqa: F401  # at the start: the first Iceberg sink must not stop the epochs for it
from core.clock import SystemClock
from core.settings import EngineSettings
from engine.front.metrics import MetricsServer
from engine.front.session import EngineSessions
from engine.runtime.delivery import nowhere
from engine.runtime.engine import Engine
from engine.wire.auth import is_loopback
from engine.wire.server import WireServer

logger = logging.getLogger(__name__)

SWITCH_SECONDS = 0.0005
"""How long a thread keeps the interpreter while others want it. The barrier thread gives it up for every DuckDB statement and must
get it back: with Python's 5 ms, an epoch of twenty statements took 100 ms longer while clients were busy."""


def run(
    data_dir: Path,
    host: str,
    port: int,
    settings: EngineSettings,
    on_ready: Callable[[int], None] | None = None,
    failpoint: Callable[[str], None] = nowhere,
) -> None:
    """Serve until told to stop.

    Args:
        data_dir: the engine's own folder; created if missing.
        port: 0 takes a free one.
        on_ready: called with the port once connections are accepted.
        failpoint: see `Engine`; for tests.

    Raises:
        HeadraceError: the folder cannot be opened, or the disk failed so that a new start is needed.
    """
    sys.setswitchinterval(SWITCH_SECONDS)
    asyncio.run(_serve(data_dir, host, port, settings, on_ready, failpoint))


async def _serve(
    data_dir: Path,
    host: str,
    port: int,
    settings: EngineSettings,
    on_ready: Callable[[int], None] | None,
    failpoint: Callable[[str], None],
) -> None:
    if settings.python_udfs is None:
        settings = settings.model_copy(update={"python_udfs": is_loopback(host)})
    engine = Engine(data_dir, settings, SystemClock(), failpoint)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop_soon() -> None:
        """From any thread."""
        loop.call_soon_threadsafe(stop.set)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        engine.start(stop_soon)
        server = WireServer(EngineSessions(engine), host, port)
        real_port = await server.start()
        logger.info("engine ready", extra={"port": real_port})
        if on_ready is not None:
            on_ready(real_port)
        metrics = _serve_metrics(engine, host, settings.metrics_port)
        await stop.wait()
        await server.stop()
        if metrics is not None:
            await asyncio.to_thread(metrics.stop)
    finally:
        await asyncio.to_thread(engine.close)
    if engine.failure is not None:
        raise engine.failure


def _serve_metrics(engine: Engine, host: str, port: int | None) -> MetricsServer | None:
    """Metrics are worth a warning, not a stop: a second engine on this machine finds the port taken."""
    if port is None:
        return None
    try:
        server = MetricsServer(engine, host, port)
    except OSError as error:
        logger.warning("metrics are not served", extra={"port": port, "error": str(error)})
        return None
    logger.info("metrics served", extra={"port": server.port})
    return server
