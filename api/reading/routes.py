"""Who serves what: the routing tables of a tenant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby

from psycopg import sql

from api.database import Reads
from api.live.changes import Row
from api.reading.conditions import Condition, of_tenant, where
from core.ids import TenantId
from pipelines.routing import SERVED_COLUMNS, state_of


@dataclass(frozen=True)
class RouteTable:
    """The route of one endpoint; members are rows of relation `routes`."""

    endpoint: str
    strategy: str | None
    epoch: int
    members: Sequence[Row]


async def read_routes_at(database: Reads, tenant: TenantId, endpoint: str | None, moment: datetime) -> list[RouteTable]:
    """The routes that were active at a moment, by endpoint."""
    served = sql.SQL("served_from <= %s AND (served_until IS NULL OR served_until > %s)")
    conditions = [of_tenant(tenant), *([Condition("endpoint", "=", endpoint)] if endpoint is not None else [])]
    clause, values = where(conditions)
    rows = await database.fetch(
        sql.SQL("SELECT {} FROM served_routes {} AND {} ORDER BY endpoint").format(sql.SQL(SERVED_COLUMNS), clause, served),
        [*values, moment, moment],
    )
    states = [state_of(tuple(row[name] for name in SERVED_COLUMNS.split(", "))) for row in rows]
    return [RouteTable(s.endpoint, s.strategy, s.epoch, [dict(each.as_json()) for each in s.members]) for s in states]


async def read_routes(database: Reads, tenant: TenantId, endpoint: str | None) -> list[RouteTable]:
    """The routes of a tenant, by endpoint; an endpoint without members has none."""
    conditions = [of_tenant(tenant), *([Condition("endpoint", "=", endpoint)] if endpoint is not None else [])]
    clause, values = where(conditions)
    strategies = await database.fetch(sql.SQL("SELECT endpoint, strategy FROM endpoints {}").format(clause), values)
    strategy_of = {row["endpoint"]: row["strategy"] for row in strategies}
    members = await database.fetch(
        sql.SQL(
            "SELECT endpoint, model, version, role, weight, fraction, epoch FROM routes {} ORDER BY endpoint, model, version"
        ).format(clause),
        values,
    )
    tables = []
    for name, group in groupby(members, key=lambda row: str(row["endpoint"])):
        rows = list(group)
        tables.append(RouteTable(name, strategy_of.get(name), max(int(row["epoch"] or 0) for row in rows), rows))
    return tables
