"""Takes the rows of one request through judgement, log and quarantine. REST and GraphQL share it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TypeVar

from api.ingest.binary import binary_row
from api.ingest.events import judge_events
from api.ingest.feedback import FEEDBACK, judge_feedback
from api.ingest.log import EventLog
from api.ingest.quarantine import quarantine_records
from api.ingest.rows import ParsedRow, parse_rows
from api.ingest.streams import StreamCatalog
from api.ingest.verdicts import IngestAnswer, Judgement, RejectedRow
from core.clock import Clock
from core.ids import TenantId
from core.telemetry import span

logger = logging.getLogger(__name__)

T = TypeVar("T")

MAX_ROWS = 10_000  # per request; more in one request would only delay its first acknowledgement
_INLINE_BYTES = 64 * 1024  # judging more than this takes longer than other requests should wait


class Ingestion:
    """Accepts rows for streams and labels for predictions."""

    def __init__(self, log: EventLog, streams: StreamCatalog, clock: Clock) -> None:
        self._log = log
        self._streams = streams
        self._clock = clock

    async def events(self, stream: str, tenant: TenantId, body: bytes, content_type: str) -> IngestAnswer:
        """Take JSON rows for a stream.

        Raises:
            NotFoundError, InvalidInputError: no such stream.
            TooLargeError: too many rows.
            UnavailableError: not acknowledged by the broker.
        """
        schema = await self._streams.schema_of(stream)

        def judge() -> Judgement:
            return judge_events(parse_rows(body, content_type=content_type, max_rows=MAX_ROWS), schema, tenant)

        judgement = await off_loop(judge, len(body))
        return await self._keep(stream, schema.topic, tenant, judgement, validated=schema.known)

    async def binary(
        self, stream: str, tenant: TenantId, payload: bytes, *, entity_id: str | None, event_time: str | None, content_type: str
    ) -> IngestAnswer:
        """Take one raw payload as an event of a stream; raises as `events` does."""
        schema = await self._streams.schema_of(stream)
        row = binary_row(
            payload,
            schema=schema,
            entity_id=entity_id,
            event_time=event_time,
            received_at=self._clock.now(),
            content_type=content_type,
        )
        return await self._keep(stream, schema.topic, tenant, judge_events([row], schema, tenant), validated=schema.known)

    async def feedback(self, tenant: TenantId, body: bytes, content_type: str) -> IngestAnswer:
        """Take labels as JSON rows; raises as `events` does."""
        return await self.labels(tenant, parse_rows(body, content_type=content_type, max_rows=MAX_ROWS))

    async def labels(self, tenant: TenantId, rows: list[ParsedRow]) -> IngestAnswer:
        """Take labels that are already cut into rows."""
        judgement = judge_feedback(rows, tenant, self._clock.now())
        return await self._keep(FEEDBACK, FEEDBACK, tenant, judgement, validated=True)

    async def _keep(self, stream: str, topic: str, tenant: TenantId, judgement: Judgement, *, validated: bool) -> IngestAnswer:
        refused = quarantine_records(judgement.refused, stream=stream, tenant=tenant, received_at=self._clock.now())
        quarantine_topic = f"quarantine.{stream}"
        with span("ingest", tenant=tenant, stream=stream, rows=len(judgement.accepted)):
            await asyncio.gather(self._log.append(topic, judgement.accepted), self._log.append(quarantine_topic, refused))
        if refused:
            logger.info("rows refused", extra={"tenant": tenant, "stream": stream, "rows": len(refused)})
        return IngestAnswer(
            stream=stream,
            accepted=len(judgement.accepted),
            rejected=[
                RejectedRow(row=refusal.row, code=refusal.code, message=refusal.message) for refusal in judgement.refused
            ],
            validated=validated,
            quarantine=quarantine_topic if refused else None,
        )


async def off_loop(judge: Callable[[], T], size_bytes: int) -> T:
    """The result of work on so many bytes, in a thread where it would keep other requests waiting."""
    return judge() if size_bytes <= _INLINE_BYTES else await asyncio.to_thread(judge)
