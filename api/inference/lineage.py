"""What an answer rests on: for each model that served, the hashes and the training data that were sealed with its version.

A version never changes, so what was found once is kept. When the catalog is away, an answer names model and version without
their hashes, and they are looked up again for a later one.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import OrderedDict
from functools import lru_cache
from typing import Any, NamedTuple

from api.reading.lake import Lake
from core.clock import Clock
from iceberg.registry import ModelVersion, Registry
from udfs.route import ModelKey, Route, parse_route

logger = logging.getLogger(__name__)

MAX_VERSIONS = 4096
WAIT_SECONDS = 1.0  # for the first answer of a version; then without
LOOK_AGAIN_SECONDS = 5.0


class Served(NamedTuple):
    """Who answers under one route, and the JSON that says what they rest on."""

    model_name: str | None
    model_version: str | None
    lineage: str


class Lineage:
    """Tells what the models of a route rest on."""

    def __init__(self, lake: Lake, clock: Clock) -> None:
        self._lake = lake
        self._clock = clock
        self._registry: Registry | None = None
        self._found: OrderedDict[ModelKey, str] = OrderedDict()
        self._served: OrderedDict[tuple[str, int], Served] = OrderedDict()
        self._looking: dict[ModelKey, asyncio.Task[str]] = {}
        self._not_before_seconds = 0.0

    async def of_route(self, text: str, epoch: int) -> Served:
        """The models of a route; name and version stand alone where one model serves everything."""
        served = self._served.get((text, epoch))
        if served is not None:
            return served
        keys = _serving(text)
        known = [await self._of_model(key) for key in keys]
        name, version = (keys[0].model, str(keys[0].version)) if len(keys) == 1 else (None, None)
        served = Served(name, version, f'{{"route_epoch": {epoch}, "models": [{", ".join(known)}]}}')
        if all(key in self._found for key in keys):  # else it is looked up again
            self._served[text, epoch] = served
            while len(self._served) > MAX_VERSIONS:
                self._served.popitem(last=False)
        return served

    async def _of_model(self, key: ModelKey) -> str:
        found = self._found.get(key)
        if found is not None:
            return found
        if self._clock.monotonic_seconds() >= self._not_before_seconds:
            task = self._looking.get(key)
            if task is None:
                task = self._looking[key] = asyncio.create_task(self._look(key))
                task.add_done_callback(lambda _: self._looking.pop(key, None))
            try:
                async with asyncio.timeout(WAIT_SECONDS):
                    return await asyncio.shield(task)
            except Exception as problem:  # noqa: BLE001 - a catalog's own; a prediction does not fail for its footnote
                self._not_before_seconds = self._clock.monotonic_seconds() + LOOK_AGAIN_SECONDS
                logger.warning("lineage unknown", extra={"model": str(key), "reason": str(problem) or "no answer in time"})
        return json.dumps({"name": key.model, "version": key.version})

    async def _look(self, key: ModelKey) -> str:
        version = await asyncio.to_thread(self._load, key)
        text = json.dumps(lineage_of(version))
        self._found[key] = text
        while len(self._found) > MAX_VERSIONS:
            self._found.popitem(last=False)
        return text

    def _load(self, key: ModelKey) -> ModelVersion:
        if self._registry is None:
            self._registry = self._lake.registry()
        return self._registry.must_get(key.model, key.version)


def lineage_of(version: ModelVersion) -> dict[str, Any]:  # Any: JSON
    """What was sealed with a version, as far as it names where an answer comes from."""
    told = version.training_data
    return {
        "name": version.name,
        "version": version.version,
        "artifact_sha256": version.artifact_sha256,
        "signature_hash": version.signature_hash,
        "code_hash": version.code_hash,
        "training_data": {name: told[name] for name in ("source", "table", "snapshot_id", "sha256", "rows") if name in told},
    }


@lru_cache(maxsize=4096)
def _serving(text: str) -> tuple[ModelKey, ...]:
    route = parse_route(text)
    return tuple(route.members[i].key for i in route.serving) if isinstance(route, Route) else ()
