"""`/health`, `/livez`, `/readyz`: is the process alive, can it do its work, and if not, which part is missing.

Each dependency is asked at the same time with a time-out of its own, so that one that hangs delays the answer and hides
nothing. Broker and stream database are needed for every request that matters; without the UDF server or the catalog
only predictions or history stop, which is `degraded`.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Literal
from urllib.parse import urlsplit

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from api.database import Database
from api.ingest.log import KafkaLog
from api.live.hub import Hub
from api.reading.lake import Lake
from core.errors import HeadraceError

CHECK_SECONDS = 1.0  # readiness probes usually wait a few seconds


class Check(BaseModel):
    """The state of one dependency."""

    status: Literal["ok", "down"]
    critical: bool = Field(description="Whether requests fail without it.")
    detail: str | None = None


class Health(BaseModel):
    """The state of the API with its dependencies."""

    status: Literal["ok", "degraded", "down"]
    checks: dict[str, Check]
    version: str


@dataclass(frozen=True)
class Probe:
    """One question; `ask` raises when the answer is no."""

    name: str
    critical: bool
    ask: Callable[[], Awaitable[object]]


@dataclass
class Lifecycle:
    """Whether the process takes new work."""

    draining: bool = False


def build_probes(database: Database, log: KafkaLog, lake: Lake, udf_url: str, hub: Hub) -> list[Probe]:
    """The questions that tell whether the dependencies are there."""

    async def broker() -> None:
        if not await asyncio.to_thread(log.reachable, CHECK_SECONDS):
            raise OSError("the broker does not answer")

    async def live() -> None:
        if not hub.connected:
            raise OSError(f"the change feed of `{hub.view}` is not connected")

    return [
        Probe("stream_database", True, lambda: database.fetch("SELECT 1", timeout_seconds=CHECK_SECONDS)),
        Probe("broker", True, broker),
        Probe("udf_server", False, lambda: asyncio.to_thread(_connect, udf_url)),
        Probe("catalog", False, lambda: asyncio.to_thread(lake.check)),
        Probe("change_feed", False, live),
    ]


async def check_health(probes: list[Probe]) -> Health:
    """Ask all probes at once."""
    results = await asyncio.gather(*(_ask(probe) for probe in probes))
    checks = {probe.name: result for probe, result in zip(probes, results, strict=True)}
    failed = [check for check in checks.values() if check.status == "down"]
    status: Literal["ok", "degraded", "down"] = (
        "ok" if not failed else "down" if any(check.critical for check in failed) else "degraded"
    )
    return Health(status=status, checks=checks, version=headrace_version())


def build_router(probes: list[Probe], lifecycle: Lifecycle) -> APIRouter:
    """The health routes; they need no credentials and tell no data."""
    router = APIRouter(tags=["Operations"])

    @router.get("/health", responses={503: {"model": Health, "description": "A critical dependency is missing."}})
    @router.get("/api/v1/health", responses={503: {"model": Health, "description": "A critical dependency is missing."}})
    async def health(response: Response) -> Health:
        """The state of each dependency; 503 when a critical one is missing."""
        found = await check_health(probes)
        response.status_code = 503 if found.status == "down" else 200
        return found

    @router.get("/livez")
    async def livez() -> dict[str, str]:
        """The process runs; restart it when this does not answer."""
        return {"status": "ok"}

    @router.get("/readyz", responses={503: {"description": "Send no traffic now."}})
    async def readyz(response: Response) -> dict[str, str]:
        """Whether to send traffic here."""
        if lifecycle.draining:
            response.status_code = 503
            return {"status": "draining"}
        found = await check_health([probe for probe in probes if probe.critical])
        response.status_code = 503 if found.status == "down" else 200
        return {"status": found.status}

    return router


def headrace_version() -> str:
    """The installed version of the package."""
    try:
        return version("headrace")
    except PackageNotFoundError:
        return "unknown"


async def _ask(probe: Probe) -> Check:
    try:
        async with asyncio.timeout(CHECK_SECONDS * 1.5):  # the probes' own time-outs come first and say more
            await probe.ask()
    except TimeoutError:
        return Check(status="down", critical=probe.critical, detail="no answer in time")
    except (HeadraceError, OSError) as error:
        return Check(status="down", critical=probe.critical, detail=str(error))
    return Check(status="ok", critical=probe.critical)


def _connect(url: str) -> None:
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=CHECK_SECONDS):
        pass
