"""A route as data: who serves a tenant's endpoint, read from the JSON that the stream database keeps.

{"strategy": "ensemble_mean",
 "members": [{"model": "plant_health", "version": 1, "role": "champion", "weight": 0.7, "fraction": null}, ...]}
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

ROLES = ("champion", "challenger", "shadow")
STRATEGIES = ("ensemble_mean", "ensemble_vote", "choice", "canary", "blue_green")


@dataclass(frozen=True)
class RowError:
    """Why one row has no prediction, or one member no answer: a stable code to group by, and a sentence for people."""

    code: str
    message: str

    def as_json(self) -> str:
        return json.dumps({"code": self.code, "message": self.message})


class RouteRefused(Exception):
    """A route cannot be followed; `error` is what its rows are answered with."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.error = RowError(code, message)


class ModelKey(NamedTuple):
    """An immutable model: its registered name and integer version."""

    model: str
    version: int

    def __str__(self) -> str:
        return f"{self.model}@{self.version}"


@dataclass(frozen=True)
class Member:
    """One model of a route. `weight` is relative; `fraction` is the share of traffic of a canary or shadow, 0 to 1."""

    key: ModelKey
    role: str
    weight: float
    fraction: float

    @property
    def is_shadow(self) -> bool:
        return self.role == "shadow"


@dataclass(frozen=True)
class Route:
    """A strategy and its members, in the order of the JSON; that order is also the order of summation."""

    strategy: str
    members: tuple[Member, ...]

    @property
    def serving(self) -> tuple[int, ...]:
        """Positions of the members that may decide an answer: not shadows, and with a weight."""
        return tuple(i for i, member in enumerate(self.members) if not member.is_shadow and member.weight > 0)


@lru_cache(maxsize=4096)
def parse_route(text: str) -> Route | RowError:
    """Read a route; what is wrong with it comes back as the typed error of every row that carries it."""
    try:
        return _parse(json.loads(text))
    except json.JSONDecodeError as problem:
        return RowError("invalid_route", f"The route is not JSON: {problem}.")
    except RouteRefused as problem:
        return problem.error


def _parse(document: Any) -> Route:  # Any: parsed JSON from outside, checked here field by field
    if not isinstance(document, dict):
        raise RouteRefused("invalid_route", f"The route is not a JSON object but `{_short(document)}`.")
    strategy = document.get("strategy")
    if strategy not in STRATEGIES:
        raise RouteRefused("unknown_strategy", f"Strategy `{_short(strategy)}` is none of {', '.join(STRATEGIES)}.")
    members = document.get("members")
    if not isinstance(members, list) or not members:
        raise RouteRefused("no_route", "The route has no members; insert a row into `routes` for this tenant and endpoint.")
    route = Route(strategy, tuple(_parse_member(member) for member in members))
    if not route.serving:
        raise RouteRefused("no_route", "No member of the route has a weight above 0 and a role other than shadow.")
    if len({member.key for member in route.members}) < len(route.members):
        raise RouteRefused("invalid_route", "The route names the same model and version twice.")
    _check_strategy(route)
    return route


def _check_strategy(route: Route) -> None:
    serving = [route.members[i] for i in route.serving]
    champions = [member for member in serving if member.role == "champion"]
    if route.strategy == "blue_green" and len(serving) != 1:
        names = ", ".join(str(member.key) for member in serving)
        raise RouteRefused("invalid_route", f"blue_green serves one member at a time, the route has {names}; set weights to 0.")
    if route.strategy == "canary":
        if not champions:
            raise RouteRefused("invalid_route", "canary needs a champion for the traffic outside the fractions.")
        if sum(member.fraction for member in serving if member.role == "challenger") > 1.0 + 1e-9:
            raise RouteRefused("invalid_route", "The fractions of the challengers add up to more than 1.")


def _parse_member(member: Any) -> Member:  # Any: as above
    if not isinstance(member, dict) or not isinstance(member.get("model"), str):
        raise RouteRefused("invalid_route", f"A member needs the text field `model`, got `{_short(member)}`.")
    version = member.get("version")
    if not isinstance(version, int) or isinstance(version, bool):
        raise RouteRefused("invalid_route", f"The version of `{member['model']}` must be an integer, got `{_short(version)}`.")
    role = member.get("role") or "champion"
    if role not in ROLES:
        raise RouteRefused(
            "invalid_route", f"The role of `{member['model']}` must be one of {', '.join(ROLES)}, got `{_short(role)}`."
        )
    weight = _number(member, "weight", default=0.0, highest=math.inf)
    fraction = _number(member, "fraction", default=1.0 if role == "shadow" else 0.0, highest=1.0)
    return Member(ModelKey(member["model"], version), role, weight, fraction)


def _number(member: dict[str, Any], field: str, *, default: float, highest: float) -> float:
    value = member.get(field)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not (0 <= value <= highest) or math.isinf(value):
        raise RouteRefused(
            "invalid_route", f"The {field} of `{member['model']}` must be a number of at least 0, got `{_short(value)}`."
        )
    return float(value)


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
