"""Reads and changes routes in the stream database, one whole epoch at a time.

A change is one row of `route_changes` (see `00_shared/15_route_changes.sql`): strategy and members become active together, in one
epoch of the database. Two writers that claim the same epoch do not mix: the first row stays, the other writer is told.

A member is never deleted. One that leaves keeps its row with weight 0, so that `routes` still says when.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, LiteralString
from uuid import uuid4

import psycopg

from core.errors import ConflictError, InvalidInputError, NotFoundError

Connection = psycopg.Connection[tuple[Any, ...]]


@dataclass(frozen=True)
class RouteMember:
    """A member as `routes` keeps it; `fraction` is the share of traffic of a canary or shadow."""

    model: str
    version: int
    role: str = "champion"
    weight: float = 1.0
    fraction: float | None = None

    @property
    def name(self) -> str:
        return f"{self.model}@{self.version}"

    @property
    def is_active(self) -> bool:
        return self.weight > 0 or self.role == "shadow"

    def retired(self) -> RouteMember:
        """The same member out of service."""
        return replace(self, role="challenger", weight=0.0, fraction=None)

    def as_json(self) -> dict[str, object]:
        return {
            "model": self.model,
            "version": self.version,
            "role": self.role,
            "weight": self.weight,
            "fraction": self.fraction,
        }


@dataclass(frozen=True)
class RouteState:
    """A tenant's endpoint at one epoch, or in time between two.

    Attributes:
        members: the active ones, in the order in which `predict` gets them.
        served_from, served_until: when the database made it active and inactive; None: not known, still active.
        changed_by, reason: None for rows that were written into `routes` by hand.
        evidence: what an automatic change rests on.
    """

    tenant_id: str
    endpoint: str
    epoch: int
    strategy: str
    members: tuple[RouteMember, ...]
    served_from: datetime | None = None
    served_until: datetime | None = None
    changed_by: str | None = None
    reason: str | None = None
    evidence: Mapping[str, Any] | None = None

    @property
    def place(self) -> str:
        """For people and records: `TENANT/ENDPOINT`."""
        return f"{self.tenant_id}/{self.endpoint}"

    @property
    def serving(self) -> tuple[RouteMember, ...]:
        return tuple(member for member in self.members if member.role != "shadow")

    def route_json(self) -> str:
        """The route as `predict` gets it."""
        return json.dumps({"strategy": self.strategy, "members": [member.as_json() for member in self.members]})


def read_current(connection: Connection, tenant_id: str | None = None, endpoint: str | None = None) -> list[RouteState]:
    """The routes that are active now, by tenant and endpoint."""
    return _read(connection, "served_until IS NULL", tenant_id, endpoint)


def read_at(
    connection: Connection, moment: datetime, tenant_id: str | None = None, endpoint: str | None = None
) -> list[RouteState]:
    """The routes that were active at a moment."""
    return _read(
        connection,
        "served_from <= %s AND (served_until IS NULL OR served_until > %s)",
        tenant_id,
        endpoint,
        [moment, moment],
    )


def read_history(connection: Connection, tenant_id: str | None = None, endpoint: str | None = None) -> list[RouteState]:
    """Every route that was ever active, oldest first within an endpoint."""
    return _read(connection, "TRUE", tenant_id, endpoint)


def must_read_current(connection: Connection, tenant_id: str, endpoint: str) -> RouteState:
    """The active route of one endpoint.

    Raises:
        NotFoundError: it has none.
    """
    found = read_current(connection, tenant_id, endpoint)
    if not found:
        raise NotFoundError(
            f"there is no active route for `{endpoint}` of tenant `{tenant_id}`",
            fix="Set one with `headrace routes set`, or apply a pipeline whose pipeline.yaml has routes.",
        )
    return found[0]


def change_route(
    connection: Connection,
    tenant_id: str,
    endpoint: str,
    strategy: str,
    members: Sequence[RouteMember],
    *,
    changed_by: str,
    reason: str,
    evidence: Mapping[str, Any] | None = None,
    expect_epoch: int | None = None,
) -> RouteState:
    """Make `members` the route of an endpoint, whole, under the next epoch, and return when it is active.

    Args:
        members: all that shall be active; every other member of the endpoint is retired with the same epoch.
        changed_by: who, e.g. `cli` or `rerank`.
        evidence: what it rests on, as JSON.
        expect_epoch: the epoch that was looked at when this was decided; None: whatever is there.

    Raises:
        ConflictError: the route is of another epoch by now, or somebody else wrote the same epoch first.
        InvalidInputError: no member serves.
    """
    if not any(member.weight > 0 and member.role != "shadow" for member in members):
        raise InvalidInputError("no member has a weight above 0 and a role other than shadow", fix="Somebody has to serve.")
    known, newest = _read_known(connection, tenant_id, endpoint)
    if expect_epoch is not None and newest != expect_epoch:
        raise _overtaken(tenant_id, endpoint, expect_epoch, newest)
    named = {(member.model, member.version) for member in members}
    retired = [member.retired() for member in known if (member.model, member.version) not in named]
    told = json.dumps([member.as_json() for member in (*members, *retired)], sort_keys=True)
    rests_on = json.dumps(evidence) if evidence is not None else None
    epoch, change_id = newest + 1, str(uuid4())
    connection.execute(
        "INSERT INTO route_changes (tenant_id, endpoint, epoch, strategy, members, changed_by, reason, change_id, evidence)"
        " VALUES (%s, %s, %s, %s, %s::JSONB, %s, %s, %s, %s::JSONB)",
        (tenant_id, endpoint, epoch, strategy, told, changed_by, reason, change_id, rests_on),
    )
    connection.execute("FLUSH")
    row = connection.execute(
        "SELECT change_id FROM route_changes WHERE tenant_id = %s AND endpoint = %s AND epoch = %s",
        (tenant_id, endpoint, epoch),
    ).fetchone()
    if row is None or row[0] != change_id:
        raise _overtaken(tenant_id, endpoint, newest, epoch)
    return must_read_current(connection, tenant_id, endpoint)


# -- below: called by the above


SERVED_COLUMNS: LiteralString = (
    "tenant_id, endpoint, route_epoch, route, served_from, served_until, changed_by, reason, evidence"
)


def _read(
    connection: Connection,
    condition: LiteralString,
    tenant_id: str | None,
    endpoint: str | None,
    parameters: Sequence[object] = (),
) -> list[RouteState]:
    query: LiteralString = f"SELECT {SERVED_COLUMNS} FROM served_routes WHERE {condition}"
    values = [*parameters]
    if tenant_id is not None:
        query, values = query + " AND tenant_id = %s", [*values, tenant_id]
    if endpoint is not None:
        query, values = query + " AND endpoint = %s", [*values, endpoint]
    rows = connection.execute(query + " ORDER BY tenant_id, endpoint, route_epoch", values).fetchall()
    return [state_of(row) for row in rows]


def state_of(row: tuple[Any, ...]) -> RouteState:
    """A row of `served_routes`, its columns in the order in which they are read here; JSON as text or parsed."""
    tenant_id, endpoint, epoch, route, served_from, served_until, changed_by, reason, evidence = row
    document = json.loads(route) if isinstance(route, str) else route
    rests_on = json.loads(evidence) if isinstance(evidence, str) else evidence
    members = tuple(
        RouteMember(each["model"], each["version"], each["role"], float(each["weight"] or 0), each["fraction"])
        for each in document["members"]
    )
    return RouteState(
        tenant_id, endpoint, epoch, document["strategy"], members, served_from, served_until, changed_by, reason, rests_on
    )


def _read_known(connection: Connection, tenant_id: str, endpoint: str) -> tuple[list[RouteMember], int]:
    """Every member that the endpoint ever had, and its newest epoch (0: none yet)."""
    rows = connection.execute(
        "SELECT model, version, role, weight, fraction, epoch FROM routes WHERE tenant_id = %s AND endpoint = %s"
        " ORDER BY model, version",
        (tenant_id, endpoint),
    ).fetchall()
    written = connection.execute(
        "SELECT max(epoch) FROM route_changes WHERE tenant_id = %s AND endpoint = %s", (tenant_id, endpoint)
    ).fetchone()
    newest = max([*(row[5] or 0 for row in rows), (written[0] or 0) if written else 0])
    return [RouteMember(row[0], row[1], row[2] or "champion", row[3] or 0.0, row[4]) for row in rows], newest


def _overtaken(tenant_id: str, endpoint: str, expected: int, found: int) -> ConflictError:
    return ConflictError(
        f"the route of `{endpoint}` of tenant `{tenant_id}` was changed by somebody else: epoch `{expected}` was expected, it is `{found}`",
        fix="Look at it again with `headrace routes show`, and decide anew.",
    )
