"""Endpoints in a simulation: rows with known accuracies, labels with known delays, and the control loop's decisions applied."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import numpy as np

from learning.routing.control import Decision, Situation, decide
from learning.routing.evidence import Row
from learning.routing.guards import Latency
from learning.routing.policy import Policy
from learning.routing.sequential import Pairs
from pipelines.routing import RouteMember, RouteState

START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class World:
    """One endpoint. Every row is asked of every serving member and shadow; half of the labels are `yes`.

    Attributes:
        accuracy: of a model in a window.
        error_rate: of a model in a window.
        labelled: the share of a window's rows that get a label.
    """

    seed: int
    policy: Policy
    members: tuple[RouteMember, ...]
    accuracy: Callable[[str, int], float]
    strategy: str = "ensemble_mean"
    error_rate: Callable[[str, int], float] = lambda _name, _window: 0.0
    labelled: float = 0.8
    rows_a_window: int = 100
    latencies: Mapping[str, Latency] = field(default_factory=dict)
    history: list[RouteState] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    duels: dict[str, Pairs] = field(default_factory=dict)
    window: int = 0
    decisions: list[tuple[int, Decision]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.lot = np.random.default_rng(self.seed)
        self.set_route(self.strategy, self.members, "cli")

    def set_route(self, strategy: str, members: tuple[RouteMember, ...], by: str, decision: Decision | None = None) -> None:
        epoch = len(self.history) + 1
        evidence = decision.evidence if decision is not None else None
        reason = decision.reason if decision is not None else "set"
        state = RouteState("acme", "e", epoch, strategy, members, self.now, None, by, reason, evidence)
        self.history.append(state)

    @property
    def now(self) -> datetime:
        return START + self.policy.window * self.window

    @property
    def current(self) -> RouteState:
        return self.history[-1]

    def shares(self) -> dict[str, float]:
        total = sum(each.weight for each in self.current.serving)
        return {each.name: each.weight / total for each in self.current.serving}

    def pass_window(self) -> Decision | None:
        """A window of rows, then one look, the next window having begun."""
        n = self.rows_a_window
        asked = self.current.members
        right_by_model: dict[str, np.ndarray] = {}
        with_label = self.lot.random(n) < self.labelled
        for member in asked:
            mine = np.ones(n, bool)
            if self.current.strategy == "canary":
                share = sum(m.fraction or 0.0 for m in asked if m.role == "challenger")
                inside = self.lot.random(n) < share
                mine = inside if member.role == "challenger" else ~inside
            failed = mine & (self.lot.random(n) < self.error_rate(member.name, self.window))
            right = self.lot.random(n) < self.accuracy(member.name, self.window)
            right_by_model[member.name] = right & ~failed
            truth = self.lot.random(n) < 0.5
            for answer in (True, False):
                said = mine & ~failed & ((truth == right) == answer)
                known = said & with_label
                self.rows.append(
                    Row(
                        member.name, self.now, self.current.epoch, "yes" if answer else "no",
                        int(said.sum()), int(said.sum()), 0, int(known.sum()), int((known & right).sum()),
                    )
                )  # fmt: skip
            lost = int(failed.sum())
            if lost:
                self.rows.append(Row(member.name, self.now, self.current.epoch, None, lost, 0, lost, 0, 0))
        self._duel(right_by_model, with_label)
        self.window += 1
        newest = [
            replace(each, minute=self.now, asked=0, answered=0, errors=0, labelled=0, correct=0) for each in self.rows[-1:]
        ]
        look = Situation(self.policy, self.history, [*self.rows, *newest], self.now, self.latencies, self.duels)
        decision = decide(look)
        assert decide(look) == decision, "the same situation gives the same decision"
        if decision is not None:
            self.decisions.append((self.window, decision))
            if decision.members:
                self.set_route(decision.strategy, decision.members, decision.by, decision)
        return decision

    def _duel(self, right: Mapping[str, np.ndarray], with_label: np.ndarray) -> None:
        champion = next((m.name for m in self.current.serving if m.role == "champion"), None)
        for member in self.current.members:
            if champion is None or member.role == "champion" or self.current.strategy == "canary":
                continue
            one, other = right[member.name][with_label], right[champion][with_label]
            pairs = Pairs(int((one & ~other).sum()), int((other & ~one).sum()), int((one == other).sum()))
            self.duels[member.name] = self.duels.get(member.name, Pairs()) + pairs
