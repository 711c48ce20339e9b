"""Reads features for a tenant: now from the stream database, as of a past time from the lake.

A view whose entity has `tenant_id` shows a caller that tenant's entities and no others; one without belongs to no tenant, and only
an admin may read it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from psycopg import sql

from api.database import Reads
from api.http.problems import ForbiddenError
from api.identity.identity import Identity
from api.reading.lake import Lake
from core.clock import Clock
from core.errors import InvalidInputError, NotFoundError
from features import online
from features.online import Answer
from features.past import get_as_of
from features.references import choose
from features.registry import FeatureRegistry, Registered

TENANT = "tenant_id"
MOST_KEYS = 1_000
REMEMBERED_SECONDS = 5.0
"""How long the registered views are known: looking them up must not cost every read a visit to the lake."""


class Features:
    """Feature views and their values.

    Args:
        database: the stream database.
        lake: opened when it is first needed.
        clock: tells ages, and when the registered views are looked up again.
    """

    def __init__(self, database: Reads, lake: Lake, clock: Clock) -> None:
        self._database = database
        self._lake = lake
        self._clock = clock
        self._known: Mapping[str, Registered] = {}
        self._known_until = 0.0

    async def views(self) -> Mapping[str, Registered]:
        """The last version of each registered view, by name."""
        if self._clock.monotonic_seconds() >= self._known_until:
            self._known = await asyncio.to_thread(lambda: FeatureRegistry(self._lake.catalog(), self._clock).latest())
            self._known_until = self._clock.monotonic_seconds() + REMEMBERED_SECONDS
        return self._known

    async def read(self, identity: Identity, view: str, keys: Sequence[Any], as_of: datetime | None) -> Answer:
        """All features of a view for some entities.

        Args:
            keys: objects with the entity's columns; `tenant_id` is the caller's and may be left out.

        Raises:
            InvalidInputError: a key is malformed or names another tenant, or there are too many.
            NotFoundError: there is no such view.
            ForbiddenError: the view belongs to no tenant, and the caller is no admin.
        """
        views = {name: found.view for name, found in (await self.views()).items()}
        if view not in views:
            raise NotFoundError(f"there is no feature view `{view}`", where="features")
        if TENANT not in views[view].entity and not identity.may("administer"):
            raise ForbiddenError(f"feature view `{view}` belongs to no tenant: this needs the role admin")
        if len(keys) > MOST_KEYS:
            raise InvalidInputError(f"{len(keys)} keys are more than {MOST_KEYS}", where="keys", fix="Ask in several calls.")
        entities = [_entity(key, views[view].entity, identity.tenant) for key in keys]
        chosen = choose([view], views)
        if as_of is not None:
            moment = self._clock.now()
            return await asyncio.to_thread(lambda: get_as_of(self._lake.catalog(), chosen, entities, as_of, moment))
        text, parameters = online.statement(chosen, entities)
        # Composed of declared names and placeholders alone; values are parameters.
        rows = await self._database.fetch(sql.Composed([sql.SQL(text)]), parameters)
        return online.decode(chosen, entities, [list(row.values()) for row in rows], self._clock.now())


# -- below: called by the above


def _entity(key: Any, columns: Sequence[str], tenant: str) -> dict[str, str]:
    if not isinstance(key, dict) or not all(isinstance(value, str | int) for value in key.values()):
        raise InvalidInputError("a key is an object of texts", where="keys", fix=f"Name {', '.join(columns)}.")
    entity = {str(name): str(value) for name, value in key.items()}
    if TENANT in columns and entity.setdefault(TENANT, tenant) != tenant:
        raise InvalidInputError("a key names another tenant", where="keys", fix=f"Leave `{TENANT}` out: it is the caller's.")
    return entity
