"""How far behind each feature view is: by event time, and by what waits to be processed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psycopg

from features.declaration import FeatureView
from features.lake import quote
from features.online import positions

type_connection = psycopg.Connection[tuple[Any, ...]]


@dataclass(frozen=True)
class Lag:
    """Of one view; None where the database does not tell.

    Attributes:
        as_of: event time up to which the source was read; `event_lag_seconds` is the wall clock less that.
        newest: time of the newest row; `feature_lag_seconds` is the wall clock less that.
        waiting_records: of the source's topic that were not read yet.
        epoch_ms: how long the last epoch took, from its barrier to its commit: what processing adds.
        lake_backlog_rows, lake_backlog_epochs: rows of its history that the lake does not have yet.
        stale: nothing new for longer than `frequency` allows.
        problem: why there is no answer.
    """

    view: str
    as_of: datetime | None = None
    event_lag_seconds: float | None = None
    newest: datetime | None = None
    feature_lag_seconds: float | None = None
    waiting_records: int | None = None
    epoch_ms: float | None = None
    lake_backlog_rows: int | None = None
    lake_backlog_epochs: int | None = None
    stale: bool = False
    problem: str | None = None


def lags(connection: type_connection, views: Sequence[FeatureView], now: datetime) -> list[Lag]:
    """Ask the stream database.

    Args:
        now: the wall clock.
    """
    epoch_ms = _number(_ask(connection, "SELECT last_ms FROM rw_catalog.headrace_barriers"))
    return [_lag(connection, view, now, epoch_ms) for view in views]


# -- below: called by the above


def _lag(connection: type_connection, view: FeatureView, now: datetime, epoch_ms: float | None) -> Lag:
    latest = f"SELECT max({quote(view.timestamp)}) FROM {quote(view.latest)}"
    try:
        newest = _moment(connection.execute(latest.encode()).fetchall()[0][0])
    except psycopg.Error as error:
        return Lag(view.name, problem=f"not deployed: {error.diag.message_primary}")
    as_of, waiting = newest, None
    if view.offline is not None:
        name = positions(view.offline.events)
        as_of = _moment(connection.execute(f"SELECT max(event_time) FROM {quote(name)}".encode()).fetchall()[0][0])
        source = view.offline.source or f"{view.offline.events}_events"
        waiting = _number(_ask(connection, "SELECT sum(lag) FROM rw_catalog.headrace_sources WHERE name = %s", source))
    backlog = _ask(
        connection,
        "SELECT sum(backlog_rows), max(backlog_epochs) FROM rw_catalog.headrace_sinks WHERE name = %s",
        f"{view.relation}_lake",
    )
    feature_lag = (now - newest).total_seconds() if newest is not None else None
    return Lag(
        view.name,
        as_of,
        (now - as_of).total_seconds() if as_of is not None else None,
        newest,
        feature_lag,
        int(waiting) if waiting is not None else None,
        epoch_ms,
        int(backlog[0]) if backlog and backlog[0] is not None else None,
        int(backlog[1]) if backlog and backlog[1] is not None else None,
        # Windows that wait for their watermark may be one period late without anything being wrong.
        stale=feature_lag is None or feature_lag > 2 * view.frequency.total_seconds() + _slack(view),
    )


def _slack(view: FeatureView) -> float:
    return view.offline.watermark.total_seconds() if view.offline is not None and view.offline.watermark is not None else 0.0


def _ask(connection: type_connection, sql: str, *parameters: str) -> tuple[Any, ...] | None:
    """The first row; None where the database has no such relation."""
    try:
        rows = connection.execute(sql.encode(), parameters or None).fetchall()
    except psycopg.errors.UndefinedTable:
        return None
    return rows[0] if rows else None


def _number(row: tuple[Any, ...] | None) -> float | None:
    return float(row[0]) if row is not None and row[0] is not None else None


def _moment(value: datetime | None) -> datetime | None:
    if value is None:
        return None
    return value.astimezone(UTC) if value.tzinfo is not None else value.replace(tzinfo=UTC)
