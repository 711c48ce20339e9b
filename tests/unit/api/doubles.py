"""Doubles at the ports of the API, and a client without a network."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI

from api.app import build_app
from api.database import Database, Parameters, Statement, StatementError
from api.graphql.context import Services
from api.identity.authenticator import Authenticator, build_authenticator
from api.ingest.verdicts import Record
from api.live.changes import Change, ChangeFeed
from core.clock import Clock, SystemClock
from core.errors import UnavailableError
from core.settings import Settings

NOWHERE = "127.0.0.1:1"  # nobody listens on port 1


class ListLog:
    """Keeps records in lists; `away` makes it refuse."""

    def __init__(self) -> None:
        self.topics: dict[str, list[Record]] = {}
        self.away = False

    async def append(self, topic: str, records: Sequence[Record]) -> None:
        if self.away:
            raise UnavailableError("the broker did not acknowledge the rows")
        if records:
            self.topics.setdefault(topic, []).extend(records)


class ScriptedReads:
    """Answers statements by their text; what it does not know does not exist."""

    def __init__(self) -> None:
        self.answers: dict[str, list[dict[str, Any]]] = {}
        self.asked: list[tuple[str, list[object]]] = []
        self.away = False

    async def fetch(
        self, statement: Statement, parameters: Parameters = (), *, timeout_seconds: float | None = None
    ) -> list[dict[str, Any]]:
        text = statement if isinstance(statement, str) else statement.as_string(None)
        self.asked.append((text, list(parameters)))
        if self.away:
            raise UnavailableError("the stream database is away")
        if text not in self.answers:
            raise StatementError("table or source not found", sqlstate="42P01")
        return self.answers[text]


class ScriptedFeed:
    """A feed that yields what a test puts in, and breaks when told."""

    def __init__(self) -> None:
        self.asked_since: list[int | None] = []
        self._batches: asyncio.Queue[Sequence[Change] | Exception] = asyncio.Queue()

    def put(self, *changes: Change) -> None:
        self._batches.put_nowait(changes)

    def fail(self, error: Exception) -> None:
        self._batches.put_nowait(error)

    async def follow(self, since_ms: int | None) -> AsyncGenerator[Sequence[Change], None]:
        self.asked_since.append(since_ms)
        yield ()
        while True:
            batch = await self._batches.get()
            if isinstance(batch, Exception):
                raise batch
            yield batch


async def eventually(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait until a condition holds, and fail when it does not in time."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


PLANT_COLUMNS = [
    {"Name": "tenant_id", "Type": "character varying"},
    {"Name": "entity_id", "Type": "character varying"},
    {"Name": "event_time", "Type": "timestamp with time zone"},
    {"Name": "vibration", "Type": "double precision"},
    {"Name": "readings", "Type": "integer"},
]


def connected(app: FastAPI, *, address: str = "127.0.0.1") -> httpx.AsyncClient:
    """A client that calls `app` from `address`."""
    transport = httpx.ASGITransport(app=app, client=(address, 40000), raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000")


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # the test's own process keeps its signals


@asynccontextmanager
async def serving(settings: Settings, clock: Clock, feed: ChangeFeed | None = None) -> AsyncIterator[tuple[str, Services]]:
    """The whole application behind a real socket; gives its address and services."""
    app = build_app(settings, clock=clock, prediction_feed=feed, anomaly_feed=ScriptedFeed())
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = _Server(uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=5))
        task = asyncio.create_task(server.serve(sockets=[listener]))
        await eventually(lambda: server.started)
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}", app.state.services
        finally:
            server.should_exit = True
            await task


def authenticator_of(settings: Settings) -> Authenticator:
    """The authenticator of an application, over a stream database that may be away."""
    return build_authenticator(settings, Database(settings.database_url), SystemClock())
