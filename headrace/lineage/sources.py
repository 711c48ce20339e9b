"""Where lineage is read: the running stream database and its topics, or the lake of a stopped data folder.

The database knows more (routes, SQL texts, labels of this second); the lake remembers longer. Each answers rows as dicts with the same
names, or None for what it does not have.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, LiteralString

import psycopg
from psycopg import sql
from psycopg.rows import dict_row
from pyiceberg.catalog import Catalog
from pyiceberg.expressions import BooleanExpression
from pyiceberg.io.pyarrow import ArrowScan

from core.settings import Settings
from headrace.demo.topics import Raw, read_all
from iceberg.catalog import open_lake
from iceberg.live_files import ManifestReader
from iceberg.loading import must_load
from iceberg.predicates import all_of, at_least, equals, less_than
from iceberg.registry import ModelVersion, open_registry
from pipelines import ledger, snapshot
from pipelines.snapshot import Deployed, Snapshot

Row = dict[str, Any]


@dataclass
class Lake:
    """The tables of the lake and the registry."""

    settings: Settings

    @cached_property
    def catalog(self) -> Catalog:
        return open_lake(self.settings)

    @cached_property
    def models(self) -> dict[tuple[str, int], ModelVersion]:
        return {(each.name, each.version): each for each in open_registry(self.settings).list()}

    def rows(self, table: str, where: BooleanExpression, limit: int | None = None) -> list[Row] | None:
        """Rows of a table; None where there is no such table."""
        if not self.catalog.table_exists(table):
            return None
        found: list[Row] = must_load(self.catalog, table).scan(row_filter=where, limit=limit).to_arrow().to_pylist()
        return found

    def commit_of(self, table: str, where: BooleanExpression) -> tuple[int, datetime] | None:
        """The snapshot that brought the rows, and when; None where it has expired. Compaction writes rows anew, and counts."""
        loaded = must_load(self.catalog, table)
        scan = loaded.scan(row_filter=where)
        reader = ArrowScan(loaded.metadata, loaded.io, scan.projection(), where)
        found = next((task.file.file_path for task in scan.plan_files() if reader.to_table([task]).num_rows), None)
        live = ManifestReader().read(loaded).data.get(found) if found is not None else None
        snapshot = loaded.metadata.snapshot_by_id(live.entry.snapshot_id) if live and live.entry.snapshot_id else None
        return (snapshot.snapshot_id, datetime.fromtimestamp(snapshot.timestamp_ms / 1000, UTC)) if snapshot else None

    def window_events(self, pipeline: str, tenant: str, entity: str, start: datetime, end: datetime) -> list[Row] | None:
        """Raw events of a window, with their place in the topic."""
        where = all_of(equals("tenant_id", tenant), equals("entity_id", entity), *_between("event_time", start, end))
        return self.rows(f"lake.events_{pipeline}", where)


class Database:
    """The stream database, through SQL."""

    def __init__(self, connection: psycopg.Connection, settings: Settings) -> None:
        self._connection = connection
        self._settings = settings

    @cached_property
    def catalog(self) -> Snapshot:
        return snapshot.read(self._connection)

    def has(self, relation: str) -> bool:
        return self.catalog.find(relation) is not None

    def rows(self, relation: str, where: LiteralString, values: Sequence[object], limit: int | None = None) -> list[Row] | None:
        """Rows of a relation; None where there is no such relation."""
        if relation != "quarantine" and not self.has(relation):
            return None
        query = sql.SQL("SELECT * FROM {} WHERE ").format(sql.Identifier(relation)) + sql.SQL(where)
        if limit is not None:
            query += sql.SQL(" LIMIT {}").format(sql.Literal(limit))
        with self._connection.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(query, values).fetchall()

    def texts(self, name: str) -> list[tuple[str, str, str, datetime]]:
        """See `pipelines.ledger.history`; empty where an older headrace deployed."""
        return ledger.history(self._connection, name) if self.has(ledger.HISTORY) else []

    def below(self, name: str) -> list[Deployed]:
        """An object and all it is built on, nearest first."""
        found, waiting = [], [each for each in [self.catalog.find(name)] if each is not None]
        while waiting:
            here = waiting.pop(0)
            if here not in found:
                found.append(here)
                below = sorted(self.catalog.below.get(here.id, ()))
                waiting += [self.catalog.objects[number] for number in below if number in self.catalog.objects]
        return found

    def topic_of(self, source: Deployed) -> str | None:
        """The topic that a source reads."""
        text = self.catalog.text(source)
        found = re.search(r"\btopic\s*=\s*'([^']*)'", text)
        return found[1] if found and re.search(r"connector\s*=\s*'kafka'", text) else None

    def records(self, topic: str) -> list[Raw]:
        """All records that are still in a topic.

        Raises:
            UnavailableError: the broker does not answer.
        """
        return read_all(self._settings.kafka, topic)

    def quarantined(self, streams: set[str]) -> set[tuple[int, int]]:
        """Places of records that a source refused; the quarantine names it by its topic or by itself."""
        rows = self.rows("quarantine", "stream = ANY(%s)", (sorted(streams),)) or []
        return {(int(row["kafka_partition"]), int(row["kafka_offset"])) for row in rows if row["kafka_offset"] is not None}


def _between(column: str, start: datetime, end: datetime) -> tuple[BooleanExpression, ...]:
    return (equals(column, start),) if start == end else (at_least(column, start), less_than(column, end))
