"""Brings what Iceberg keeps of drift, trainings and models into the stream database, where SQL asks for it.

The tables of pipeline `operations` are made equal to the lake: rows that differ are written, rows that the lake has no more are
deleted. So it may be done at any time and any number of times, and nothing is done when no snapshot is new.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import psycopg
from psycopg import sql
from pyiceberg.catalog import Catalog

from core.errors import HeadraceError
from core.settings import Settings
from iceberg.catalog import open_lake
from iceberg.loading import must_load
from iceberg.predicates import all_of
from iceberg.row_appends import scan_rows, type_row
from iceberg.tables import ALIASES, DRIFT_EVENTS, MODEL_VERSIONS, TRAINING_JOBS
from pipelines.deployer import connected

logger = logging.getLogger(__name__)

_JSON = frozenset({"metrics", "tags", "aliases", "reference_window", "current_window"})
_BATCH = 200


@dataclass(frozen=True)
class Copy:
    """A table of the stream database and where its rows come from.

    Attributes:
        key: the columns that name a row.
        sources: the lake's tables; a new snapshot of one calls for a look.
        rows: reads them.
    """

    table: str
    key: tuple[str, ...]
    columns: tuple[str, ...]
    sources: tuple[str, ...]
    rows: Callable[[Catalog], Iterable[type_row]]


def _plain(identifier: str) -> Callable[[Catalog], Iterable[type_row]]:
    return lambda catalog: scan_rows(must_load(catalog, identifier), all_of())


def _versions(catalog: Catalog) -> Iterable[type_row]:
    """Model versions with the aliases that mean them now."""
    newest: dict[tuple[str, str, str], int | None] = {}
    if catalog.table_exists(ALIASES.identifier):
        for row in sorted(scan_rows(must_load(catalog, ALIASES.identifier), all_of()), key=lambda row: row["sequence"]):
            newest[row["name"], row["alias"], row["tenant_id"]] = row["version"]
    for row in scan_rows(must_load(catalog, MODEL_VERSIONS.identifier), all_of()):
        meant = [
            {"alias": alias, "tenant_id": tenant or None}
            for (name, alias, tenant), version in sorted(newest.items())
            if (name, version) == (row["name"], row["version"])
        ]
        yield {**row, "aliases": json.dumps(meant)}


COPIES = (
    Copy(
        "lake_drift_events",
        ("drift_id",),
        tuple(column.name for column in DRIFT_EVENTS.columns if column.name != "sink_epoch"),
        (DRIFT_EVENTS.identifier,),
        _plain(DRIFT_EVENTS.identifier),
    ),
    Copy(
        "lake_training_jobs",
        ("job_id", "state"),
        tuple(column.name for column in TRAINING_JOBS.columns),
        (TRAINING_JOBS.identifier,),
        _plain(TRAINING_JOBS.identifier),
    ),
    Copy(
        "lake_model_versions",
        ("name", "version"),
        (
            "name", "version", "created_at", "kind", "artifact_sha256", "artifact_bytes", "signature_hash", "metrics", "tags", "aliases",
            "code_hash", "training_seconds",
        ),
        (MODEL_VERSIONS.identifier, ALIASES.identifier),
        _versions,
    ),
)  # fmt: skip


@dataclass
class Mirror:
    """Keeps the tables equal to the lake; not for two threads at once.

    Args:
        settings: name the lake and the stream database.
    """

    settings: Settings
    _seen: dict[str, tuple[int | None, ...]] = field(default_factory=dict)
    _catalog: Catalog | None = None

    def look(self) -> Mapping[str, tuple[int, int]]:
        """Copy what is new; gives rows written and deleted, by table; nothing where no snapshot is new.

        Raises:
            UnavailableError: the lake or the stream database does not answer.
            NotFoundError, InvalidInputError: pipeline `operations` is not applied.
        """
        if self._catalog is None:
            self._catalog = open_lake(self.settings)
        catalog, done = self._catalog, {}
        for copy in COPIES:
            if not catalog.table_exists(copy.sources[0]):
                continue
            state = tuple(_snapshot(catalog, source) for source in copy.sources)
            if self._seen.get(copy.table) == state:
                continue
            with connected(self.settings.database_url) as connection:
                done[copy.table] = _make_equal(connection, copy, copy.rows(catalog))
            self._seen[copy.table] = state
        return done

    def keep_looking(self, stop: threading.Event, every_seconds: float) -> None:
        """Look again and again until told to stop; what fails is logged and tried again."""
        while not stop.wait(every_seconds):
            try:
                self.look()
            except (HeadraceError, psycopg.Error, OSError):
                logger.warning("lake not mirrored", exc_info=True)


def _make_equal(connection: psycopg.Connection[tuple[Any, ...]], copy: Copy, rows: Iterable[type_row]) -> tuple[int, int]:
    table, names = sql.Identifier(copy.table), sql.SQL(", ").join(map(sql.Identifier, copy.columns))
    wanted = {tuple(row[name] for name in copy.key): tuple(_value(name, row[name]) for name in copy.columns) for row in rows}
    present: dict[tuple[Any, ...], tuple[Any, ...]] = {}
    for found in connection.execute(sql.SQL("SELECT {} FROM {}").format(names, table)):
        row = dict(zip(copy.columns, found, strict=True))
        present[tuple(row[name] for name in copy.key)] = tuple(_value(name, value) for name, value in row.items())
    changed = [values for key, values in wanted.items() if present.get(key) != values]
    gone = [key for key in present if key not in wanted]
    one = sql.SQL("({})").format(sql.SQL(", ").join([sql.Placeholder()] * len(copy.columns)))
    for begin in range(0, len(changed), _BATCH):
        part = changed[begin : begin + _BATCH]
        statement = sql.SQL("INSERT INTO {} ({}) VALUES {}").format(table, names, sql.SQL(", ").join([one] * len(part)))
        connection.execute(statement, [value for values in part for value in values])
    where = sql.SQL(" AND ").join(sql.SQL("{} = {}").format(sql.Identifier(name), sql.Placeholder()) for name in copy.key)
    for key in gone:
        connection.execute(sql.SQL("DELETE FROM {} WHERE {}").format(table, where), key)
    if changed or gone:
        connection.execute("FLUSH")
    return len(changed), len(gone)


def _value(name: str, value: Any) -> Any:
    """The same value whichever side it comes from: JSON as canonical text."""
    if name in _JSON and value is not None:
        return json.dumps(json.loads(value) if isinstance(value, str) else value, sort_keys=True)
    return value.astimezone() if isinstance(value, datetime) else value


def _snapshot(catalog: Catalog, identifier: str) -> int | None:
    if not catalog.table_exists(identifier):
        return None
    return must_load(catalog, identifier).metadata.current_snapshot_id
