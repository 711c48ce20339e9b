"""Experiments and their counts in the stream database, by parameterised SQL, each statement for one tenant."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
from psycopg import sql

from api.database import Database
from api.experiments.model import Experiment, Status, Variant
from core.ids import TenantId

Float64 = npt.NDArray[np.float64]

_COLUMNS = (
    "experiment_id, name, description, endpoint, allocation_strategy, traffic_percentage, conversion_window_seconds,"
    " variants::varchar AS variants, status, created_at, started_at, stopped_at"
)


@dataclass(frozen=True)
class Counts:
    """What an experiment has seen, by variant, in their order.

    Attributes:
        impressions: units by the variant that they saw first.
        conversions: those that converted afterwards.
        trials: impressions by how much of the conversion window has passed: one that may still convert counts by that share.
        expected: sums of the logged propensities.
        avg_latency_ms: of the predictions; NaN without any.
    """

    impressions: npt.NDArray[np.int64]
    conversions: npt.NDArray[np.int64]
    trials: Float64
    expected: Float64
    avg_latency_ms: Float64


@dataclass(frozen=True)
class Matured:
    """Exposures whose outcome is final, in their order; `last` is the place of the last one."""

    seen: npt.NDArray[np.int64]
    converted: npt.NDArray[np.bool_]
    propensities: Float64
    last: tuple[datetime, str] | None


class Store:
    """Reads and writes experiments."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def insert(self, tenant: TenantId, experiment: Experiment) -> None:
        """Keep a new experiment; it can be read when this returns."""
        await self._database.execute(
            "INSERT INTO experiments (tenant_id, experiment_id, name, description, endpoint, allocation_strategy,"
            " traffic_percentage, conversion_window_seconds, variants, status, created_at)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s::jsonb, %s, %s)",
            (
                tenant,
                experiment.experiment_id,
                experiment.name,
                experiment.description,
                experiment.endpoint,
                experiment.strategy,
                experiment.traffic_percentage,
                experiment.conversion_window_seconds,
                _variants_json(experiment.variants),
                experiment.status,
                experiment.created_at,
            ),
        )

    async def start(self, tenant: TenantId, experiment_id: str, variants: Sequence[Variant], at: datetime) -> None:
        """Let it run with the models that were found."""
        await self._database.execute(
            "UPDATE experiments SET status = 'running', variants = %s::jsonb, started_at = %s"
            " WHERE tenant_id = %s AND experiment_id = %s AND status = 'created'",
            (_variants_json(variants), at, tenant, experiment_id),
        )

    async def stop(self, tenant: TenantId, experiment_id: str, at: datetime) -> None:
        """End it for good."""
        await self._database.execute(
            "UPDATE experiments SET status = 'stopped', stopped_at = %s"
            " WHERE tenant_id = %s AND experiment_id = %s AND status <> 'stopped'",
            (at, tenant, experiment_id),
        )

    async def get(self, tenant: TenantId, experiment_id: str) -> Experiment | None:
        """Find one."""
        statement = sql.SQL("SELECT " + _COLUMNS + " FROM experiments WHERE tenant_id = %s AND experiment_id = %s")
        rows = await self._database.fetch(statement, (tenant, experiment_id))
        return _experiment(rows[0]) if rows else None

    async def all_of(self, tenant: TenantId) -> Sequence[Experiment]:
        """All of a tenant, the newest first."""
        statement = sql.SQL(
            "SELECT " + _COLUMNS + " FROM experiments WHERE tenant_id = %s ORDER BY created_at DESC, experiment_id"
        )
        return [_experiment(row) for row in await self._database.fetch(statement, (tenant,))]

    async def counts(self, tenant: TenantId, experiment: Experiment, now: datetime) -> Counts:
        """What was seen so far."""
        size = len(experiment.variants)
        chances = sql.SQL(", ").join(
            sql.SQL("sum(propensities[{}]) AS {}").format(sql.Literal(at + 1), sql.Identifier(f"p{at}")) for at in range(size)
        )
        # One that has not converted counts by the share of its window that has passed.
        window = max(experiment.conversion_window_seconds, 1e-9)
        rows = await self._database.fetch(
            sql.SQL(
                "SELECT variant_id, count(*) AS impressions, count(converted_at) AS conversions,"
                " sum(CASE WHEN converted_at IS NOT NULL THEN 1.0::double precision ELSE"
                " least(1.0::double precision, greatest(0.0::double precision,"
                " (%s::double precision - extract(epoch FROM exposed_at)::double precision) / %s::double precision)) END) AS trials,"
                " {} FROM experiment_outcomes WHERE tenant_id = %s AND experiment_id = %s GROUP BY variant_id"
            ).format(chances),
            (now.timestamp(), window, tenant, experiment.experiment_id),
        )
        latencies = await self._database.fetch(
            "SELECT variant_id, avg_latency_ms FROM experiment_latencies WHERE tenant_id = %s AND experiment_id = %s",
            (tenant, experiment.experiment_id),
        )
        counts = Counts(
            np.zeros(size, np.int64), np.zeros(size, np.int64), np.zeros(size), np.zeros(size), np.full(size, np.nan)
        )
        for row in rows:
            at = experiment.position(row["variant_id"])
            counts.impressions[at], counts.conversions[at] = row["impressions"], row["conversions"]
            counts.trials[at] = max(float(row["trials"]), float(row["conversions"]))
            counts.expected[:] += [float(row[f"p{each}"]) for each in range(size)]
        for row in latencies:
            counts.avg_latency_ms[experiment.position(row["variant_id"])] = float(row["avg_latency_ms"])
        return counts

    async def matured(
        self, tenant: TenantId, experiment: Experiment, *, after: tuple[datetime, str] | None, until: datetime, limit: int
    ) -> Matured:
        """The next exposures made at or before `until`, each with its outcome within the window."""
        beyond = sql.SQL("")
        values: list[object] = [tenant, experiment.experiment_id, until]
        if after is not None:
            beyond = sql.SQL(" AND (exposed_at > %s OR (exposed_at = %s AND unit_id > %s))")
            values += [after[0], after[0], after[1]]
        rows = await self._database.fetch(
            sql.SQL(
                "SELECT unit_id, variant_id, propensities, exposed_at, converted_at FROM experiment_outcomes"
                " WHERE tenant_id = %s AND experiment_id = %s AND exposed_at <= %s{} ORDER BY exposed_at, unit_id LIMIT {}"
            ).format(beyond, sql.Literal(limit)),
            values,
        )
        window = experiment.conversion_window_seconds
        return Matured(
            np.array([experiment.position(row["variant_id"]) for row in rows], np.int64),
            np.array([_within(row["exposed_at"], row["converted_at"], window) for row in rows], np.bool_),
            np.array([row["propensities"] for row in rows], np.float64).reshape(len(rows), len(experiment.variants)),
            (rows[-1]["exposed_at"], rows[-1]["unit_id"]) if rows else None,
        )

    async def variants_of(self, tenant: TenantId, experiment_id: str, units: Sequence[str]) -> dict[str, str]:
        """What those of the units that were seen before saw first."""
        places = sql.SQL(", ").join([sql.Placeholder()] * len(units))
        rows = await self._database.fetch(
            sql.SQL(
                "SELECT unit_id, variant_id FROM experiment_units WHERE tenant_id = %s AND experiment_id = %s AND unit_id IN ({})"
            ).format(places),
            (tenant, experiment_id, *units),
        )
        return {row["unit_id"]: row["variant_id"] for row in rows}


def _within(exposed_at: datetime, converted_at: datetime | None, window_seconds: float) -> bool:
    if converted_at is None:
        return False
    return window_seconds == 0 or (converted_at - exposed_at).total_seconds() <= window_seconds


def _variants_json(variants: Sequence[Variant]) -> str:
    return json.dumps([asdict(variant) for variant in variants])


def _experiment(row: dict[str, Any]) -> Experiment:  # Any: whatever type the column has
    status: Status = row["status"]
    return Experiment(
        experiment_id=row["experiment_id"],
        name=row["name"],
        description=row["description"],
        endpoint=row["endpoint"],
        strategy=row["allocation_strategy"],
        traffic_percentage=float(row["traffic_percentage"]),
        conversion_window_seconds=float(row["conversion_window_seconds"]),
        variants=tuple(Variant(**fields) for fields in json.loads(row["variants"])),
        status=status,
        created_at=row["created_at"],
        started_at=row["started_at"],
        stopped_at=row["stopped_at"],
    )
