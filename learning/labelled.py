"""Rows with known classes, and what one would get without a model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class LabelledRows:
    """Training or test rows in the order in which they happened.

    Attributes:
        features: float32[rows, n], finite.
        labels: int64[rows], positions in `classes`.
        series: int64[rows]; rows of one series follow each other (one pump); None where the order means nothing but itself.
    """

    features: Float32
    labels: Int64
    classes: tuple[str, ...]
    series: Int64 | None = None


@dataclass(frozen=True)
class Baselines:
    """Accuracies without a model: always the most frequent class, and always the label of the row before in its series.

    `last_value` is the strongest form of it: it knows the last label at once, which late labels never allow.
    """

    majority_class: float
    last_value: float

    @property
    def best(self) -> float:
        return max(self.majority_class, self.last_value)


def baselines(labels: Int64, series: Int64 | None = None) -> Baselines:
    """Measure both on the rows that a model is measured on; the first row of a series has no row before, and counts as wrong.

    Args:
        labels: int64[rows].
        series: int64[rows], or None for one series.
    """
    groups = np.zeros(len(labels), np.int64) if series is None else series
    hits = 0
    for group in np.unique(groups):
        own = labels[groups == group]
        hits += int((own[1:] == own[:-1]).sum())
    _, counts = np.unique(labels, return_counts=True)
    return Baselines(float(counts.max() / len(labels)), hits / len(labels))
