"""Experiments from creation to verdict. State is in the stream database, what happens goes to topics:

experiments.exposures     a unit saw a variant, with the chances of all variants at that moment
experiments.conversions   a unit converted
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from api.experiments.dealing import Dealer, Share
from api.experiments.evidence import Evidence
from api.experiments.model import Experiment, ExperimentInput, Variant
from api.experiments.resolving import resolve, warning_of
from api.experiments.store import Store
from api.experiments.verdict import ExperimentResult, result_of
from api.ingest.events import record_key
from api.ingest.log import EventLog
from api.ingest.verdicts import Record
from api.reading.lake import Lake
from core.clock import Clock
from core.errors import ConflictError, NotFoundError
from core.ids import TenantId
from core.settings import ExperimentSettings

EXPOSURES = "experiments.exposures"
CONVERSIONS = "experiments.conversions"
KEEP_SECONDS = 1.0  # a stopped experiment deals no units after this time, in every process
PIPELINE_SECONDS = 2.0  # an event may be so long on its way to the stream database
_PAGE = 20_000

Place = tuple[TenantId, str]


@dataclass(frozen=True)
class Folded:
    """The evidence up to an exposure."""

    evidence: Evidence
    after: tuple[datetime, str] | None


class Experiments:
    """The experiments of all tenants."""

    def __init__(
        self,
        store: Store,
        log: EventLog,
        lake: Lake,
        root: str,
        clock: Clock,
        *,
        defaults: ExperimentSettings | None = None,
        new_id: Callable[[], str] = lambda: f"exp_{uuid.uuid4().hex[:12]}",
    ) -> None:
        self._store = store
        self._log = log
        self._lake = lake
        self._root = root
        self._clock = clock
        self._defaults = defaults or ExperimentSettings()
        self._new_id = new_id
        self._dealer = Dealer(store, clock)
        self._known: dict[Place, tuple[Experiment, float]] = {}
        self._folded: dict[Place, Folded] = {}
        self._folding: dict[Place, asyncio.Lock] = {}

    async def create(self, tenant: TenantId, asked: ExperimentInput) -> tuple[Experiment, list[str]]:
        """Keep a new experiment, and say what is likely to go wrong with it.

        Raises:
            UnavailableError: the stream database is away.
        """
        variants = tuple(
            Variant(f"var_{at}", each.name, each.model_path, each.model_version, each.weight)
            for at, each in enumerate(asked.variants)
        )
        experiment = Experiment(
            experiment_id=self._new_id(),
            name=asked.name,
            description=asked.description,
            endpoint=asked.endpoint,
            strategy=asked.allocation_strategy or self._defaults.allocation_strategy,
            traffic_percentage=asked.traffic_percentage or self._defaults.traffic_percentage,
            conversion_window_seconds=asked.conversion_window_seconds,
            variants=variants,
            status="created",
            created_at=self._clock.now(),
        )
        await self._store.insert(tenant, experiment)
        return experiment, _warnings(experiment)

    async def all_of(self, tenant: TenantId) -> Sequence[Experiment]:
        """A tenant's experiments, the newest first."""
        return await self._store.all_of(tenant)

    async def start(self, tenant: TenantId, experiment_id: str) -> Experiment:
        """Resolve every variant's model and let units in; starting what runs changes nothing.

        Raises:
            NotFoundError: there is no such experiment.
            ConflictError: it was stopped.
            ModelRefusedError: a variant names no model that we serve.
        """
        experiment = await self._must_get(tenant, experiment_id)
        if experiment.status == "running":
            return experiment
        if experiment.status == "stopped":
            raise ConflictError(f"experiment `{experiment_id}` was stopped", fix="Create another one.")

        def resolved() -> tuple[Variant, ...]:
            registry = self._lake.registry()
            found = [resolve(variant, registry, self._root, tenant) for variant in experiment.variants]
            return tuple(
                replace(variant, model=each.name, version=each.version)
                for variant, each in zip(experiment.variants, found, strict=True)
            )

        variants = await asyncio.to_thread(resolved)
        await self._store.start(tenant, experiment_id, variants, self._clock.now())
        return await self._read_again(tenant, experiment_id)

    async def stop(self, tenant: TenantId, experiment_id: str) -> Experiment:
        """Let no more units in; conversions of those that are in still count. Stopping twice changes nothing.

        Raises:
            NotFoundError: there is no such experiment.
        """
        await self._must_get(tenant, experiment_id)
        await self._store.stop(tenant, experiment_id, self._clock.now())
        return await self._read_again(tenant, experiment_id)

    async def result(self, tenant: TenantId, experiment_id: str) -> ExperimentResult:
        """What the experiment says now.

        Raises:
            NotFoundError: there is no such experiment.
        """
        experiment = await self._must_get(tenant, experiment_id)
        counts = await self._store.counts(tenant, experiment, self._clock.now())
        evidence = await self._evidence(tenant, experiment)
        return await asyncio.to_thread(result_of, experiment, counts, evidence)

    async def deal(self, tenant: TenantId, experiment_id: str, units: Sequence[str]) -> list[Share]:
        """A variant for each unit, the same one each time.

        Raises:
            NotFoundError: there is no such experiment.
            ConflictError: it is not running.
        """
        experiment = await self._running(tenant, experiment_id)
        return await self._dealer.deal(tenant, experiment, units)

    async def assign(self, tenant: TenantId, experiment_id: str, units: Sequence[str]) -> list[Share]:
        """Deal units and note that they see what they get; raises as `deal`, and UnavailableError without a broker."""
        shares = await self.deal(tenant, experiment_id, units)
        topic, records = self.exposures(tenant, experiment_id, shares, [None] * len(shares), None)
        await self._log.append(topic, records)
        return shares

    def exposures(
        self,
        tenant: TenantId,
        experiment_id: str,
        shares: Sequence[Share],
        prediction_ids: Sequence[str | None],
        latency_ms: float | None,
    ) -> tuple[str, list[Record]]:
        """The topic and the records that say who saw which variant; units outside of the experiment leave none."""
        now = self._clock.now().isoformat()
        records = [
            Record(
                record_key(tenant, share.unit),
                json.dumps(
                    {
                        "tenant_id": tenant,
                        "experiment_id": experiment_id,
                        "unit_id": share.unit,
                        "variant_id": share.variant.variant_id,
                        "propensities": share.propensities,
                        "exposed_at": now,
                        "prediction_id": prediction_id,
                        "latency_ms": latency_ms,
                    }
                ).encode(),
            )
            for share, prediction_id in zip(shares, prediction_ids, strict=True)
            if share.variant is not None
        ]
        return EXPOSURES, records

    async def convert(self, tenant: TenantId, experiment_id: str, units: Mapping[str, datetime | None]) -> int:
        """Note that units converted, at a time or now; returns how many, once the broker has acknowledged.

        Raises:
            NotFoundError: there is no such experiment.
            UnavailableError: the broker did not acknowledge.
        """
        await self._must_get(tenant, experiment_id)
        now = self._clock.now()
        records = [
            Record(
                record_key(tenant, unit),
                json.dumps(
                    {
                        "tenant_id": tenant,
                        "experiment_id": experiment_id,
                        "unit_id": unit,
                        "converted_at": (at or now).isoformat(),
                    }
                ).encode(),
            )
            for unit, at in units.items()
        ]
        await self._log.append(CONVERSIONS, records)
        return len(records)

    async def _evidence(self, tenant: TenantId, experiment: Experiment) -> Evidence:
        """The evidence of all final outcomes; what was folded once is not read again.

        Without a conversion window no outcome is ever final, so all are taken as they are now.
        """
        place = (tenant, experiment.experiment_id)
        window = experiment.conversion_window_seconds
        lag = timedelta(seconds=window + PIPELINE_SECONDS if window else 0.0)
        until = self._clock.now() - lag
        async with self._folding.setdefault(place, asyncio.Lock()):
            folded = self._folded.get(place) if window else None
            if folded is None:
                folded = Folded(Evidence.start(len(experiment.variants)), None)
            while True:
                page = await self._store.matured(tenant, experiment, after=folded.after, until=until, limit=_PAGE)
                if page.last is not None:
                    await asyncio.to_thread(folded.evidence.fold, page.seen, page.converted, page.propensities)
                    folded = Folded(folded.evidence, page.last)
                if len(page.seen) < _PAGE:
                    break
            if window:
                self._folded[place] = folded
            return folded.evidence

    async def _running(self, tenant: TenantId, experiment_id: str) -> Experiment:
        known = self._known.get((tenant, experiment_id))
        if known is not None and self._clock.monotonic_seconds() < known[1]:
            experiment = known[0]
        else:
            experiment = await self._read_again(tenant, experiment_id)
        if experiment.status != "running":
            raise ConflictError(
                f"experiment `{experiment_id}` is {experiment.status}, not running",
                fix="Start it." if experiment.status == "created" else "Create another one.",
            )
        return experiment

    async def _read_again(self, tenant: TenantId, experiment_id: str) -> Experiment:
        experiment = await self._must_get(tenant, experiment_id)
        self._known[tenant, experiment_id] = (experiment, self._clock.monotonic_seconds() + KEEP_SECONDS)
        return experiment

    async def _must_get(self, tenant: TenantId, experiment_id: str) -> Experiment:
        found = await self._store.get(tenant, experiment_id)
        if found is None:
            raise NotFoundError(f"there is no experiment `{experiment_id}`")
        return found


def _warnings(experiment: Experiment) -> list[str]:
    found = [warning_of(variant.name, variant.model_path) for variant in experiment.variants]
    told = [warning for warning in found if warning is not None]
    if experiment.traffic_percentage >= 100:
        told.append("all traffic takes part from the start; begin with 10 percent and raise it when nothing breaks")
    return told
