"""Replays routing decisions: the route of the row's epoch and the row's key must ask the same members with the same weights.

The log is there already: each prediction carries `route_epoch`, the key and `members`, and `route_history` has the route of each
epoch as `predict` got it. Which members could not be loaded at that time is part of `members` too, so the decision has no
input that is not in the log.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from udfs.route import RowError, parse_route
from udfs.router import asked_members

UNAVAILABLE = ("model_not_found", "model_rejected")
"""Codes of members that could not be loaded; they are told in each row of a call."""


@dataclass(frozen=True)
class Decision:
    """A logged decision.

    Attributes:
        members: the logged ones, parsed; None where the row was refused before anybody was asked.
    """

    prediction_id: str
    epoch: int | None
    key: str | None
    members: Sequence[Mapping[str, Any]] | None


@dataclass(frozen=True)
class Difference:
    """A decision that comes out otherwise."""

    prediction_id: str
    epoch: int | None
    logged: tuple[tuple[str, float], ...]
    replayed: tuple[tuple[str, float], ...]
    reason: str


def replay(decisions: Iterable[Decision], routes: Mapping[int, str]) -> list[Difference]:
    """Decide again and compare: who was asked, and with which effective weight.

    Args:
        decisions: of one tenant's endpoint.
        routes: the route as JSON by epoch.
    """
    groups: dict[tuple[int | None, frozenset[str]], list[Decision]] = defaultdict(list)
    for decision in decisions:
        if decision.members is not None:
            groups[decision.epoch, _unavailable(decision.members)].append(decision)
    found: list[Difference] = []
    for (epoch, missing), group in groups.items():
        text = routes.get(epoch) if epoch is not None else None
        route = parse_route(text) if text is not None else RowError("no_route", "The history has no route of this epoch.")
        if isinstance(route, RowError):
            found += [Difference(each.prediction_id, epoch, _logged(each), (), route.message) for each in group]
            continue
        available = frozenset(i for i, member in enumerate(route.members) if str(member.key) not in missing)
        asked = asked_members(route, available, pa.array([each.key for each in group], pa.string()))
        for each, row in zip(group, asked.tolist(), strict=True):
            chosen = [member for member, is_asked in zip(route.members, row, strict=True) if is_asked]
            failed = _failed(each.members or ())
            total = sum(member.weight for member in chosen if str(member.key) not in failed)
            replayed = tuple(
                (str(member.key), 0.0 if str(member.key) in failed else member.weight / total) for member in chosen
            )
            logged = _logged(each)
            if replayed != logged:
                found.append(Difference(each.prediction_id, epoch, logged, replayed, "other members or weights"))
    return found


def parse_members(value: object) -> list[Mapping[str, Any]] | None:
    """`members` as a database or the lake gives it: JSON text, or parsed."""
    if value is None:
        return None
    parsed = json.loads(value) if isinstance(value, str | bytes) else value
    return list(parsed) if isinstance(parsed, list) else None


def _name(member: Mapping[str, Any]) -> str:
    return f"{member['model']}@{member['version']}"


def _unavailable(members: Sequence[Mapping[str, Any]]) -> frozenset[str]:
    return frozenset(_name(each) for each in members if (each.get("error") or {}).get("code") in UNAVAILABLE)


def _failed(members: Sequence[Mapping[str, Any]]) -> frozenset[str]:
    return frozenset(_name(each) for each in members if each.get("error"))


def _logged(decision: Decision) -> tuple[tuple[str, float], ...]:
    missing = _unavailable(decision.members or ())
    return tuple(
        (_name(each), float(each["weight"]))
        for each in decision.members or ()
        if _name(each) not in missing and each.get("role") != "shadow"
    )
