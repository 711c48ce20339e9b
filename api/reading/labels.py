"""The labels that came back for predictions, the last correction of each."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import sql

from api.database import Reads
from api.live.changes import Row
from core.ids import TenantId


async def read_labels(database: Reads, tenant: TenantId, prediction_ids: Sequence[str]) -> dict[str, Row]:
    """Labels by prediction id, in one statement however many are asked for."""
    if not prediction_ids:
        return {}
    places = sql.SQL(", ").join([sql.Placeholder()] * len(prediction_ids))
    statement = sql.SQL(
        "SELECT prediction_id, label, labelled_at, source FROM labels WHERE tenant_id = %s AND prediction_id IN ({})"
    ).format(places)
    rows = await database.fetch(statement, [tenant, *prediction_ids])
    return {row["prediction_id"]: row for row in rows}
