"""Statistics of two models on the same rows: what differs, and whether that can be chance.

McNemar's exact test asks whether the rows that only one of them gets right are split evenly. Rows of one entity are no independent
draws, so the interval of the difference is a bootstrap over entities, not over rows.

Source: McNemar, Psychometrika 12 (1947); Efron and Tibshirani, "An Introduction to the Bootstrap", chapter 13.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

RESAMPLES = 2000
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class PairedTest:
    """`only_a` rows are right by the first model alone, `only_b` by the second; the interval is of accuracy b - a."""

    rows: int
    entities: int
    accuracy_a: float
    accuracy_b: float
    only_a: int
    only_b: int
    p_value: float
    difference: float
    interval_95: tuple[float, float]
    test: str = "McNemar, exact; interval by bootstrap over entities"


def paired_test(right_a: Bools, right_b: Bools, entities: Sequence[str], *, seed: int = 0) -> PairedTest:
    """Compare which rows two models got right.

    Args:
        right_a, right_b: bool[rows], at least one row.
        entities: whom each row is about.
        seed: of the bootstrap.
    """
    only_a, only_b = int((right_a & ~right_b).sum()), int((~right_a & right_b).sum())
    p_value = float(binomtest(only_b, only_a + only_b, 0.5).pvalue) if only_a + only_b else 1.0
    _, group = np.unique(np.array(entities), return_inverse=True)
    sizes = np.bincount(group).astype(np.float64)
    gains = np.bincount(group, right_b.astype(np.float64) - right_a.astype(np.float64))
    draws = np.random.default_rng(seed).integers(0, len(sizes), (RESAMPLES, len(sizes)))
    differences = gains[draws].sum(axis=1) / sizes[draws].sum(axis=1)
    low, high = np.quantile(differences, (0.025, 0.975))
    return PairedTest(
        rows=len(right_a),
        entities=len(sizes),
        accuracy_a=float(right_a.mean()),
        accuracy_b=float(right_b.mean()),
        only_a=only_a,
        only_b=only_b,
        p_value=p_value,
        difference=float(right_b.mean() - right_a.mean()),
        interval_95=(float(low), float(high)),
    )
