"""The three places where predictions arrive, read into one shape."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import psycopg
from pyiceberg.catalog import Catalog

from headrace.demo.feedback import parse_instant
from headrace.demo.topics import Raw


class Prediction(NamedTuple):
    """A prediction as some place holds it; times in UTC, JSON columns parsed."""

    prediction_id: str
    pipeline: str
    tenant_id: str
    entity_id: str
    feature_start: datetime
    feature_end: datetime
    features: tuple[float | None, ...]
    route_epoch: int | None
    label: str | None
    score: float | None
    members: Any  # JSON
    error: Any  # JSON
    appended_ms: int = 0


def from_topic(raw: Raw) -> Prediction:
    """A record of topic `predictions`."""
    row = json.loads(raw.value)
    return _prediction(row, raw.appended_ms)


def from_lake(catalog: Catalog) -> list[Prediction]:
    """All rows of `lake.predictions` as they stand now."""
    return [_prediction(row) for row in catalog.load_table("lake.predictions").scan().to_arrow().to_pylist()]


def from_view(connection: psycopg.Connection) -> list[Prediction]:
    """All rows of the view over all pipelines."""
    names = [name for name in Prediction._fields if name != "appended_ms"]
    rows = connection.execute(f"SELECT {', '.join(names)} FROM predictions".encode()).fetchall()
    return [_prediction(dict(zip(names, row, strict=True))) for row in rows]


def _prediction(row: Mapping[str, Any], appended_ms: int = 0) -> Prediction:  # Any: JSON or driver values
    return Prediction(
        row["prediction_id"],
        row["pipeline"],
        row["tenant_id"],
        row["entity_id"],
        in_utc(row["feature_start"]),
        in_utc(row["feature_end"]),
        tuple(row["features"]),
        row["route_epoch"],
        row["label"],
        row["score"],
        _parsed(row["members"]),
        _parsed(row["error"]),
        appended_ms,
    )


def _parsed(value: Any) -> Any:  # Any: JSON, as text or not
    return json.loads(value) if isinstance(value, str) else value


def in_utc(value: object) -> datetime:
    """A time as a driver, JSON or Arrow gives it; one without a zone is in UTC."""
    moment = value if isinstance(value, datetime) else parse_instant(value)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
