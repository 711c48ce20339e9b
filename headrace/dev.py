"""Everything running until somebody says stop."""

from __future__ import annotations

import contextlib
import json
import logging
import signal
import sys
import threading
import time
import urllib.request
from collections.abc import Mapping
from datetime import timedelta

import typer

from core.clock import SystemClock
from core.errors import HeadraceError, UnavailableError
from core.settings import Settings
from headrace import feature_views
from headrace.config import Loaded
from headrace.demo.scenario import built_in_routes
from headrace.mirroring import Mirror
from headrace.platform import Platform, running_platform
from iceberg.catalog import open_lake
from iceberg.registry import open_registry
from learning.promotion.lifecycle import open_lifecycle
from learning.train import register_all
from pipelines import deployer, folder
from pipelines.folder import Endpoint, Route

logger = logging.getLogger(__name__)

DEVELOPMENT_TENANT = "default"
CHECK_SECONDS = 0.5
MIRROR_SECONDS = (
    5.0  # people look at drift events, trainings and models; a look without a new snapshot reads one small file each
)
DELIVER_SECONDS = 5.0
LEFT_BEHIND = timedelta(seconds=20)  # what is decided while all is up is delivered by whoever decides, within seconds
HEALTH_SECONDS = 60.0  # the API looks for a lost change feed again after at most some seconds


def run(loaded: Loaded, environ: Mapping[str, str], *, with_pipelines: bool, as_json: bool) -> None:
    """Start all processes, prepare them, print where they listen, and stop them on SIGTERM or Ctrl-C.

    A default port that is taken is replaced by a free one; a port that was asked for is not.

    Raises:
        UnavailableError: a process could not be started, or ended too often.
    """
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stop.set())
    flexible = Settings.model_fields.keys() - loaded.origins.keys()
    with running_platform(loaded.settings, environ, flexible_ports=flexible) as platform:
        if with_pipelines and not stop.is_set():
            prepare(platform)
            await_health(platform)
        _announce(platform, as_json=as_json)
        if with_pipelines:
            mirror = Mirror(platform.settings)
            threading.Thread(target=mirror.keep_looking, args=(stop, MIRROR_SECONDS), name="mirror", daemon=True).start()
        threading.Thread(target=_deliver, args=(platform, stop), daemon=True, name="registry-outbox").start()
        while not stop.wait(CHECK_SECONDS):
            platform.supervisor.check()


def _deliver(platform: Platform, stop: threading.Event) -> None:
    """Carry out what the registry decided while something was away; whoever decides now does it at once, too."""
    settings = platform.settings
    lifecycle = open_lifecycle(settings, lambda: deployer.connected(settings.database_url), SystemClock())
    seen: int | None = None
    waits = True
    while not stop.is_set():
        try:
            revision = lifecycle.stages.revision()
            if waits or revision != seen:  # else nothing was decided since everything was done
                lifecycle.deliverer.deliver_pending(at_least=LEFT_BEHIND)
                waits = bool(lifecycle.deliverer.pending())
                seen = revision
        except (HeadraceError, OSError) as problem:
            logger.warning("registry outbox waits", extra={"reason": str(problem)})
        stop.wait(DELIVER_SECONDS)


def prepare(platform: Platform) -> None:
    """Train and register the built-in models once, apply the built-in pipelines, and give routes to the demo's tenants and ours."""
    settings = platform.settings
    registry = open_registry(settings)
    routes = built_in_routes()
    first = {route.endpoint: route.tenant_id for route in reversed(routes)}
    routes += [
        Route(**{**route.model_dump(), "tenant_id": DEVELOPMENT_TENANT})
        for route in routes
        if route.tenant_id == first[route.endpoint]
    ]
    if {route.model for route in routes} - {version.name for version in registry.list()}:
        register_all(registry, clock=SystemClock())  # type: ignore[arg-type]  # learning asks for **properties
    feature_views.apply(
        settings,
        folder.find(folder.built_in_names()),
        open_lake(settings),
        SystemClock(),
        endpoints=[
            Endpoint(tenant_id=tenant, endpoint=endpoint) for tenant, endpoint in {(r.tenant_id, r.endpoint) for r in routes}
        ],
        routes=routes,
    )


def await_health(platform: Platform) -> None:
    """Return when the API finds everything in order; its change feed connects a moment after the views are there.

    Raises:
        UnavailableError: it does not within `HEALTH_SECONDS`; the text says what is missing.
    """
    deadline = time.monotonic() + HEALTH_SECONDS
    told: object = "no answer"
    while time.monotonic() < deadline:
        platform.supervisor.check()
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{platform.api_url}/health", timeout=5) as answer:  # noqa: S310  # our own
            told = json.load(answer)
            if isinstance(told, dict) and told.get("status") == "ok":
                return
        time.sleep(CHECK_SECONDS)
    raise UnavailableError(f"the API is not in order after {HEALTH_SECONDS:g} s: {told}", where=platform.api_url)


def _announce(platform: Platform, *, as_json: bool) -> None:
    settings = platform.settings
    places = {
        "api": platform.api_url,
        "graphql": f"{platform.api_url}/graphql",
        "v2_grpc": f"{settings.api_host}:{settings.resolved_v2_grpc_port}",
        "database": settings.database_url,
        "kafka": settings.kafka,
        "udf": settings.udf_url,
        "data_dir": str(settings.data_dir),
    }
    if as_json:
        typer.echo(json.dumps({"ready": True, **places}))
    else:
        typer.echo("\n".join(["headrace is up; Ctrl-C stops it", *(f"  {name:9} {place}" for name, place in places.items())]))
    sys.stdout.flush()
