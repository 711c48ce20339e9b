"""Predicts the rows of a request, together with those of others that came at the same time.

    route of the last epoch ---> UDF server ---> records acknowledged ---> answers
                                 '------------- one batch -------------'

The records go to topic `predictions.online` before the answers, so that what a caller was told is in the view `predictions`
and can be labelled, whatever happens afterwards.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import pyarrow as pa
from arrow_udf import JsonType

from api.experiments.dealing import Share
from api.experiments.service import Experiments
from api.inference.active_routes import ActiveRoutes
from api.inference.batcher import PATIENCE_SECONDS, Batcher, Steps
from api.inference.lineage import Lineage, Served
from api.inference.outcomes import Outcomes, answer_json, read_outcomes, records, status_of
from api.inference.rows import FeatureRows, PredictRequest, parse_request, read_rows
from api.ingest.log import EventLog
from api.ingest.verdicts import Record
from core.clock import Clock
from core.errors import InvalidInputError, NotFoundError
from core.ids import TenantId
from core.telemetry import span

TOPIC = "predictions.online"
_INLINE_BYTES = 64 * 1024  # reading more than this takes longer than other requests should wait
_INLINE_ROWS = 256  # and so does writing
_JSON = JsonType()


@dataclass(frozen=True)
class Answer:
    """The body of an answer and its HTTP status."""

    status: int
    body: bytes


@dataclass(frozen=True)
class Plan:
    """The route of each row, and how the answer tells about them."""

    routes: Sequence[str]
    epochs: Sequence[int | None]
    served: Served
    shares: Sequence[Share] = ()
    more: str = ""


@dataclass(eq=False)
class PredictJob:
    """One request on its way through a batch. Mutable: its answer is set once."""

    tenant: TenantId
    asked: PredictRequest
    ids: Sequence[str]
    keys: Sequence[str]
    plan: Plan
    begun_seconds: float
    answer: asyncio.Future[Answer]

    @property
    def rows(self) -> int:
        return len(self.ids)


@dataclass
class _Batch:
    """What came back for some jobs. Mutable only while it is made."""

    parts: list[Outcomes] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)


class Inference:
    """Answers `/predict`."""

    def __init__(
        self,
        routes: ActiveRoutes,
        udf_url: str,
        lineage: Lineage,
        log: EventLog,
        clock: Clock,
        *,
        experiments: Experiments | None = None,
        patience_seconds: float = PATIENCE_SECONDS,
        new_id: Callable[[], str] = lambda: uuid.uuid4().hex,
    ) -> None:
        self._routes = routes
        self._lineage = lineage
        self._log = log
        self._clock = clock
        self._experiments = experiments
        self._new_id = new_id
        steps: Steps[PredictJob, FeatureRows, _Batch] = Steps(_encode, self._decode, self._finish)
        self._batcher: Batcher[PredictJob, FeatureRows, _Batch] = Batcher(
            udf_url, "predict", ("route", "key", "features"), steps, patience_seconds=patience_seconds
        )

    @property
    def calls(self) -> int:
        """How many batches went to the UDF server."""
        return self._batcher.calls

    def close(self) -> None:
        """Let go of the UDF server; blocks."""
        self._batcher.close()

    async def predict(self, tenant: TenantId, body: bytes) -> Answer:
        """Predict the rows of a body `{"features": [[...]], ...}`.

        Raises:
            InvalidInputError, TooLargeError: that is no such body.
            NoActiveModelError: nothing serves the endpoint.
            UnavailableError: UDF server or broker do not answer; nothing was promised.
        """
        begun = self._clock.monotonic_seconds()
        asked = parse_request(body) if len(body) <= _INLINE_BYTES else await asyncio.to_thread(parse_request, body)
        ids = [self._new_id() for _ in asked.rows]
        keys = asked.keys if asked.keys is not None else ids
        plan = await self._plan(tenant, asked, keys)
        job = PredictJob(tenant, asked, ids, keys, plan, begun, asyncio.get_running_loop().create_future())
        answer: Answer = await self._batcher.call(job)
        return answer

    def _decode(self, jobs: list[PredictJob], read: FeatureRows, answer: pa.StructArray) -> _Batch:
        everything = read_outcomes(read.features, read.errors, answer)
        now = self._clock.now()
        batch = _Batch()
        start = 0
        for job in jobs:
            part = everything.part(start, start + job.rows)
            start += job.rows
            batch.parts.append(part)
            batch.records += records(
                part,
                tenant=job.tenant,
                endpoint=job.asked.endpoint,
                ids=job.ids,
                keys=job.keys,
                epochs=job.plan.epochs,
                predicted_at=now,
            )
        return batch

    async def _finish(self, jobs: list[PredictJob], batch: _Batch) -> None:
        with span("predict batch", requests=len(jobs), rows=len(batch.records)):
            await self._log.append(TOPIC, batch.records)
            for job in jobs:
                if job.asked.experiment_id is not None and self._experiments is not None:
                    took_ms = (self._clock.monotonic_seconds() - job.begun_seconds) * 1000
                    topic, seen = self._experiments.exposures(
                        job.tenant, job.asked.experiment_id, job.plan.shares, job.ids, took_ms
                    )
                    await self._log.append(topic, seen)
        for job, part in zip(jobs, batch.parts, strict=True):
            answer = self._tell(job, part) if job.rows <= _INLINE_ROWS else await asyncio.to_thread(self._tell, job, part)
            if not job.answer.done():  # its caller may have gone
                job.answer.set_result(answer)

    def _tell(self, job: PredictJob, outcomes: Outcomes) -> Answer:
        latency_ms = (self._clock.monotonic_seconds() - job.begun_seconds) * 1000
        plan = job.plan
        body = answer_json(
            outcomes, endpoint=job.asked.endpoint, ids=job.ids, served=plan.served, latency_ms=latency_ms, more=plan.more
        )
        return Answer(status_of(outcomes), body)

    async def _plan(self, tenant: TenantId, asked: PredictRequest, keys: Sequence[str]) -> Plan:
        if asked.experiment_id is None:
            route = await self._routes.get(tenant, asked.endpoint)
            served = await self._lineage.of_route(route.text, route.epoch)
            return Plan([route.text] * len(keys), [route.epoch] * len(keys), served)
        if self._experiments is None:
            raise NotFoundError(f"there is no experiment `{asked.experiment_id}`")
        if asked.keys is None:
            raise InvalidInputError("an experiment needs `keys`", fix="Name the unit of each row, e.g. a user, in `keys`.")
        shares = await self._experiments.deal(tenant, asked.experiment_id, keys)
        return await self._shared_plan(tenant, asked, shares)

    async def _shared_plan(self, tenant: TenantId, asked: PredictRequest, shares: Sequence[Share]) -> Plan:
        """Variants answer with their own routes; who is outside gets what the endpoint gives everybody."""
        outside = any(share.route is None for share in shares)
        route = await self._routes.get(tenant, asked.endpoint) if outside else None
        texts = [share.route if share.route is not None else route.text if route else "" for share in shares]
        epochs = [route.epoch if share.route is None and route else None for share in shares]
        told = [await self._lineage.of_route(text, route.epoch if route else 0) for text in sorted(set(texts))]
        lineage = f'{{"routes": [{", ".join(each.lineage for each in told)}]}}'
        served = told[0]._replace(lineage=lineage) if len(told) == 1 else Served(None, None, lineage)
        more: dict[str, Any] = {  # Any: JSON
            "experiment_id": asked.experiment_id,
            "variant_ids": [share.label for share in shares],
        }
        return Plan(texts, epochs, served, shares, f", {json.dumps(more)[1:-1]}")


def _encode(jobs: list[PredictJob]) -> tuple[Sequence[pa.Array], FeatureRows]:
    read = read_rows(list(chain.from_iterable(job.asked.rows for job in jobs)))
    routes = pa.array(list(chain.from_iterable(job.plan.routes for job in jobs)), pa.string())
    keys = pa.array(list(chain.from_iterable(job.keys for job in jobs)), pa.string())
    return (pa.ExtensionArray.from_storage(_JSON, routes), keys, read.features), read
