"""Doubles at the ports of the API, and an application around them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from api.app import build_app
from api.database import Parameters, Statement, StatementError
from api.http import problems
from api.http.guard import OriginGuard
from api.http.identity import Authenticator
from api.ingest.routes import build_router
from api.ingest.service import Ingestion
from api.ingest.streams import StreamCatalog
from api.ingest.verdicts import Record
from api.live.changes import Change
from core.errors import UnavailableError
from core.fakes import ManualClock
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


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def log() -> ListLog:
    return ListLog()


@pytest.fixture
def reads() -> ScriptedReads:
    scripted = ScriptedReads()
    scripted.answers['SHOW COLUMNS FROM "plant_events"'] = PLANT_COLUMNS
    scripted.answers["SHOW SOURCES"] = [{"Name": "plant_events"}]
    return scripted


@pytest.fixture
def settings() -> Settings:
    return Settings.model_validate({"api_keys": {"acme": "key-of-acme", "globex": "key-of-globex"}})


@pytest.fixture
def ingest_app(log: ListLog, reads: ScriptedReads, clock: ManualClock, settings: Settings) -> FastAPI:
    """The ingestion routes with their guard, over doubles of the log and the stream database."""
    app = FastAPI()
    problems.install(app)
    app.include_router(build_router(Ingestion(log, StreamCatalog(reads, clock), clock), Authenticator(settings)))
    app.add_middleware(OriginGuard, check_host=True, allowed_origins=["http://localhost:3000"])
    return app


@pytest.fixture
async def client(ingest_app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with connected(ingest_app) as connection:
        yield connection


def connected(app: FastAPI, *, address: str = "127.0.0.1") -> httpx.AsyncClient:
    """A client that calls `app` from `address`."""
    transport = httpx.ASGITransport(app=app, client=(address, 40000), raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000")


@pytest.fixture
def feed() -> ScriptedFeed:
    return ScriptedFeed()


@pytest.fixture
def whole_app(tmp_path: Any, clock: ManualClock, feed: ScriptedFeed) -> FastAPI:
    """The whole application with nothing behind it but a scripted change feed."""
    lonely = Settings(
        data_dir=tmp_path, kafka=NOWHERE, database_url=f"postgresql://root@{NOWHERE}/dev", udf_url=f"http://{NOWHERE}"
    ).model_copy(update={"api_keys": {}})
    return build_app(lonely, clock=clock, prediction_feed=feed, anomaly_feed=ScriptedFeed())
