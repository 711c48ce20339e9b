"""The API as a process: it listens on loopback, drains on SIGTERM and exits with 0."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import websockets

from api.main import run
from core.errors import ConflictError
from core.settings import Settings
from tests.unit.api.doubles import NOWHERE

PROGRAM = """
import sys
from pathlib import Path
from api.main import run
from core.settings import Settings
nowhere = sys.argv[2]
settings = Settings(data_dir=Path(sys.argv[1]), kafka=nowhere, database_url=f"postgresql://root@{nowhere}/dev",
                    udf_url=f"http://{nowhere}", api_port=0)
run(settings, on_listening=lambda host, port: print(f"{host}:{port}", flush=True))
print("stopped", flush=True)
"""


@pytest.fixture
async def process(tmp_path: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    running = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, str(tmp_path), NOWHERE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    yield running
    if running.returncode is None:
        running.kill()
        await running.wait()


async def test_sigterm_ends_subscriptions_with_a_word_and_the_process_with_0(process: asyncio.subprocess.Process) -> None:
    assert process.stdout is not None
    address = (await asyncio.wait_for(process.stdout.readline(), 60)).decode().strip()
    assert address.startswith("127.0.0.1:")
    async with httpx.AsyncClient(base_url=f"http://{address}") as client:
        assert (await client.get("/livez")).json() == {"status": "ok"}
    protocol = websockets.Subprotocol("graphql-transport-ws")
    async with websockets.connect(f"ws://{address}/graphql", subprotocols=[protocol], proxy=None) as subscriber:
        await subscriber.send(json.dumps({"type": "connection_init"}))
        await subscriber.recv()
        payload = {"query": "subscription { predictions { seq } }"}
        await subscriber.send(json.dumps({"id": "1", "type": "subscribe", "payload": payload}))
        await subscriber.send(json.dumps({"type": "ping"}))
        assert json.loads(await subscriber.recv())["type"] == "pong"  # so the subscription has been taken before
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(websockets.ConnectionClosed):
            while True:
                await asyncio.wait_for(subscriber.recv(), 20)
    assert subscriber.close_code in (1001, 1012)
    assert (await asyncio.wait_for(process.stdout.read(), 20)).decode().strip() == "stopped"
    assert await asyncio.wait_for(process.wait(), 20) == 0


async def test_a_port_that_is_taken_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConflictError, match="cannot be bound"):
            run(Settings(data_dir=tmp_path, api_port=taken.getsockname()[1]))


def test_importing_the_api_starts_nothing() -> None:
    code = "import threading, api.main; assert threading.active_count() == 1, threading.enumerate()"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
