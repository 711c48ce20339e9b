"""Shapley values of any model, by asking it: exactly where there are few features, else from random orders of the features.

The value of a coalition S is the mean answer over the background rows, with the features in S taken from the row that is
explained (the interventional value). One sample is a random order of the features and a background row: the features are taken
over one by one, in that order and in its reverse, and each gets by how much the answer moved. Background rows are dealt in rounds,
so that after whole rounds the contributions sum to the score less the base.

The model is asked `evaluations` times at most, and the order is drawn from a seed, so the same call gives the same answer.
`seconds` is a guard beyond that: when it strikes, fewer samples were taken, and the bounds are as much wider.

How far off it may be, for answers in [0, 1]:

    half_widths   95 % for each feature, by Student's t over the samples; good when there are some dozens
    bound         95 % for all features at once, whatever the model: the empirical Bernstein bound over samples in [-1, 1]

Source: Castro, Gomez and Tejada, "Polynomial calculation of the Shapley value based on sampling", 2009; Mitchell et al.,
"Sampling permutations for Shapley value estimation", JMLR 2022 (pairs of an order and its reverse); Maurer and Pontil, "Empirical
Bernstein bounds and sample variance penalization", COLT 2009, theorem 4.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import factorial
from typing import Literal

import numpy as np
import numpy.typing as npt

from core.clock import Clock

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

CONFIDENCE = 0.95
_ROWS_AT_ONCE = 4_096
_FEWEST_SAMPLES = 8  # whatever the budget: fewer say nothing about their spread


@dataclass(frozen=True)
class Budget:
    """How often the model may be asked about a row, and a guard in seconds."""

    evaluations: int = 4_096
    seconds: float = 1.0


@dataclass(frozen=True)
class Estimate:
    """Shapley values of one row.

    Attributes:
        base: the mean answer over the background.
        contributions: float64[n].
        half_widths: float64[n]; 0 where the values are exact.
        bound: for the largest error among all features.
        evaluations: how often the model was asked.
    """

    method: Literal["exact", "permutation"]
    base: float
    contributions: Float64
    half_widths: Float64
    bound: float
    evaluations: int


def sampled_shap(
    score: Callable[[Float32], Float64], row: Float32, background: Float32, *, budget: Budget, seed: int, clock: Clock
) -> Estimate:
    """Explain one row.

    Args:
        score: float32[rows, n] to float64[rows], in [0, 1].
        row: float32[n].
        background: float32[rows, n], at least one.
        seed: fixes the orders.
    """
    if len(background) << len(row) <= budget.evaluations:
        return _enumerated(score, row, background)
    return _Sampling(score, row, background, np.random.default_rng(seed)).run(budget, clock)


def _enumerated(score: Callable[[Float32], Float64], row: Float32, background: Float32) -> Estimate:
    """All coalitions: bit j of a coalition's number says that feature j is taken from the row."""
    n = len(row)
    coalitions = np.arange(1 << n)
    members = (coalitions[:, None] >> np.arange(n)) & 1 == 1
    mixed = np.where(members[:, None, :], row, background).astype(np.float32)
    values = _in_parts(score, mixed.reshape(-1, n)).reshape(len(coalitions), len(background)).mean(axis=1)
    sizes = members.sum(axis=1)
    weights = np.array([factorial(s) * factorial(n - 1 - s) / factorial(n) for s in range(n)])
    contributions = np.empty(n)
    for j in range(n):
        without = coalitions[~members[:, j]]
        contributions[j] = weights[sizes[without]] @ (values[without | 1 << j] - values[without])
    return Estimate("exact", float(values[0]), contributions, np.zeros(n), 0.0, mixed.shape[0] * mixed.shape[1])


class _Sampling:
    """Samples for one row; grows until the budget ends."""

    def __init__(
        self, score: Callable[[Float32], Float64], row: Float32, background: Float32, random: np.random.Generator
    ) -> None:
        self._score, self._row, self._background, self._random = score, row, background, random
        self._waiting: list[int] = []  # background rows of this round that are still to come

    def run(self, budget: Budget, clock: Clock) -> Estimate:
        n = len(self._row)
        end = clock.monotonic_seconds() + budget.seconds
        base = float(_in_parts(self._score, self._background).mean())
        wanted = max((budget.evaluations - len(self._background)) // (2 * n), _FEWEST_SAMPLES)
        rounds = wanted // len(self._background)
        wanted = rounds * len(self._background) if rounds else wanted
        found: list[Float64] = []
        taken = 0
        while taken < wanted and (taken < _FEWEST_SAMPLES or clock.monotonic_seconds() < end):
            part = min(wanted - taken, max(_FEWEST_SAMPLES, _ROWS_AT_ONCE // (2 * n)))
            found.append(self._samples(part))
            taken += part
        samples = np.concatenate(found)
        deviations = samples.std(axis=0, ddof=1)
        from scipy.special import stdtrit  # here, because it takes a third of a second that a server's start need not wait for

        quantile = float(stdtrit(taken - 1, (1 + CONFIDENCE) / 2))
        half_widths = quantile * deviations / np.sqrt(taken)
        return Estimate(
            "permutation",
            base,
            samples.mean(axis=0),
            half_widths,
            _bernstein(deviations, taken, n),
            len(self._background) + taken * 2 * n,
        )

    def _samples(self, count: int) -> Float64:
        """float64[count, n]: each the mean over an order and its reverse."""
        n = len(self._row)
        orders = self._random.permuted(np.tile(np.arange(n), (count, 1)), axis=1)
        ranks = orders.argsort(axis=1)  # when a feature is taken over
        steps = np.arange(n + 1)
        forward = ranks[:, None, :] < steps[:, None]  # [count, n + 1, n]
        backward = ranks[:, None, :] >= n - steps[1:-1, None]  # without both ends, which are the same
        members = np.concatenate([forward, backward], axis=1)
        rest = self._background[[self._deal() for _ in range(count)]]
        mixed = np.where(members, self._row, rest[:, None, :]).astype(np.float32)
        answers = _in_parts(self._score, mixed.reshape(-1, n)).reshape(count, 2 * n)
        there = np.diff(answers[:, : n + 1], axis=1)
        back = np.diff(np.column_stack([answers[:, 0], answers[:, n + 1 :], answers[:, n]]), axis=1)
        rows = np.arange(count)[:, None]
        moved = np.empty((count, n))
        moved[rows, orders] = there
        moved[rows, orders[:, ::-1]] += back
        return moved / 2.0

    def _deal(self) -> int:
        if not self._waiting:
            self._waiting = self._random.permutation(len(self._background)).tolist()
        return self._waiting.pop()


def _bernstein(deviations: Float64, samples: int, n: int) -> float:
    """Half-width that all n means keep with `CONFIDENCE`, for samples in an interval of length 2."""
    logarithm = np.log(4.0 * n / (1.0 - CONFIDENCE))  # two sides, n features
    spread = np.sqrt(2.0 * deviations.max() ** 2 * logarithm / samples)
    return float(min(2.0, spread + 2.0 * 7.0 * logarithm / (3.0 * (samples - 1))))


def _in_parts(score: Callable[[Float32], Float64], rows: Float32) -> Float64:
    parts = [score(np.ascontiguousarray(rows[start : start + _ROWS_AT_ONCE])) for start in range(0, len(rows), _ROWS_AT_ONCE)]
    return np.concatenate(parts)
