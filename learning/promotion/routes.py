"""What a decision changes in routes: the new version takes the place of the one that it replaces, and a rollback gives it back.

promote 2 over 1     {1: 0.7, 3: 0.3}  ->  {2: 0.7, 3: 0.3}      where both serve, the weights add up
promote 3 over 2     the same, where 2 never came to serve: routes that still have 1 get 3
roll back            the route from before the promotion, where that has 1 and nobody changed it since; else 1 takes the place of 2
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from iceberg.stages import StageChange
from learning.routing.changes import promoted
from pipelines.routing import RouteMember, RouteState


@dataclass(frozen=True)
class RouteChange:
    """A route that shall become another one."""

    current: RouteState
    strategy: str
    members: tuple[RouteMember, ...]


def replaced_versions(change: StageChange, history: Sequence[StageChange], carried_out: Container[str]) -> set[int]:
    """Versions whose place in routes a decision takes: those it replaced, and those that these never came to replace.

    A decision that no server was ready for, or that was overtaken while the stream database was away, changed no route, so
    routes still have what it replaced.

    Args:
        history: of the model's stages, oldest first.
        carried_out: decisions that did change the routes, by id.
    """
    found = set(change.detail.get("replaced", ()))
    for earlier in reversed(history):
        if not earlier.granted or earlier.to_stage != change.to_stage or earlier.sequence >= change.sequence:
            continue
        if earlier.version not in found or earlier.promotion_id in carried_out:
            break
        found |= set(earlier.detail.get("replaced", ()))
    return found - {change.version}


def wanted_changes(
    name: str, version: int, replaced: Collection[int], wishes: Mapping[str, Any], current: Iterable[RouteState]
) -> list[RouteChange]:
    """What has to be changed now; what is as it is wanted is left out.

    Args:
        name: the model.
        version: the one that came into the stage.
        replaced: wherever a route has one of these, the version takes its place.
        wishes: as `decisions.Wishes` writes them.
        current: the routes that are active now.
    """
    serve = {tuple(place) for place in wishes.get("serve") or ()}
    restore = {(each["tenant_id"], each["endpoint"]): each for each in wishes.get("restore") or ()}
    changes = []
    for state in current:
        place = (state.tenant_id, state.endpoint)
        strategy, members = state.strategy, state.members
        if place in serve:
            members = tuple(promoted(state, RouteMember(name, version)))
        elif place in restore and _leads_back(restore[place], state, name, version):
            strategy = restore[place]["strategy"]
            members = tuple(RouteMember(**each) for each in restore[place]["members"])
        else:
            for old in sorted(replaced):
                members = substituted(members, name, old, version)
        if (strategy, _ordered(members)) != (state.strategy, _ordered(state.members)):
            changes.append(RouteChange(state, strategy, members))
    return changes


def substituted(members: Sequence[RouteMember], name: str, old: int, new: int) -> tuple[RouteMember, ...]:
    """The members with version `new` in the place of `old`."""
    leaving = next((each for each in members if each.model == name and each.version == old), None)
    if leaving is None:
        return tuple(members)
    present = next((each for each in members if each.model == name and each.version == new), None)
    if present is None or present.role == "shadow":
        taken = replace(leaving, version=new)
    else:
        role = "champion" if "champion" in (leaving.role, present.role) else present.role
        taken = replace(
            present,
            role=role,
            weight=present.weight + leaving.weight,
            fraction=None if role == "champion" else present.fraction,
        )
    return (*(each for each in members if each is not leaving and each is not present), taken)


def as_before(state: RouteState) -> dict[str, Any]:
    """A route as a delivery keeps it, for a rollback."""
    return {
        "tenant_id": state.tenant_id,
        "endpoint": state.endpoint,
        "epoch": state.epoch,
        "strategy": state.strategy,
        "members": [each.as_json() for each in state.members],
    }


def _leads_back(before: Mapping[str, Any], state: RouteState, name: str, version: int) -> bool:
    """Whether the route directly follows one that has the version: else somebody changed it since, or who goes back goes further."""
    has = any((each["model"], each["version"]) == (name, version) for each in before["members"])
    return has and state.epoch == before["epoch"] + 1


def _ordered(members: Iterable[RouteMember]) -> list[RouteMember]:
    return sorted(members, key=lambda each: (each.model, each.version))
