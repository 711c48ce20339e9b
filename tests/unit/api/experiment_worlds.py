"""Simulated experiments, many side by side: units come, are dealt as in production, convert after a delay, and are looked at
every minute."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from api.experiments.allocation import Strategy, propensities
from api.experiments.evidence import Evidence
from api.experiments.posterior import draw

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class World:
    """What is simulated.

    Attributes:
        rates: the true conversion rate of each variant.
        drift: how far the rate of all variants together moves up and down over the minutes, as a share of it.
        mean_delay_minutes: of conversions, exponential; 0 for none.
        window_minutes: after it an outcome is final, and a conversion comes too late.
    """

    rates: tuple[float, ...]
    minutes: int
    units_a_minute: int
    strategy: Strategy
    drift: float = 0.0
    mean_delay_minutes: float = 0.0
    window_minutes: int = 0


@dataclass(frozen=True)
class Seen:
    """What was found: `winner` int64[experiments], -1 for none; `shares` float64[experiments, variants] of the units."""

    winner: npt.NDArray[np.int64]
    shares: Float64


def simulate(world: World, experiments: int, seed: int) -> Seen:
    """Run experiments side by side; each is looked at every minute, and the first verdict counts."""
    rng = np.random.default_rng(seed)
    variants, size = len(world.rates), world.units_a_minute
    weights = np.ones(variants)
    evidence = Evidence.start(variants, (experiments,))
    verdict = np.full(experiments, -1)
    rows = np.arange(experiments)[:, None]
    minutes: list[tuple[npt.NDArray[np.int64], Float64, Float64]] = []  # variant, minute of conversion, propensities
    for minute in range(world.minutes + world.window_minutes + 1):
        if minute < world.minutes:
            successes, trials = _counts(minutes, minute, world, experiments)
            chances = propensities(world.strategy, successes, trials, weights)
            if world.strategy == "thompson_sampling":
                seen = draw(np.repeat(successes[:, None], size, 1), np.repeat(trials[:, None], size, 1), rng)
            else:
                seen = (rng.random((experiments, size, 1)) > np.cumsum(chances, -1)[:, None, :-1]).sum(-1)
            moved = 1.0 + world.drift * np.sin(minute / 7.0)
            converts = rng.random((experiments, size)) < np.array(world.rates)[seen] * moved
            delay = rng.exponential(world.mean_delay_minutes, (experiments, size)) if world.mean_delay_minutes else 0.0
            minutes.append((seen, np.where(converts, minute + delay, np.inf), chances))
        final = minute - world.window_minutes - (1 if world.window_minutes else 0)
        if 0 <= final < len(minutes):
            seen, at, chances = minutes[final]
            converted = at <= final + world.window_minutes
            evidence.fold(seen, converted, np.broadcast_to(chances[:, None], (experiments, size, variants)))
            verdict = np.where(verdict < 0, evidence.winner(), verdict)
    everyone = np.concatenate([seen for seen, _, _ in minutes], axis=1)
    shares = np.zeros((experiments, variants))
    np.add.at(shares, (rows, everyone), 1.0 / everyone.shape[1])
    return Seen(verdict, shares)


def _counts(
    minutes: list[tuple[npt.NDArray[np.int64], Float64, Float64]], now: int, world: World, experiments: int
) -> tuple[Float64, Float64]:
    """Conversions so far, and trials by how much of the window has passed, as `api.experiments.store.Counts` says."""
    variants = len(world.rates)
    successes, trials = np.zeros((experiments, variants)), np.zeros((experiments, variants))
    for minute, (seen, at, _) in enumerate(minutes):
        done = at <= now
        ripe = 1.0 if world.window_minutes == 0 else min(1.0, (now - minute) / world.window_minutes)
        for k in range(variants):
            mine = seen == k
            successes[:, k] += (mine & done).sum(axis=1)
            trials[:, k] += (mine & done).sum(axis=1) + ripe * (mine & ~done).sum(axis=1)
    return successes, trials


def regret(rates: tuple[float, ...], steps: int, runs: int, seed: int, *, fixed: bool = False) -> Float64:
    """Expected conversions lost by each step: float64[steps], the mean over runs; one unit a step, outcomes at once."""
    rng = np.random.default_rng(seed)
    truth = np.array(rates)
    successes, trials = np.zeros((runs, len(rates))), np.zeros((runs, len(rates)))
    lost = np.empty(steps)
    every = np.arange(runs)
    for step in range(steps):
        chosen = rng.integers(0, len(rates), runs) if fixed else draw(successes, trials, rng)
        successes[every, chosen] += rng.random(runs) < truth[chosen]
        trials[every, chosen] += 1.0
        lost[step] = (truth.max() - truth[chosen]).mean()
    return np.cumsum(lost)


def lai_robbins(rates: tuple[float, ...]) -> float:
    """The constant c of the lower bound: no consistent policy loses less than c ln(T) in the long run."""
    best = max(rates)

    def divergence(p: float, q: float) -> float:
        return float(p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q)))

    return sum((best - rate) / divergence(rate, best) for rate in rates if rate < best)
