"""Changes of a route that are checked before they are written: what `predict` could not follow never becomes a route."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from core.errors import InvalidInputError, NotFoundError
from pipelines.routing import Connection, RouteMember, RouteState, change_route, read_history
from udfs.route import ModelKey, RowError, parse_route
from udfs.sessions import ArtifactSource, load_model


def write_route(
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
    artifacts: ArtifactSource | None = None,
) -> RouteState:
    """Check a route as the router will, and write it as the next epoch.

    Args:
        evidence: what an automatic change rests on, as JSON.
        artifacts: where the models come from: each member is fetched, checked and run once before the route is written.
            None: the models are known to load, as those of an earlier epoch are.

    Raises:
        InvalidInputError: the router would refuse it, or a model cannot be served.
        ConflictError: somebody else changed it first.
    """
    ordered = sorted((each for each in members if each.is_active), key=lambda each: (each.model, each.version))
    route = parse_route(RouteState(tenant_id, endpoint, 0, strategy, tuple(ordered)).route_json())
    if isinstance(route, RowError):
        raise InvalidInputError(route.message.rstrip("."), where=f"{tenant_id}/{endpoint}")
    for member in ordered if artifacts is not None else ():
        assert artifacts is not None, "for mypy: the loop is empty without"
        load_model(ModelKey(member.model, member.version), artifacts)
    return change_route(
        connection,
        tenant_id,
        endpoint,
        strategy,
        ordered,
        changed_by=changed_by,
        reason=reason,
        evidence=evidence,
        expect_epoch=expect_epoch,
    )


def roll_back(
    connection: Connection,
    current: RouteState,
    *,
    changed_by: str,
    reason: str,
    to_epoch: int | None = None,
) -> RouteState:
    """Make an earlier route the newest one again.

    Args:
        to_epoch: default: the last one before `current` that differs from it; where `current` is a rollback itself, before the
            one that it went back to, so that rolling back twice goes back by two.

    Raises:
        NotFoundError: there is no such epoch.
    """
    history = read_history(connection, current.tenant_id, current.endpoint)
    earlier = [each for each in history if each.epoch < current.epoch]
    if to_epoch is None:
        start = (current.evidence or {}).get("back_to", current.epoch)
        different = [each for each in earlier if each.epoch < start and each.route_json() != current.route_json()]
        found = different[-1] if different else None
    else:
        found = next((each for each in earlier if each.epoch == to_epoch), None)
    if found is None:
        known = ", ".join(str(each.epoch) for each in earlier) or "none"
        raise NotFoundError(
            f"`{current.endpoint}` of tenant `{current.tenant_id}` has no earlier route to go back to",
            fix=f"Earlier epochs: {known}.",
        )
    return write_route(
        connection,
        current.tenant_id,
        current.endpoint,
        found.strategy,
        found.members,
        changed_by=changed_by,
        reason=f"{reason} (back to epoch {found.epoch})",
        evidence={"back_to": found.epoch},
        expect_epoch=current.epoch,
    )


def with_member(state: RouteState, member: RouteMember) -> list[RouteMember]:
    """The members of a route with one added or replaced."""
    return [each for each in state.members if each.name != member.name] + [member]


def promoted(state: RouteState, challenger: RouteMember) -> list[RouteMember]:
    """The challenger serves alone, with the shadows as they are; who served before is retired."""
    shadows = [each for each in state.members if each.role == "shadow" and each.name != challenger.name]
    return [replace(challenger, role="champion", weight=1.0, fraction=None), *shadows]


def serving_models(state: RouteState) -> frozenset[str]:
    """Names of the members that may decide an answer."""
    return frozenset(member.name for member in state.serving)
