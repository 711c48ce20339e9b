"""Who served a tenant's endpoint at a time, with what the registry knew of each version then (U113).

Read from the stream database while it runs, and from `lake.route_history` and `lake.route_changes` when it does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pyiceberg.catalog import Catalog

from iceberg.predicates import all_of, equals
from iceberg.registry import Registry
from iceberg.stages import NONE, Stages, stages_of
from pipelines.routing import RouteState, state_of


def routes_in_lake(
    catalog: Catalog, moment: datetime, tenant: str | None = None, endpoint: str | None = None
) -> list[RouteState]:
    """The routes that were active at a moment, from the lake, by tenant and endpoint."""
    if not catalog.table_exists("lake.route_history"):
        return []
    places = [equals(name, value) for name, value in (("tenant_id", tenant), ("endpoint", endpoint)) if value is not None]
    rows = catalog.load_table("lake.route_history").scan(all_of(*places)).to_arrow().to_pylist()
    told: dict[tuple[str, str, int], dict[str, Any]] = {}
    if catalog.table_exists("lake.route_changes"):
        changes = catalog.load_table("lake.route_changes").scan(all_of(*places)).to_arrow().to_pylist()
        told = {(each["tenant_id"], each["endpoint"], each["epoch"]): each for each in changes}
    by_place: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: row["route_epoch"]):
        by_place.setdefault((row["tenant_id"], row["endpoint"]), []).append(row)
    found = []
    for place in sorted(by_place):
        history = by_place[place]
        for position, row in enumerate(history):
            until = history[position + 1]["served_from"] if position + 1 < len(history) else None
            if row["served_from"] <= moment and (until is None or until > moment):
                change = told.get((*place, row["route_epoch"]), {})
                columns = (*place, row["route_epoch"], row["route"], row["served_from"], until)
                found.append(state_of((*columns, *(change.get(name) for name in ("changed_by", "reason", "evidence")))))
    return found


def with_registry(states: Sequence[RouteState], registry: Registry, stages: Stages, moment: datetime) -> list[dict[str, Any]]:
    """The routes as JSON, each member with its sealed artifact and the stage it was in at the moment."""
    named = {member.model for state in states for member in state.members}
    then = {name: stages_of(stages.history(name), at=moment) for name in named}
    sealed = {(each.name, each.version): each for name in named for each in registry.list(name)}
    answer = []
    for state in states:
        members = []
        for member in state.members:
            version = sealed.get((member.model, member.version))
            members.append(
                {
                    **member.as_json(),
                    "stage": then[member.model].get(member.version, NONE),
                    "kind": version.kind if version else None,
                    "artifact_sha256": version.artifact_sha256 if version else None,
                    "registered_at": version.created_at.isoformat() if version else None,
                    "metrics": dict(version.metrics) if version else {},
                }
            )
        answer.append(
            {
                "tenant_id": state.tenant_id,
                "endpoint": state.endpoint,
                "route_epoch": state.epoch,
                "strategy": state.strategy,
                "served_from": state.served_from.isoformat() if state.served_from else None,
                "served_until": state.served_until.isoformat() if state.served_until else None,
                "changed_by": state.changed_by,
                "reason": state.reason,
                "members": members,
            }
        )
    return answer
