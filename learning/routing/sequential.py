"""Tests that stay valid however often one looks: e-values of sums.

Each is the wealth of a gambler who starts with 1 and bets against the null hypothesis; under it the wealth is a nonnegative
supermartingale, so it ever reaches 1/alpha with a probability of at most alpha (Ville, 1939), whenever one stops. The stake
is spread evenly over a grid of betting fractions, each kept for ever ("diversified Kelly"), so that the wealth depends on
sums alone: a process that starts anew finds it where it was.

For a change that comes later, the largest wealth over all times at which the betting may have begun is an e-detector: its
false alarms are at least 1/alpha looks apart on average.

Sources: Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", JRSS B 86, 2024; Howard, Ramdas,
McAuliffe and Sekhon, "Time-uniform, nonparametric, nonasymptotic confidence sequences", Annals of Statistics 49, 2021; Shin,
Ramdas and Rinaldo, "E-detectors", NEJSDS 2, 2024. The library `confseq` has these, but no wheels, and asks for all outcomes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

_FRACTIONS = tuple((i + 0.5) / 20 for i in range(20))
"""Betting fractions of the largest that cannot ruin, spread evenly."""


@dataclass(frozen=True)
class Pairs:
    """Two models on the same rows, or on rows that were paired by lot.

    Attributes:
        better: the first was right and the other wrong.
        worse: the other way round.
        ties: both right or both wrong.
    """

    better: int = 0
    worse: int = 0
    ties: int = 0

    @property
    def total(self) -> int:
        return self.better + self.worse + self.ties

    @property
    def advantage(self) -> float:
        """By how much the first is more often right; 0 without a pair."""
        return (self.better - self.worse) / self.total if self.total else 0.0

    def __add__(self, other: Pairs) -> Pairs:
        return Pairs(self.better + other.better, self.worse + other.worse, self.ties + other.ties)


def advantage_e_value(pairs: Pairs, least: float = 0.0) -> float:
    """Evidence that the first model is right more often than the other by more than `least` (0 <= least < 1).

    Null hypothesis: given the past, the expected difference of a pair is at most `least`.
    """
    top = 1.0 / (1.0 + least)
    wealths = []
    for fraction in _FRACTIONS:
        bet = fraction * top
        wealths.append(
            pairs.better * math.log1p(bet * (1.0 - least))
            + pairs.worse * math.log1p(-bet * (1.0 + least))
            + pairs.ties * math.log1p(-bet * least)
        )
    return _mean_exp(wealths)


def rate_e_value(events: int, trials: int, highest: float) -> float:
    """Evidence that events are more frequent than `highest` (0 < highest < 1).

    Null hypothesis: given the past, the probability of an event is at most `highest`.
    """
    wealths = []
    for fraction in _FRACTIONS:
        bet = fraction / highest
        wealths.append(
            events * math.log1p(bet * (1.0 - highest)) + (trials - events) * math.log1p(-bet * highest * (1.0 - 1e-9))
        )
    return _mean_exp(wealths)


def detect(parts: Sequence[Pairs], e_value: Callable[[Pairs], float]) -> float:
    """The e-detector over windows: the largest e-value of all sums that end at the last window."""
    best, total = 0.0, Pairs()
    for part in reversed(parts):
        total = total + part
        best = max(best, e_value(total))
    return best


def paired_by_lot(first: tuple[int, int], second: tuple[int, int], *, seed: int) -> Pairs:
    """Pair the outcomes of two groups of rows, each (right, labelled), by lot; what is left over is not used.

    Within a window rows of a group are exchangeable, so that the lot may be drawn from the counts: which of the larger
    group are taken, and who meets whom. The seed belongs to the window, not to what was seen.
    """
    n = min(first[1], second[1])
    if not n:
        return Pairs()
    lot = np.random.default_rng(seed)
    right = [int(lot.hypergeometric(group[0], group[1] - group[0], n)) if group[1] else 0 for group in (first, second)]
    both = int(lot.hypergeometric(right[0], n - right[0], right[1]))
    better, worse = right[0] - both, right[1] - both
    return Pairs(better, worse, n - better - worse)


def _mean_exp(logs: Sequence[float]) -> float:
    largest = max(logs)
    return math.exp(min(largest + math.log(sum(math.exp(each - largest) for each in logs) / len(logs)), 700.0))
