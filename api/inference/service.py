"""Predicts the rows of one request.

    route of the last epoch ---> UDF server (batched with other requests) ---> record acknowledged ---> answer

The record goes to topic `predictions.online` before the answer, so that what a caller was told is in the view `predictions`
and can be labelled, whatever happens afterwards.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pyarrow as pa
from arrow_udf import JsonType

from api.experiments.dealing import Share
from api.experiments.service import Experiments
from api.inference.active_routes import ActiveRoutes
from api.inference.batcher import Batcher
from api.inference.lineage import Lineage, Served
from api.inference.outcomes import INPUT_CODES, Outcomes, answer_json, read_outcomes, records
from api.inference.rows import PredictRequest, parse_request
from api.ingest.log import EventLog
from api.ingest.verdicts import Record
from core.clock import Clock
from core.errors import InvalidInputError, NotFoundError
from core.ids import TenantId
from core.telemetry import span

TOPIC = "predictions.online"
ARGUMENTS = ("route", "key", "features")
_INLINE_BYTES = 64 * 1024  # reading or writing more than this takes longer than other requests should wait
_INLINE_ROWS = 256


@dataclass(frozen=True)
class Answer:
    """The body of an answer and its HTTP status."""

    status: int
    body: bytes


class Inference:
    """Answers `/predict`."""

    def __init__(
        self,
        routes: ActiveRoutes,
        predict: Batcher,
        lineage: Lineage,
        log: EventLog,
        clock: Clock,
        *,
        experiments: Experiments | None = None,
        new_id: Callable[[], str] = lambda: uuid.uuid4().hex,
    ) -> None:
        self._routes = routes
        self._predict = predict
        self._lineage = lineage
        self._log = log
        self._clock = clock
        self._experiments = experiments
        self._new_id = new_id

    async def predict(self, tenant: TenantId, body: bytes) -> Answer:
        """Predict the rows of a body `{"features": [[...]], ...}`.

        Raises:
            InvalidInputError, TooLargeError: that is no such body.
            NoActiveModelError: nothing serves the endpoint.
            UnavailableError: UDF server or broker do not answer; nothing was promised.
        """
        begun = self._clock.monotonic_seconds()
        asked = parse_request(body) if len(body) <= _INLINE_BYTES else await asyncio.to_thread(parse_request, body)
        ids = [self._new_id() for _ in range(len(asked.rows))]
        keys = asked.keys if asked.keys is not None else ids
        with span("predict", tenant=tenant, endpoint=asked.endpoint, rows=len(ids)):
            plan = await self._plan(tenant, asked, keys)
            routes = pa.ExtensionArray.from_storage(JsonType(), pa.array(plan.routes, pa.string()))
            found = await self._predict.call(routes, pa.array(keys, pa.string()), asked.rows.features)
            outcomes = read_outcomes(found, asked.rows.errors)
            now = self._clock.now()

            def write() -> list[Record]:
                return records(
                    outcomes,
                    asked.rows,
                    tenant=tenant,
                    endpoint=asked.endpoint,
                    ids=ids,
                    keys=keys,
                    epochs=plan.epochs,
                    predicted_at=now,
                )

            written = write() if len(ids) <= _INLINE_ROWS else await asyncio.to_thread(write)
            appends = [self._log.append(TOPIC, written)]
            if asked.experiment_id is not None and self._experiments is not None:
                took_ms = (self._clock.monotonic_seconds() - begun) * 1000
                topic, seen = self._experiments.exposures(tenant, asked.experiment_id, plan.shares, ids, took_ms)
                appends.append(self._log.append(topic, seen))
            await asyncio.gather(*appends)
        latency_ms = (self._clock.monotonic_seconds() - begun) * 1000

        def tell() -> bytes:
            return answer_json(
                outcomes, endpoint=asked.endpoint, ids=ids, served=plan.served, latency_ms=latency_ms, more=plan.more
            )

        return Answer(status_of(outcomes), tell() if len(ids) <= _INLINE_ROWS else await asyncio.to_thread(tell))

    async def _plan(self, tenant: TenantId, asked: PredictRequest, keys: Sequence[str]) -> _Plan:
        if asked.experiment_id is None:
            route = await self._routes.get(tenant, asked.endpoint)
            served = await self._lineage.of_route(route.text, route.epoch)
            return _Plan([route.text] * len(keys), [route.epoch] * len(keys), served)
        if self._experiments is None:
            raise NotFoundError(f"there is no experiment `{asked.experiment_id}`")
        if asked.keys is None:
            raise InvalidInputError("an experiment needs `keys`", fix="Name the unit of each row, e.g. a user, in `keys`.")
        shares = await self._experiments.deal(tenant, asked.experiment_id, keys)
        return await self._shared_plan(tenant, asked, shares)

    async def _shared_plan(self, tenant: TenantId, asked: PredictRequest, shares: Sequence[Share]) -> _Plan:
        """Variants answer with their own routes; who is outside gets what the endpoint gives everybody."""
        outside = any(share.route is None for share in shares)
        route = await self._routes.get(tenant, asked.endpoint) if outside else None
        texts = [share.route if share.route is not None else route.text if route else "" for share in shares]
        epochs = [route.epoch if share.route is None and route else None for share in shares]
        told = [await self._lineage.of_route(text, route.epoch if route else 0) for text in sorted(set(texts))]
        lineage = f'{{"routes": [{", ".join(each.lineage for each in told)}]}}'
        served = told[0]._replace(lineage=lineage) if len(told) == 1 else Served(None, None, lineage)
        variants = json.dumps([share.label for share in shares])
        return _Plan(
            texts, epochs, served, shares, f', "experiment_id": {json.dumps(asked.experiment_id)}, "variant_ids": {variants}'
        )


@dataclass(frozen=True)
class _Plan:
    """The route of each row, and how the answer tells about them."""

    routes: Sequence[str]
    epochs: Sequence[int | None]
    served: Served
    shares: Sequence[Share] = ()
    more: str = ""


def status_of(outcomes: Outcomes) -> int:
    """200 when at least one row has an answer; else whose fault it is: 422 the caller's, 503 ours."""
    if any(error is None for error in outcomes.errors):
        return 200
    return 422 if outcomes.codes <= INPUT_CODES else 503
