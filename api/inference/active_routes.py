"""The routes of the last epoch, kept in memory: a prediction does not wait for the stream database, and goes on without it.

A route that was asked for before is answered at once, and asked for anew in the background when it is older than
`FRESH_SECONDS`. One that nobody asked for during `STALE_SECONDS` is read again first. While the stream database is away, the
route that is known goes on serving.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from api.database import Reads, StatementError
from api.http.problems import NoActiveModelError
from core.clock import Clock
from core.errors import UnavailableError
from core.ids import TenantId

logger = logging.getLogger(__name__)

FRESH_SECONDS = 0.25  # as the engine's longest distance between two epochs
STALE_SECONDS = 1.0  # who has not asked for so long waits for the answer, so that a route changed meanwhile is never missed
WAIT_SECONDS = 0.5  # for that answer; then the known route serves
MAX_ROUTES = 10_000  # tenants' endpoints that are remembered; callers may name endpoints that are not there

_READ = "SELECT route_epoch, route::varchar AS route FROM active_routes WHERE tenant_id = %s AND endpoint = %s"

Place = tuple[TenantId, str]


@dataclass(frozen=True)
class ActiveRoute:
    """Who serves an endpoint: the route as `udfs.route` reads it, and the epoch in which it was written."""

    text: str
    epoch: int


class ActiveRoutes:
    """Finds the route of a tenant's endpoint."""

    def __init__(self, database: Reads, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._known: dict[Place, tuple[ActiveRoute, float]] = {}
        self._asking: dict[Place, asyncio.Task[ActiveRoute | None]] = {}
        self._late: set[Place] = set()

    async def get(self, tenant: TenantId, endpoint: str) -> ActiveRoute:
        """The route that serves now.

        Raises:
            NoActiveModelError: nothing serves this endpoint.
            UnavailableError: the stream database is away, and this route was never asked for.
        """
        place = (tenant, endpoint)
        known = self._known.get(place)
        if known is not None:
            age_seconds = self._clock.monotonic_seconds() - known[1]
            if age_seconds >= FRESH_SECONDS:
                asking = self._ask(place)
                if age_seconds >= STALE_SECONDS and place not in self._late:
                    return await self._wait(place, asking, known[0])
            return known[0]
        found = await asyncio.shield(self._ask(place))  # others may wait for it when this caller goes
        return self._must(found, endpoint)

    async def _wait(self, place: Place, asking: asyncio.Task[ActiveRoute | None], known: ActiveRoute) -> ActiveRoute:
        """The answer, or what is known when it takes too long; then nobody else waits for it either."""
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                found = await asyncio.shield(asking)
        except TimeoutError:
            self._late.add(place)
            return known
        except UnavailableError:
            return known
        return self._must(found, place[1])

    def _must(self, found: ActiveRoute | None, endpoint: str) -> ActiveRoute:
        if found is None:
            raise NoActiveModelError(
                f"no model serves endpoint `{endpoint}`",
                fix="Train and register one, and give it a route: `headrace train run FILE`, or `headrace routes set`.",
            )
        return found

    def _ask(self, place: Place) -> asyncio.Task[ActiveRoute | None]:
        asking = self._asking.get(place)
        if asking is None:
            asking = self._asking[place] = asyncio.create_task(self._read(place))
            asking.add_done_callback(lambda task: self._answered(place, task))
        return asking

    def _answered(self, place: Place, task: asyncio.Task[ActiveRoute | None]) -> None:
        del self._asking[place]
        if not task.cancelled() and (problem := task.exception()) is not None:
            logger.warning("route not refreshed", extra={"endpoint": place[1], "reason": str(problem)})

    async def _read(self, place: Place) -> ActiveRoute | None:
        try:
            rows = await self._database.fetch(_READ, place)
        except StatementError as error:
            if error.sqlstate is not None and error.sqlstate.startswith("42"):  # no pipeline is applied yet
                return None
            raise UnavailableError(f"the route cannot be read: {error.what}", where="stream database") from error
        self._late.discard(place)
        if not rows:
            self._known.pop(place, None)
            return None
        route = ActiveRoute(str(rows[0]["route"]), int(rows[0]["route_epoch"] or 0))
        if len(self._known) >= MAX_ROUTES and place not in self._known:
            del self._known[next(iter(self._known))]
        self._known[place] = (route, self._clock.monotonic_seconds())
        return route
