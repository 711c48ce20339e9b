"""One look at an endpoint, one decision at most: guards first, then the ramp, the duel, and the weights.

Everything that is decided on is an argument, so the same situation gives the same decision, and a simulation is a test.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from learning.routing.changes import promoted, serving_models, with_member
from learning.routing.evidence import Row, Window, scored, windows
from learning.routing.guards import Alarm, Latency, judge
from learning.routing.policy import Duel, Guards, Policy, Ramp
from learning.routing.policy import Rerank as RerankSettings
from learning.routing.rerank import rerank
from learning.routing.sequential import Pairs, advantage_e_value
from pipelines.routing import RouteMember, RouteState

RERANK, RAMP, DUEL, GUARD = "rerank", "ramp", "duel", "guard"
"""What stands in `changed_by` of automatic changes."""

_WEIGHTED = ("ensemble_mean", "ensemble_vote", "choice")


@dataclass(frozen=True)
class Situation:
    """What is known when a decision is taken.

    Attributes:
        history: every route so far, oldest first; the last one is active.
        rows: of `member_scores`.
        latencies: by model, where the UDF server told.
        duels: the champion against each challenger, on the same rows; `better` counts for the challenger.
        now: for the ramp's holding time.
    """

    policy: Policy
    history: Sequence[RouteState]
    rows: Sequence[Row]
    now: datetime
    latencies: Mapping[str, Latency] = field(default_factory=dict)
    duels: Mapping[str, Pairs] = field(default_factory=dict)

    @property
    def current(self) -> RouteState:
        return self.history[-1]

    @property
    def base(self) -> RouteState:
        """The newest route that is not the re-ranker's."""
        return next(each for each in reversed(self.history) if each.changed_by != RERANK or each is self.history[0])

    def joined(self, member: str) -> int:
        """Position in the history from which on the member serves without a break."""
        position = len(self.history) - 1
        while position > 0 and member in serving_models(self.history[position - 1]):
            position -= 1
        return position


@dataclass(frozen=True)
class Decision:
    """A new route, or (without members) a warning that there is none to go to.

    Attributes:
        by: one of RERANK, RAMP, DUEL, GUARD.
    """

    by: str
    reason: str
    strategy: str = ""
    members: tuple[RouteMember, ...] = ()
    evidence: Mapping[str, Any] = field(default_factory=dict)


def decide(situation: Situation) -> Decision | None:
    """What to do now, if anything."""
    policy = situation.policy
    if policy.guards is not None and (found := _guard(situation, policy.guards)) is not None:
        return found
    if policy.ramp is not None and (found := _ramp(situation, policy.ramp)) is not None:
        return found
    if policy.duel is not None and (found := _duel(situation, policy.duel)) is not None:
        return found
    return _rerank(situation, policy.rerank) if policy.rerank is not None else None


# -- guards


def _guard(situation: Situation, settings: Guards) -> Decision | None:
    current = situation.current
    judged = [m for m in current.serving if m.role == "challenger"] if current.strategy == "canary" else list(current.serving)
    for member in judged:
        alarm = _judge(situation, member.name, settings)
        if alarm is not None:
            return _answer(situation, alarm)
    return None


def _judge(situation: Situation, member: str, settings: Guards) -> Alarm | None:
    policy, position = situation.policy, situation.joined(member)
    epoch = situation.history[position].epoch if position else 0
    since = windows(situation.rows, policy.window, from_epoch=epoch)
    before = windows([row for row in situation.rows if row.epoch < epoch], policy.window)
    predecessors = sorted(serving_models(situation.history[position - 1])) if position else []
    return judge(
        member,
        [each.name for each in situation.current.serving if each.name != member],
        since,
        scored(since, policy.least_coverage),
        scored(before, policy.least_coverage),
        situation.latencies,
        settings,
        predecessors,
    )


def _answer(situation: Situation, alarm: Alarm) -> Decision:
    """Back to the route before, if the last change brought the member; else without it."""
    current, position = situation.current, situation.joined(alarm.member)
    evidence = {"alarm": alarm.kind, "member": alarm.member, "evidence": min(alarm.evidence, 1e12), "message": alarm.message}
    if position > 0 and situation.history[position].epoch == situation.base.epoch:
        before = situation.history[position - 1]
        reason = f"rolled back to epoch {before.epoch}: {alarm.message}"
        return Decision(GUARD, reason, before.strategy, before.members, evidence)
    rest = tuple(each for each in current.members if each.name != alarm.member)
    if any(each.role != "shadow" and (current.strategy != "canary" or each.role == "champion") for each in rest):
        return Decision(GUARD, f"taken out: {alarm.message}", current.strategy, rest, evidence)
    return Decision(GUARD, f"nobody else serves, nothing was changed: {alarm.message}", evidence=evidence)


