"""A small HTTP/1.1 load generator, so cheap that two cores can hold it beside the server: prebuilt requests over keep-alive sockets.

paced(...)      open loop: request i is due at i / rate; its latency counts from that moment, however late it could be sent
flat_out(...)   closed loop: so many connections, each sends the next request when the last one is answered
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np

PATIENCE_SECONDS = 30.0


@dataclass
class Load:
    """What was measured: seconds of each answered request, and how many came with which status (0: never)."""

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    lasted_seconds: float = 0.0

    def report(self) -> dict[str, object]:
        """Percentiles in milliseconds, requests a second, and statuses."""
        ms = np.array(self.seconds or [float("nan")]) * 1000
        return {
            "requests": len(self.seconds),
            "requests_per_second": round(len(self.seconds) / self.lasted_seconds, 1),
            "p50_ms": round(float(np.percentile(ms, 50)), 2),
            "p90_ms": round(float(np.percentile(ms, 90)), 2),
            "p99_ms": round(float(np.percentile(ms, 99)), 2),
            "most_ms": round(float(ms.max()), 2),
            "statuses": {str(status): count for status, count in sorted(self.statuses.items())},
        }


def http_request(host: str, port: int, path: str, body: bytes) -> bytes:
    """A POST with a JSON body, as bytes."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class _Connection(asyncio.Protocol):
    """One socket with at most one request on its way."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.answered: Callable[[int], None] = lambda _status: None
        self._buffer = b""
        self._length = -1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's own, which is no subclass

    def send(self, request: bytes, answered: Callable[[int], None]) -> None:
        self.answered = answered
        self._buffer, self._length = b"", -1
        assert self.transport is not None
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._length < 0:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = self._buffer[:end].lower()
            at = head.find(b"content-length:")
            assert at >= 0, "the servers here name the length"
            self._length = end + 4 + int(head[at + 15 :].split(b"\r\n", 1)[0])
        if len(self._buffer) >= self._length:
            self.answered(int(self._buffer[9:12]))

    def connection_lost(self, _error: Exception | None) -> None:
        self.answered(0)


async def _connect(host: str, port: int) -> _Connection:
    _, connection = await asyncio.get_running_loop().create_connection(_Connection, host, port)
    return connection


async def paced(host: str, port: int, requests: Sequence[bytes], *, rate: float, seconds: float, connections: int = 64) -> Load:
    """Send at a fixed rate; see above."""
    loop = asyncio.get_running_loop()
    idle = deque([await _connect(host, port) for _ in range(connections)])
    waiting: deque[tuple[float, bytes]] = deque()
    load = Load()
    total, answered = int(rate * seconds), 0
    done = loop.create_future()
    begun = time.perf_counter() + 0.05

    def send(connection: _Connection, due: float, request: bytes) -> None:
        def finish(status: int) -> None:
            nonlocal answered
            connection.answered = lambda _status: None
            answered += 1
            load.statuses[status] += 1
            load.seconds.append(time.perf_counter() - due)
            if answered == total:
                done.set_result(None)
            elif waiting:
                send(connection, *waiting.popleft())
            else:
                idle.append(connection)

        connection.send(request, finish)

    for i in range(total):
        due = begun + i / rate
        pause = due - time.perf_counter()
        if pause > 0:
            await asyncio.sleep(pause)
        elif i % 32 == 0:
            await asyncio.sleep(0)
        request = requests[i % len(requests)]
        if idle:
            send(idle.popleft(), due, request)
        else:
            waiting.append((due, request))
    await asyncio.wait_for(done, PATIENCE_SECONDS)
    load.lasted_seconds = time.perf_counter() - begun
    for connection in idle:
        assert connection.transport is not None
        connection.transport.close()
    return load


async def flat_out(host: str, port: int, requests: Sequence[bytes], *, seconds: float, connections: int) -> Load:
    """Send as fast as answers come; see above."""
    loop = asyncio.get_running_loop()
    opened = [await _connect(host, port) for _ in range(connections)]
    load = Load()
    running, sent = len(opened), 0
    done = loop.create_future()
    begun = time.perf_counter()

    def send(connection: _Connection) -> None:
        nonlocal sent
        sent += 1
        due = time.perf_counter()

        def finish(status: int) -> None:
            nonlocal running
            connection.answered = lambda _status: None
            load.statuses[status] += 1
            load.seconds.append(time.perf_counter() - due)
            if status and time.perf_counter() - begun < seconds:
                send(connection)
                return
            running -= 1
            if running == 0:
                done.set_result(None)

        connection.send(requests[sent % len(requests)], finish)

    for connection in opened:
        send(connection)
    await asyncio.wait_for(done, seconds + PATIENCE_SECONDS)
    load.lasted_seconds = time.perf_counter() - begun
    for connection in opened:
        assert connection.transport is not None
        connection.transport.close()
    return load


def await_answer(host: str, port: int, request: bytes, *, seconds: float = 90.0) -> None:
    """Return when a request is answered with 200."""

    async def once() -> int:
        connection = await _connect(host, port)
        status: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        connection.send(request, lambda found: status.done() or status.set_result(found))
        try:
            return await asyncio.wait_for(status, 10.0)
        finally:
            assert connection.transport is not None
            connection.transport.close()

    deadline = time.monotonic() + seconds
    last: object = None
    while time.monotonic() < deadline:
        try:
            last = asyncio.run(once())
        except (OSError, TimeoutError) as problem:
            last = problem
        if last == 200:
            return
        time.sleep(0.2)
    raise TimeoutError(f"{host}:{port} does not answer: {last}")
