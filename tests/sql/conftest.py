"""An engine that listens on a free port, in this process, for the sqllogictest files."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.clock import SystemClock
from core.settings import EngineSettings
from engine.front.session import EngineSessions
from engine.runtime.engine import Engine
from engine.wire.server import WireServer


@pytest.fixture(scope="module")
def engine_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a running engine with an empty folder."""
    folder: Path = tmp_path_factory.mktemp("sql")
    engine = Engine(folder / "engine", EngineSettings(memory_limit="500MB"), SystemClock())
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
