"""Wires the ASGI application."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

import api.experiments.routes
import api.graphql.endpoint
import api.health
import api.identity.login
import api.inference.routes
import api.ingest.routes
import api.v2.routes
from api.database import Database
from api.experiments.service import Experiments
from api.experiments.store import Store
from api.fast_paths import FastPaths
from api.graphql.context import Services
from api.graphql.models import ModelLifecycle
from api.http import problems
from api.http.body import BodyLimit
from api.http.guard import OriginGuard
from api.identity.authenticator import build_authenticator
from api.identity.keys import KeyStore
from api.identity.login import LoginLinks
from api.inference.active_routes import ActiveRoutes
from api.inference.lineage import Lineage
from api.inference.service import Inference
from api.ingest.batch_log import BatchLog
from api.ingest.batches import Batches
from api.ingest.log import KafkaLog
from api.ingest.service import Ingestion
from api.ingest.streams import StreamCatalog
from api.live.changes import ChangeFeed
from api.live.cursor_feed import SubscriptionCursorFeed
from api.live.hub import Hub
from api.reading.features import Features
from api.reading.lake import Lake
from api.reading.predictions import Predictions
from api.reading.quarantine import Quarantine
from api.schema import build_schema
from api.v2.grpc.server import V2Servicer
from api.v2.models import Models
from api.v2.service import V2
from core.clock import Clock
from core.settings import Settings

logger = logging.getLogger(__name__)

MOST_BODY_BYTES = 17 * 1024 * 1024  # above what any route takes
FLUSH_SECONDS = 3.0  # for rows that are not acknowledged yet when the process stops


def build_app(
    settings: Settings,
    *,
    clock: Clock,
    prediction_feed: ChangeFeed | None = None,
    anomaly_feed: ChangeFeed | None = None,
    model_lifecycle: ModelLifecycle | None = None,
) -> FastAPI:
    """Build the application; nothing is connected before its lifespan begins.

    Args:
        settings: where broker, stream database, UDF server and lakehouse are, and who may call.
        clock: the time of receipt, and of frames.
        prediction_feed, anomaly_feed: where changes come from, instead of the stream database's subscription cursors
            `predictions_changes` and `anomalies_changes`.
        model_lifecycle: promotes, rolls back and compares; None: those mutations answer that nobody does.
    """
    database = Database(settings.database_url)
    lake = Lake(settings)
    log = KafkaLog(settings.kafka, max_message_bytes=settings.broker.max_message_bytes)
    batch_log = BatchLog(settings.kafka, f"headrace-ingest-{socket.gethostname()}-{settings.api_port}")
    ingestion = Ingestion(log, StreamCatalog(database, clock), clock)
    v2 = V2(Models(lake, clock), settings.udf_url)
    experiments = Experiments(Store(database), log, lake, settings.resolved_warehouse, clock, defaults=settings.experiments)
    inference = Inference(
        ActiveRoutes(database, clock), settings.udf_url, Lineage(lake, clock), log, clock, experiments=experiments
    )
    authenticator = build_authenticator(settings, database, clock)
    services = Services(
        clock=clock,
        authenticator=authenticator,
        keys=KeyStore(database),
        database=database,
        lake=lake,
        ingestion=ingestion,
        predictions=Predictions(database, lake, "predictions", "lake.predictions"),
        anomalies=Predictions(database, lake, "anomalies", None),
        quarantine=Quarantine(database),
        features=Features(database, lake, clock),
        prediction_hub=Hub("predictions", prediction_feed or SubscriptionCursorFeed(database, "predictions_changes"), clock),
        anomaly_hub=Hub("anomalies", anomaly_feed or SubscriptionCursorFeed(database, "anomalies_changes"), clock),
        model_lifecycle=model_lifecycle,
    )
    hubs = (services.prediction_hub, services.anomaly_hub)
    lifecycle = api.health.Lifecycle()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await database.open()
        await authenticator.access.start()
        for hub in hubs:
            await hub.start()
        logger.info("api started")
        try:
            yield
        finally:
            lifecycle.draining = True
            await asyncio.gather(*(hub.stop() for hub in hubs))
            await asyncio.to_thread(inference.close)
            await asyncio.to_thread(v2.close)
            await asyncio.to_thread(batch_log.close)
            await asyncio.to_thread(log.close, FLUSH_SECONDS)
            await authenticator.access.stop()
            await database.close()
            logger.info("api stopped")

    app = FastAPI(
        title="headrace",
        version=api.health.headrace_version(),
        description="Ingestion, predictions and live frames. Queries and subscriptions: `/graphql`.",
        lifespan=lifespan,
    )
    app.state.services = services
    app.state.lifecycle = lifecycle
    problems.install(app)
    app.include_router(api.ingest.routes.build_router(ingestion, authenticator))
    app.include_router(api.ingest.routes.build_batch_router(Batches(batch_log, clock), authenticator))
    app.include_router(api.inference.routes.build_router(inference, authenticator))
    app.include_router(api.experiments.routes.build_router(experiments, authenticator))
    app.include_router(api.identity.login.build_router(LoginLinks(database), authenticator, database, clock))
    probes = api.health.build_probes(database, log, lake, settings.udf_url, hubs[0])
    app.include_router(api.health.build_router(probes, lifecycle))
    version = api.health.headrace_version()
    app.include_router(api.v2.routes.build_router(v2, authenticator, probes, lifecycle, version))
    app.state.v2_servicer = V2Servicer(v2, authenticator, probes, lifecycle, version)
    app.include_router(api.graphql.endpoint.build_router(build_schema(), services, authenticator))
    check_host, origins = settings.auth == "development", settings.api_allowed_origins
    app.add_middleware(BodyLimit, max_bytes=MOST_BODY_BYTES)
    app.add_middleware(OriginGuard, check_host=check_host, allowed_origins=origins)
    front = FastPaths(app, inference=inference, v2=v2, authenticator=authenticator)
    # What a server calls; `app` alone answers alike, slower.
    app.state.front = OriginGuard(front, check_host=check_host, allowed_origins=origins)
    return app
