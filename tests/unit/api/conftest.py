"""The application around doubles at its ports."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import numpy as np
import pytest
from fastapi import FastAPI

from api.app import build_app
from api.http import problems
from api.http.guard import OriginGuard
from api.ingest.routes import build_router
from api.ingest.service import Ingestion
from api.ingest.streams import StreamCatalog
from core.fakes import ManualClock
from core.settings import Settings
from iceberg.catalog import open_catalog
from iceberg.registry import Registry
from learning.models.trees import fit_random_forest
from learning.tabular import TabularData, train_tabular
from learning.train import register
from tests.unit.api.doubles import NOWHERE, PLANT_COLUMNS, ListLog, ScriptedFeed, ScriptedReads, authenticator_of, connected
from udfs.server import UdfFlightServer, build_server


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
    app.include_router(
        build_router(
            Ingestion(log, StreamCatalog(reads, clock), clock),
            authenticator_of(settings),
        )
    )
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


@pytest.fixture(scope="session")
def lake_settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings.model_validate(
        {"data_dir": tmp_path_factory.mktemp("lake"), "api_keys": {"acme": "key-of-acme", "globex": "key-of-globex"}}
    )


@pytest.fixture(scope="session")
def registry(lake_settings: Settings) -> Registry:
    """`default@1`, a forest of 100 trees of depth 10 over three features."""
    rng = np.random.default_rng(5)
    features = rng.normal(size=(400, 3)).astype(np.float32)
    labels = (features[:, 0] + features[:, 1] > 0).astype(np.int64)
    data = TabularData(features, labels, ("0", "1"), ("a", "b", "c"), "cafe")
    trained = train_tabular(data, name="default", source="test", clock=ManualClock())
    assert trained.fitted.estimator.n_estimators == 100  # type: ignore[attr-defined]
    assert max(tree.get_depth() for tree in trained.fitted.estimator.estimators_) <= 10  # type: ignore[attr-defined]
    opened = open_catalog(lake_settings.catalog_type, lake_settings.resolved_catalog_uri, lake_settings.resolved_warehouse)
    found = Registry(opened, lake_settings.resolved_warehouse)
    other = fit_random_forest(features, 1 - labels, ("0", "1"), positive="1", seed=1, trees=5)
    register(found, [trained])  # type: ignore[arg-type]
    found.register(
        "other", other.to_onnx(), kind="random_forest", labels=("0", "1"), metrics={}, tags={}, training_data={"sha256": "beef"},
        code_hash="c0de", duration=timedelta(seconds=1),
    )  # fmt: skip
    return found


@pytest.fixture(scope="session")
def udf_server(registry: Registry) -> Iterator[UdfFlightServer]:
    server = build_server(registry, port=0)
    yield server
    server.drain_and_stop(1.0)
