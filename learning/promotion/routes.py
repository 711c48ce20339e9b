"""What a decision changes in routes: the new version takes the place of the one that it replaces, and a rollback gives it back.

promote 2 over 1     {1: 0.7, 3: 0.3}  ->  {2: 0.7, 3: 0.3}      where both serve, the weights add up
roll back            the route from before the promotion, where that is still known; else 1 takes the place of 2
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipelines.routing import RouteMember, RouteState


@dataclass(frozen=True)
class RouteChange:
    """A route that shall become another one."""

    current: RouteState
    strategy: str
    members: tuple[RouteMember, ...]

    @property
    def place(self) -> str:
        return f"{self.current.tenant_id}/{self.current.endpoint}"


def wanted_changes(name: str, version: int, wishes: Mapping[str, Any], current: Iterable[RouteState]) -> list[RouteChange]:
    """What has to be changed now; what is as it is wanted is left out.

    Args:
        name: the model.
        version: the one that came into the stage.
        wishes: as `decisions.Wishes` writes them.
        current: the routes that are active now.
    """
    serve = {tuple(place) for place in wishes.get("serve") or ()}
    restore = {(each["tenant_id"], each["endpoint"]): each for each in wishes.get("restore") or ()}
    old = (wishes.get("substitute") or (None,))[0]
    changes = []
    for state in current:
        place = (state.tenant_id, state.endpoint)
        strategy, members = state.strategy, state.members
        if place in serve:
            shadows = [each for each in members if each.role == "shadow" and each.name != f"{name}@{version}"]
            members = (RouteMember(name, version), *shadows)
        elif place in restore and any(each.model == name and each.version == old for each in members):
            strategy = restore[place]["strategy"]
            members = tuple(RouteMember(**each) for each in restore[place]["members"])
        elif old is not None:
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


def _ordered(members: Iterable[RouteMember]) -> list[RouteMember]:
    return sorted(members, key=lambda each: (each.model, each.version))