# -- ramp and duel


def _ramp(situation: Situation, settings: Ramp) -> Decision | None:
    current = situation.current
    challenger = next((each for each in current.members if each.name == settings.model and each.role == "challenger"), None)
    if challenger is None or current.strategy != "canary":
        return None
    answers = sum(row.asked for row in situation.rows if row.model == challenger.name and row.epoch == current.epoch)
    held = (situation.now - (current.served_from or situation.now)).total_seconds()
    if answers < settings.least_answers or held < settings.hold_seconds:
        return None
    share = challenger.fraction or 0.0
    following = next((step for step in settings.steps if step > share + 1e-9), None)
    evidence = {"model": challenger.name, "answers": answers, "held_seconds": held, "from": share, "to": following}
    if following is None:
        members = tuple(promoted(current, challenger))
        return Decision(RAMP, f"{challenger.name} held {share:.0%} and takes over", "blue_green", members, evidence)
    members = tuple(with_member(current, replace(challenger, fraction=following)))
    return Decision(RAMP, f"{challenger.name} held {share:.0%}, now {following:.0%}", current.strategy, members, evidence)


def _duel(situation: Situation, settings: Duel) -> Decision | None:
    current = situation.current
    champion = max((each for each in current.serving if each.role == "champion"), key=lambda each: each.weight, default=None)
    rivals = {name: pairs for name, pairs in situation.duels.items() if champion is not None and name != champion.name}
    for name, pairs in sorted(rivals.items()):
        evidence = advantage_e_value(pairs, settings.least_advantage)
        member = next((each for each in current.members if each.name == name), None)
        if member is None or evidence < len(rivals) / settings.alpha:  # several challengers share one alpha
            continue
        told = {
            "model": name, "e_value": min(evidence, 1e12), "better": pairs.better, "worse": pairs.worse, "ties": pairs.ties,
        }  # fmt: skip
        reason = f"{name} is right more often by {pairs.advantage:.1%} on {pairs.total} rows (e-value {evidence:.3g})"
        ramp = situation.policy.ramp
        if ramp is not None and ramp.model == name:
            first = replace(member, role="challenger", weight=1.0, fraction=ramp.steps[0])
            return Decision(DUEL, f"{reason}: a canary begins", "canary", tuple(with_member(current, first)), told)
        return Decision(DUEL, f"{reason}: it takes over", "blue_green", tuple(promoted(current, member)), told)
    return None


# -- weights


def _rerank(situation: Situation, settings: RerankSettings) -> Decision | None:
    current, base = situation.current, situation.base
    if current.strategy not in _WEIGHTED or len(current.serving) < 2:
        return None
    found = scored(windows(situation.rows, situation.policy.window), situation.policy.least_coverage)
    last = current.evidence if current.changed_by == RERANK and current.evidence is not None else None
    if not found or (last is not None and found[-1].start <= _moment(last["window"])):
        return None  # a window moves the weights once
    outcome = rerank(_shares(current), _shares(base), found, settings, last["moved"] if last is not None else None)
    if outcome is None:
        return None
    members = tuple(
        replace(each, weight=round(outcome.shares[each.name], 6)) if each.name in outcome.shares else each
        for each in current.members
    )
    return Decision(RERANK, _told(outcome.moved, found[-1]), current.strategy, members, {
        "window": found[-1].start.isoformat(),
        "moved": {name: round(move, 6) for name, move in outcome.moved.items()},
        "scores": {name: {"accuracy": score, "labelled": n} for name, (score, n) in outcome.scores.items()},
    })  # fmt: skip


def _shares(state: RouteState) -> dict[str, float]:
    total = sum(each.weight for each in state.serving)
    return {each.name: each.weight / total for each in state.serving}


def _told(moved: Mapping[str, float], window: Window) -> str:
    moves = ", ".join(f"{name} {move:+.3f}" for name, move in sorted(moved.items()) if abs(move) > 5e-4)
    return f"window {window.start.astimezone(UTC).isoformat()}: {moves}"


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
