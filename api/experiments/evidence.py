"""Evidence that one variant converts better than another which may be looked at all the time.

Each matured exposure of variants k or j is a bet. With the chance p of k among the two at that moment (logged with the
exposure), a base rate r and a lift d, both fixed before the outcome is seen,

    rate_k = r (1 + (1 - p) d),   rate_j = r (1 - p d),   so that   p rate_k + (1 - p) rate_j = r,

the wealth is multiplied by P(outcome | rate of the variant that was seen) / P(outcome | r). When both variants convert
alike, whatever their rate and however it moves, the expected factor is exactly 1; when k converts worse it is below 1. So the
wealth is a nonnegative supermartingale, also while the chances follow the outcomes (Thompson sampling), and by Ville's
inequality it ever reaches 1/alpha with probability at most alpha: no number of looks spoils that. The wealth is spread
evenly over several lifts. A winner must reach `variants / alpha` against every other one.

Source: Turner, Ly and Grünwald, "Generic E-variables for exact sequential k-sample tests that allow for optional stopping",
JSPI 230 (2024); Ville (1939); Ramdas et al., "Game-theoretic statistics and safe anytime-valid inference", Stat. Sci. 38 (2023).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

Float64 = npt.NDArray[np.float64]

METHOD = "always-valid: betting e-process on matured exposures with logged propensities, Ville's inequality"
LIFTS = np.array([0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56])
ALPHA = 0.05
_INSIDE = 0.999  # rates stay off 0 and 1, where one outcome would end the game


@dataclass
class Evidence:
    """The wealth of every ordered pair, folded exposure by exposure; leading dimensions are experiments side by side.

    Attributes:
        wealth: float64[..., k, j, lifts], logarithm of the wealth that bets on k over j.
        highest: float64[..., k, j], the largest logarithm that the mean over the lifts has had.
        successes, trials: float64[...], over all variants.
    """

    wealth: Float64
    highest: Float64
    successes: Float64
    trials: Float64

    @staticmethod
    def start(variants: int, experiments: tuple[int, ...] = ()) -> Evidence:
        """Nothing was seen yet."""
        return Evidence(
            np.zeros((*experiments, variants, variants, len(LIFTS))),
            np.zeros((*experiments, variants, variants)),
            np.zeros(experiments),
            np.zeros(experiments),
        )

    @property
    def variants(self) -> int:
        return int(self.highest.shape[-1])

    def fold(self, seen: npt.NDArray[np.int64], converted: npt.NDArray[np.bool_], propensities: Float64) -> None:
        """Take matured exposures in the order in which they were made.

        Args:
            seen: int64[..., exposures], the variant of each.
            converted: bool[..., exposures].
            propensities: float64[..., exposures, variants], all above 0 where the variant could be seen.
        """
        count = seen.shape[-1]
        if count == 0:
            return
        before = np.arange(count) + self.trials[..., None]
        won = np.cumsum(converted, axis=-1) - converted + self.successes[..., None]
        base = (won + 0.5) / (before + 1.0)
        for k in range(self.variants):
            for j in range(self.variants):
                if k != j:
                    self._fold_pair(k, j, seen, converted, propensities, base)
        self.successes = self.successes + converted.sum(axis=-1)
        self.trials = self.trials + count

    def confidence(self) -> Float64:
        """float64[..., variants]: 1 - p for "this variant is the best", p valid at any time and for all variants together."""
        against = self.highest.copy()
        against[..., np.arange(self.variants), np.arange(self.variants)] = np.inf
        weakest = against.min(axis=-1)
        found: Float64 = 1.0 - np.minimum(1.0, self.variants * np.exp(-weakest))
        return found

    def winner(self, alpha: float = ALPHA) -> npt.NDArray[np.int64]:
        """int64[...]: the variant that has won, -1 where none has."""
        confidence = self.confidence()
        best = confidence.argmax(axis=-1)
        won = np.take_along_axis(confidence, best[..., None], axis=-1)[..., 0] >= 1.0 - alpha
        found: npt.NDArray[np.int64] = np.where(won, best, -1)
        return found

    def _fold_pair(
        self,
        k: int,
        j: int,
        seen: npt.NDArray[np.int64],
        converted: npt.NDArray[np.bool_],
        propensities: Float64,
        base: Float64,
    ) -> None:
        either = propensities[..., k] + propensities[..., j]
        chance = np.divide(propensities[..., k], either, out=np.full(either.shape, 0.5), where=either > 0)
        # By how much of the lift the rate of the variant that was seen differs from the base rate; a third one tells nothing.
        tilt = np.where(seen == k, 1.0 - chance, np.where(seen == j, -chance, 0.0))
        odds = base / (1.0 - base)
        stake = np.where(converted, tilt, -odds * tilt)
        # As much of a lift as keeps both rates inside (0, 1).
        room = _INSIDE * np.minimum(
            np.divide(1.0, odds * (1.0 - chance), out=np.full(base.shape, np.inf), where=chance < 1.0),
            np.divide(1.0, chance, out=np.full(base.shape, np.inf), where=chance > 0.0),
        )
        paths = np.empty((*seen.shape, len(LIFTS)))
        for at, lift in enumerate(LIFTS):
            np.log1p(stake * np.minimum(lift, room), out=paths[..., at])
        np.cumsum(paths, axis=-2, out=paths)
        paths += self.wealth[..., k, j, None, :]
        mean = special.logsumexp(paths, axis=-1) - np.log(len(LIFTS))
        self.highest[..., k, j] = np.maximum(self.highest[..., k, j], mean.max(axis=-1))
        self.wealth[..., k, j, :] = paths[..., -1, :]
