"""Guards: whether a member that serves has to go, by errors, latency or quality.

Errors and quality are e-detectors over windows (`sequential`). Quality is compared with the best other member in the same
windows; where a member serves alone, with those that served before it, in their own windows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from learning.routing.evidence import Window, accuracy
from learning.routing.policy import Guards
from learning.routing.sequential import Pairs, advantage_e_value, detect, paired_by_lot, rate_e_value


@dataclass(frozen=True)
class Latency:
    """How long calls of one model took lately."""

    calls: int
    p99_ms: float


@dataclass(frozen=True)
class Alarm:
    """Why a member has to go; `evidence` is an e-value, or the ratio of latencies."""

    member: str
    kind: str
    evidence: float
    message: str


def judge(
    member: str,
    others: Sequence[str],
    found: Sequence[Window],
    scored: Sequence[Window],
    before: Sequence[Window],
    latencies: Mapping[str, Latency],
    settings: Guards,
    predecessors: Sequence[str] = (),
) -> Alarm | None:
    """Judge one member.

    Args:
        others: members that serve beside it.
        found: windows since it serves.
        scored: those of them with labels.
        before: windows with labels before it served.
        latencies: by model.
        predecessors: who served in `before`.
    """
    return (
        _errors(member, found, settings)
        or _quality(member, others, scored, before, predecessors, settings)
        or _latency(member, others or predecessors, latencies, settings)
    )


def _errors(member: str, found: Sequence[Window], settings: Guards) -> Alarm | None:
    highest = settings.error_rate
    if highest is None:
        return None
    parts = [Pairs(each.errors, 0, each.asked - each.errors) for window in found if (each := window.models.get(member))]
    evidence = detect(parts, lambda sums: rate_e_value(sums.better, sums.total, highest))
    if evidence < 1.0 / settings.alpha:
        return None
    errors, asked = sum(each.better for each in parts), sum(each.total for each in parts)
    return Alarm(member, "errors", evidence, f"{member} failed on {errors} of {asked} rows, {highest:.1%} is allowed")


def _quality(
    member: str,
    others: Sequence[str],
    scored: Sequence[Window],
    before: Sequence[Window],
    predecessors: Sequence[str],
    settings: Guards,
) -> Alarm | None:
    drop = settings.quality_drop
    own = accuracy(scored, member)
    if drop is None or own is None:
        return None
    beside = {name: score for name in others if (score := accuracy(scored, name)) is not None}
    if beside:
        best = max(beside, key=lambda name: beside[name][0])
        evidence = detect(_pairs(best, member, scored), partial(advantage_e_value, least=drop))
        return _quality_alarm(member, best, own[0], beside[best][0], evidence, settings)
    earlier = {name: score for name in predecessors if (score := accuracy(before, name)) is not None}
    if not earlier:
        return None
    best = max(earlier, key=lambda name: earlier[name][0])
    reference, labelled = earlier[best]
    doubt = 2.0 * math.sqrt(max(reference * (1 - reference), 1.0 / labelled) / labelled)
    wrong_at_most = min(0.999, max(0.001, 1.0 - reference + drop + doubt))
    parts = [Pairs(m.labelled - m.correct, 0, m.correct) for window in scored if (m := window.models.get(member))]
    evidence = detect(parts, lambda sums: rate_e_value(sums.better, sums.total, wrong_at_most))
    return _quality_alarm(member, best, own[0], reference, evidence, settings)


def _quality_alarm(member: str, best: str, own: float, reference: float, evidence: float, settings: Guards) -> Alarm | None:
    if evidence < 1.0 / settings.alpha:
        return None
    return Alarm(member, "quality", evidence, f"{member} is right in {own:.1%}, {best} in {reference:.1%}")


def _pairs(first: str, second: str, scored: Sequence[Window]) -> list[Pairs]:
    found = []
    for window in scored:
        one, other = window.models.get(first), window.models.get(second)
        if one is not None and other is not None:
            seed = int(window.start.timestamp())
            found.append(paired_by_lot((one.correct, one.labelled), (other.correct, other.labelled), seed=seed))
    return found


def _latency(member: str, others: Sequence[str], latencies: Mapping[str, Latency], settings: Guards) -> Alarm | None:
    own = latencies.get(member)
    enough = [latencies[name] for name in others if name in latencies and latencies[name].calls >= settings.least_calls]
    if settings.latency_ratio is None or own is None or own.calls < settings.least_calls or not enough:
        return None
    reference = min(each.p99_ms for each in enough)
    if own.p99_ms <= max(settings.latency_ms, settings.latency_ratio * reference):
        return None
    ratio = own.p99_ms / reference if reference else math.inf
    return Alarm(
        member, "latency", ratio, f"{member} has a p99 of {own.p99_ms:.1f} ms, the fastest beside it {reference:.1f} ms"
    )
