"""Which models there are, by name and version, and what they take and give.

A version never changes and is kept once it was found. Without a version a request means the one with the alias `production`,
else the newest; the answer names it, so nobody has to guess what "latest" was. What was found for a name is asked again
after `FRESH_SECONDS`.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from api.reading.lake import Lake
from core.clock import Clock
from core.errors import NotFoundError
from core.ids import TenantId
from iceberg.registry import ModelVersion, Registry

FRESH_SECONDS = 1.0
PRODUCTION = "production"
MAX_KEPT = 4096


@dataclass(frozen=True)
class Named:
    """A model version, and all versions of its name."""

    version: ModelVersion
    versions: Sequence[int]

    @property
    def classes(self) -> tuple[str, ...]:
        return self.version.signature.labels


class Models:
    """Finds model versions in the registry."""

    def __init__(self, lake: Lake, clock: Clock) -> None:
        self._lake = lake
        self._clock = clock
        self._registry: Registry | None = None
        self._kept: OrderedDict[tuple[TenantId, str, str | None], tuple[Named, float]] = OrderedDict()

    async def must_find(self, tenant: TenantId, name: str, version: str | None) -> Named:
        """The version that a request means.

        Raises:
            NotFoundError: there is none; says which there are.
            UnavailableError: the catalog is away.
        """
        place = (tenant, name, version)
        kept = self._kept.get(place)
        if kept is not None and (version is not None or self._clock.monotonic_seconds() < kept[1]):
            return kept[0]
        found = await asyncio.to_thread(self._find, tenant, name, version)
        self._kept[place] = (found, self._clock.monotonic_seconds() + FRESH_SECONDS)
        while len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)
        return found

    def _find(self, tenant: TenantId, name: str, version: str | None) -> Named:
        if self._registry is None:
            self._registry = self._lake.registry()
        versions = {each.version: each for each in self._registry.list(name)}
        if not versions:
            raise NotFoundError(f"there is no model `{name}`")
        if version is None:
            wanted = self._registry.get_alias(name, PRODUCTION, tenant_id=tenant) or max(versions)
        else:
            wanted = int(version) if version.isascii() and version.isdigit() and len(version) < 10 else -1
        if wanted not in versions:
            raise NotFoundError(
                f"model `{name}` has no version `{version}`", fix=f"There are {', '.join(map(str, sorted(versions)))}."
            )
        return Named(versions[wanted], sorted(versions))
