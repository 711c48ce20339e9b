"""Which variant a unit gets: the chances of the variants, and a choice that is the same each time it is made.

    thompson_sampling   each variant with the probability that it is the best
    fixed_split         in proportion to the variants' weights, whatever the outcomes
    epsilon_greedy      90 % for the variant with the highest rate so far, 10 % for all alike

Everything random comes from a hash of experiment and unit: two processes that see the same counts choose alike, and a replay
repeats the choice.

Source: Agrawal and Goyal, "Near-optimal regret bounds for Thompson sampling", J. ACM 64 (2017).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import Literal

import numpy as np
import numpy.typing as npt

from api.experiments.posterior import draw, probability_best

Float64 = npt.NDArray[np.float64]
Strategy = Literal["thompson_sampling", "fixed_split", "epsilon_greedy"]

STRATEGIES: tuple[Strategy, ...] = ("thompson_sampling", "fixed_split", "epsilon_greedy")
EPSILON = 0.1


def propensities(strategy: Strategy, successes: Float64, trials: Float64, weights: Float64) -> Float64:
    """The chance of each variant now.

    Args:
        successes, trials: float64[..., variants]; see `api.experiments.store.Counts`.
        weights: float64[variants], above 0; only a fixed split heeds them.

    Returns:
        float64[..., variants], which adds up to 1.
    """
    return _CHANCES[strategy](successes, trials, weights)


def choose(strategy: Strategy, chances: Float64, successes: Float64, trials: Float64, *, experiment: str, unit: str) -> int:
    """The variant of one unit, drawn with `chances`."""
    if strategy == "thompson_sampling":  # by its own draw: the chances are what it is logged with
        return int(draw(successes, trials, np.random.default_rng(_bits(experiment, "variant", unit))))
    return int(np.searchsorted(np.cumsum(chances)[:-1], _uniform(experiment, "variant", unit), side="right"))


def takes_part(traffic_percentage: float, *, experiment: str, unit: str) -> bool:
    """Whether a unit is among the traffic of the experiment; one that is stays when the percentage rises."""
    return _uniform(experiment, "traffic", unit) * 100.0 < traffic_percentage


def _thompson(successes: Float64, trials: Float64, _weights: Float64) -> Float64:
    return probability_best(successes, trials)


def _fixed(successes: Float64, _trials: Float64, weights: Float64) -> Float64:
    shares: Float64 = np.broadcast_to(weights / weights.sum(), successes.shape)
    return shares


def _greedy(successes: Float64, trials: Float64, _weights: Float64) -> Float64:
    rates = (1.0 + successes) / (2.0 + trials)
    best = rates >= rates.max(axis=-1, keepdims=True)  # equals share
    chances: Float64 = EPSILON / rates.shape[-1] + (1 - EPSILON) * best / best.sum(axis=-1, keepdims=True)
    return chances


_CHANCES: Mapping[Strategy, Callable[[Float64, Float64, Float64], Float64]] = {
    "thompson_sampling": _thompson,
    "fixed_split": _fixed,
    "epsilon_greedy": _greedy,
}


def _uniform(experiment: str, purpose: str, unit: str) -> float:
    return (_bits(experiment, purpose, unit) >> 11) / 2.0**53


def _bits(experiment: str, purpose: str, unit: str) -> int:
    key = blake2b(f"{experiment}/{purpose}".encode(), digest_size=32).digest()
    return int.from_bytes(blake2b(unit.encode("utf-8", "surrogatepass"), digest_size=8, key=key).digest(), "big")
