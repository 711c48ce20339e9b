"""The engine itself behind the wire, in this process, for tests with real clients."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core.clock import SystemClock
from core.settings import EngineSettings
from engine.front.session import EngineSessions
from engine.runtime.engine import Engine
from engine.wire.server import WireServer


@contextmanager
def served(folder: Path, settings: EngineSettings | None = None) -> Iterator[int]:
    """Give the port on which it listens."""
    engine = Engine(folder, settings or EngineSettings(epoch_interval_ms=1, memory_limit="500MB"), SystemClock())
    engine.start()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="wire", daemon=True)
    thread.start()
    server = WireServer(EngineSessions(engine), "127.0.0.1", 0)
    try:
        yield asyncio.run_coroutine_threadsafe(server.start(), loop).result(10)
        asyncio.run_coroutine_threadsafe(server.stop(), loop).result(10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
        engine.close()
