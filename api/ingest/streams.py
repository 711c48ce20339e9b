"""Which streams exist and what their rows look like, learnt from the stream database.

A stream is a source (or table) whose connector reads topic `events.<stream>`; the convention is the name
`<stream>_events`, and any other name is found by its definition. What was learnt is kept for a few seconds, and longer
when the database is away: ingestion does not stop because queries do.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from psycopg import sql

from api.database import Reads, StatementError
from api.ingest.columns import Check, check_for, check_instant, check_text
from core.clock import Clock
from core.errors import InvalidInputError, NotFoundError, UnavailableError

logger = logging.getLogger(__name__)

ENVELOPE: Mapping[str, Check] = {"tenant_id": check_text, "entity_id": check_text, "event_time": check_instant}
"""The columns that every event has."""

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}", re.ASCII)
_TOPIC = re.compile(r"topic\s*=\s*'([^']*)'", re.IGNORECASE)
_KEEP_SECONDS = 5.0  # a changed pipeline is noticed within this time
_KEEP_AWAY_SECONDS = 1.0  # a database that is away is not asked for every request


@dataclass(frozen=True)
class StreamSchema:
    """The columns of a stream's events.

    Args:
        types: column to SQL type; empty when the stream database did not tell.
    """

    stream: str
    types: Mapping[str, str] = field(default_factory=dict)
    checks: Mapping[str, Check] = field(default_factory=dict)

    @property
    def known(self) -> bool:
        return bool(self.types)

    @property
    def topic(self) -> str:
        return f"events.{self.stream}"

    @property
    def quarantine_topic(self) -> str:
        return f"quarantine.{self.stream}"


@dataclass(frozen=True)
class _Kept:
    schema: StreamSchema
    until_seconds: float


class StreamCatalog:
    """Finds the schema of a stream by its name.

    Only the first request for a stream waits for the stream database; later ones get what is known, which is asked for
    anew in the background, once however many requests there are.
    """

    def __init__(self, database: Reads, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._kept: dict[str, _Kept] = {}
        self._asking: dict[str, asyncio.Task[StreamSchema | None]] = {}

    async def schema_of(self, stream: str) -> StreamSchema:
        """What the events of `stream` look like; the envelope only when the stream database is away.

        Raises:
            InvalidInputError: that is no name of a stream.
            NotFoundError: the stream database is there and knows no such stream.
        """
        if not _NAME.fullmatch(stream):
            raise InvalidInputError("that is no name of a stream", fix="Use small letters, digits, `_` and `-`.")
        kept = self._kept.get(stream)
        if kept is not None:
            if self._clock.monotonic_seconds() >= kept.until_seconds:
                self._ask(stream)
            return kept.schema
        # Shielded, because others may wait for the same answer when this caller goes.
        schema = await asyncio.shield(self._ask(stream))
        if schema is None:
            raise NotFoundError(
                f"there is no stream `{stream}`",
                fix=f"Apply the pipeline whose source reads topic `events.{stream}` (`headrace pipeline apply`).",
            )
        return schema

    def _ask(self, stream: str) -> asyncio.Task[StreamSchema | None]:
        asking = self._asking.get(stream)
        if asking is None:
            asking = self._asking[stream] = asyncio.create_task(self._learn(stream))
            asking.add_done_callback(lambda task: self._answered(stream, task))
        return asking

    def _answered(self, stream: str, task: asyncio.Task[StreamSchema | None]) -> None:
        del self._asking[stream]
        if not task.cancelled() and task.exception() is not None:  # nobody may be waiting for it
            logger.warning("columns of a stream unknown", extra={"stream": stream, "reason": str(task.exception())})

    async def _learn(self, stream: str) -> StreamSchema | None:
        """Ask the stream database and keep the answer; None when it knows no such stream."""
        try:
            types = await self._types_of(stream)
        except UnavailableError:
            logger.warning("stream database away, known columns or only the envelope are checked", extra={"stream": stream})
            kept = self._kept.get(stream)
            return self._keep(kept.schema if kept else build_schema(stream, {}), _KEEP_AWAY_SECONDS)
        if types is None:
            self._kept.pop(stream, None)
            return None
        return self._keep(build_schema(stream, types), _KEEP_SECONDS)

    def _keep(self, schema: StreamSchema, seconds: float) -> StreamSchema:
        self._kept[schema.stream] = _Kept(schema, self._clock.monotonic_seconds() + seconds)
        return schema

    async def _types_of(self, stream: str) -> Mapping[str, str] | None:
        conventional = await self._columns(f"{stream}_events")
        if conventional is not None:
            return conventional
        for row in await self._database.fetch("SHOW SOURCES"):
            # With its schema before it since RisingWave 2.7.
            name = str(next(iter(row.values()))).rpartition(".")[2]
            if await self._topic_of(name) == f"events.{stream}":
                return await self._columns(name)
        return None

    async def _columns(self, relation: str) -> Mapping[str, str] | None:
        try:
            rows = await self._database.fetch(sql.SQL("SHOW COLUMNS FROM {}").format(sql.Identifier(relation)))
        except StatementError:
            return None
        # Name, type, and from here on the position does not matter: RisingWave adds `is_hidden` and `description`.
        cells = (list(row.values()) for row in rows)
        types = {str(name): str(sql_type) for name, sql_type, *_ in cells}
        return types if types.keys() >= ENVELOPE.keys() else None

    async def _topic_of(self, source: str) -> str | None:
        try:
            rows = await self._database.fetch(sql.SQL("SHOW CREATE SOURCE {}").format(sql.Identifier(source)))
        except StatementError:
            return None
        found = _TOPIC.search(" ".join(str(cell) for row in rows for cell in row.values()))
        return found.group(1) if found else None


def build_schema(stream: str, types: Mapping[str, str]) -> StreamSchema:
    """The schema with the checks that follow from the columns' types; the envelope's own always hold."""
    checks = {name: check_for(sql_type) for name, sql_type in types.items()}
    return StreamSchema(stream, types, {**checks, **ENVELOPE})
