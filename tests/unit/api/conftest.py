"""The application around doubles at its ports."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from api.app import build_app
from api.http import problems
from api.http.guard import OriginGuard
from api.http.identity import Authenticator
from api.ingest.routes import build_router
from api.ingest.service import Ingestion
from api.ingest.streams import StreamCatalog
from core.fakes import ManualClock
from core.settings import Settings
from tests.unit.api.doubles import NOWHERE, PLANT_COLUMNS, ListLog, ScriptedFeed, ScriptedReads, connected


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


@pytest.fixture
def feed() -> ScriptedFeed:
    return ScriptedFeed()


@pytest.fixture
def whole_app(tmp_path: Path, clock: ManualClock, feed: ScriptedFeed) -> FastAPI:
    """The whole application with nothing behind it but a scripted change feed."""
    lonely = Settings(
        data_dir=tmp_path, kafka=NOWHERE, database_url=f"postgresql://root@{NOWHERE}/dev", udf_url=f"http://{NOWHERE}"
    ).model_copy(update={"api_keys": {}})
    return build_app(lonely, clock=clock, prediction_feed=feed, anomaly_feed=ScriptedFeed())
