"""Weights follow accuracy: a bounded step a window, a floor, and no turning round on noise.

    gap_m    = how much worse than the best member, less `sigmas` standard errors of the difference, at least 0
    target_m = base_m * exp(-gain * gap_m), normalised, at least `floor`
    new      = current + (target - current), scaled so that no share moves by more than `step`

The base is what a person, or a ramp, set last: when the differences go, the weights go back there. The form is that of
exponential weights (Freund and Schapire, JCSS 55, 1997), on accuracies instead of cumulative losses, so that old windows are
forgotten. A member at share `s` whose target is the floor gets there in ceil((s - floor) / step) windows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from learning.routing.evidence import Window, accuracy
from learning.routing.policy import Rerank

Shares = Mapping[str, float]
"""By `name@version`; they sum to 1."""


@dataclass(frozen=True)
class Reranked:
    """New shares and what they rest on: accuracy and labels by member, and by how much each share moved."""

    shares: Shares
    scores: Mapping[str, tuple[float, int]]
    moved: Shares


def rerank(
    current: Shares, base: Shares, scored: Sequence[Window], settings: Rerank, last_moved: Shares | None = None
) -> Reranked | None:
    """The next shares, or None where there is no reason to move.

    Args:
        current, base: of the members that serve.
        scored: windows with labels, oldest first; the newest one is looked at for the first time.
        last_moved: how the shares moved the last time, if they did since the base was set.
    """
    target = _target(current, base, scored, settings)
    if target is None:
        return None
    moves = {name: target[name] - current[name] for name in current}
    largest = max(abs(move) for move in moves.values())
    if largest < 1e-9:
        return None
    scale = min(1.0, settings.step / largest)
    shares = {name: current[name] + scale * moves[name] for name in current}
    floor = _floor(current, settings)
    arrives = any(shares[name] <= floor + 1e-9 < current[name] for name in current)
    if largest < settings.hysteresis and not arrives:
        return None
    if _turns_round(moves, last_moved or {}, settings):
        before = _target(current, base, scored[:-1], settings)
        if before is None or _turns_round(moves, {name: before[name] - current[name] for name in current}, settings):
            return None  # one window says so; the next one may take it back
    scores = {name: found for name in current if (found := accuracy(scored[-settings.windows :], name)) is not None}
    return Reranked(shares, scores, {name: shares[name] - current[name] for name in current})


def _target(current: Shares, base: Shares, scored: Sequence[Window], settings: Rerank) -> Shares | None:
    pool = scored[-settings.windows :]
    found = {name: score for name in current if (score := accuracy(pool, name)) and score[1] >= settings.least_labelled}
    if len(found) < 2:
        return None
    best = max(found, key=lambda name: found[name][0])
    wanted = {}
    for name, (own, labelled) in found.items():
        chance = settings.sigmas * math.hypot(_standard_error(own, labelled), _standard_error(*found[best]))
        gap = max(0.0, found[best][0] - own - chance) if name != best else 0.0
        wanted[name] = base.get(name, 0.0) * math.exp(-settings.gain * gap)
    mass = sum(current[name] for name in found)  # the others keep theirs
    total = sum(wanted.values())
    if not total:
        return None
    shares = {name: wanted[name] / total * mass if name in wanted else current[name] for name in current}
    return _raise_to(shares, _floor(current, settings))


def _floor(current: Shares, settings: Rerank) -> float:
    return min(settings.floor, 1.0 / len(current))


def _raise_to(shares: Shares, floor: float) -> Shares:
    """Shares of at least `floor`; who is above gives in proportion."""
    low: set[str] = set()
    while True:
        rest = {name: share for name, share in shares.items() if name not in low}
        total, left = sum(rest.values()), 1.0 - floor * len(low)
        result = {name: floor if name in low else rest[name] / total * left for name in shares}
        below = {name for name, share in result.items() if share < floor - 1e-12}
        if not below:
            return result
        low |= below


def _turns_round(moves: Shares, earlier: Shares, settings: Rerank) -> bool:
    return any(
        abs(move) >= settings.hysteresis and abs(earlier.get(name, 0.0)) > 1e-9 and move * earlier[name] < 0
        for name, move in moves.items()
    )


def _standard_error(score: float, labelled: int) -> float:
    smoothed = (score * labelled + 1.0) / (labelled + 2.0)  # not 0 where all are right
    return math.sqrt(smoothed * (1.0 - smoothed) / labelled)
