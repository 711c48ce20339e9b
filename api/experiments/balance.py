"""Whether units arrived at the variants as they were dealt: a sample-ratio mismatch says that something between lost some.

Source: Fabijan et al., "Diagnosing sample ratio mismatch in online controlled experiments", KDD 2019.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

ALARM = 0.001  # a mismatch is a bug, not a finding: the alarm is to be rare even when many experiments are looked at
_LEAST_EXPECTED = 5.0  # Pearson's approximation wants as many in each cell


@dataclass(frozen=True)
class SampleRatio:
    """Observed and expected units by variant; `p_value` is None while there are too few."""

    observed: tuple[int, ...]
    expected: tuple[float, ...]
    p_value: float | None

    @property
    def mismatch(self) -> bool:
        return self.p_value is not None and self.p_value < ALARM


def sample_ratio(observed: npt.ArrayLike, expected: npt.ArrayLike) -> SampleRatio:
    """Pearson's chi-square of the units by variant.

    Args:
        observed: int[variants].
        expected: float[variants], the sums of the logged propensities. Where these follow the outcomes, the test is
            conservative: the sums vary less than a multinomial with their mean.
    """
    seen, wanted = np.asarray(observed, np.float64), np.asarray(expected, np.float64)
    told = tuple(int(count) for count in seen), tuple(float(count) for count in wanted)
    if wanted.min(initial=np.inf) < _LEAST_EXPECTED:
        return SampleRatio(*told, None)
    found = stats.chisquare(seen, wanted * (seen.sum() / wanted.sum()))
    return SampleRatio(*told, float(found.pvalue))
