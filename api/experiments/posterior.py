"""How probable it is that each variant is the best, given what converted so far.

Conversion rates have independent Beta(1, 1) priors, so posteriors are Beta(1 + s, 1 + n - s), and

    P(k best) = integral over u in (0, 1) of product over j != k of F_j(F_k^-1(u)) du,

computed by tanh-sinh quadrature, whose nodes crowd at both ends: the small probabilities of clear losers, which decide how
often they are still tried, keep their digits.

Source: Thompson, "On the likelihood that one unknown probability exceeds another", Biometrika 25 (1933); Takahasi and Mori,
"Double exponential formulas for numerical integration", Publ. RIMS 9 (1974).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import special

Float64 = npt.NDArray[np.float64]

METHOD = "posterior probability of being best, Beta(1, 1) priors, tanh-sinh quadrature"

_STEPS = np.arange(-24, 25) * 0.125
_NODES = 0.5 * np.pi * np.sinh(_STEPS)
_UPPER = special.expit(2 * _NODES)  # u, and 1 - u below without cancellation
_LOWER = special.expit(-2 * _NODES)
_WEIGHTS = 0.125 * 0.5 * np.pi * np.cosh(_STEPS) * 0.5 / np.cosh(_NODES) ** 2


def probability_best(successes: npt.ArrayLike, trials: npt.ArrayLike) -> Float64:
    """P(best) of each variant.

    Args:
        successes, trials: float64[..., variants], 0 <= successes <= trials.

    Returns:
        float64[..., variants], which adds up to 1.
    """
    s, n = np.asarray(successes, np.float64), np.asarray(trials, np.float64)
    a, b = 1.0 + s, 1.0 + n - s
    variants = a.shape[-1]
    found = np.empty(a.shape)
    for k in range(variants):
        own_a, own_b = a[..., k, None], b[..., k, None]
        # The nearer end is inverted, so that neither tail is rounded away.
        rate = np.where(_UPPER < 0.5, special.betaincinv(own_a, own_b, _UPPER), special.betainccinv(own_a, own_b, _LOWER))
        below = np.ones(rate.shape)
        for j in range(variants):
            if j != k:
                below = below * special.betainc(a[..., j, None], b[..., j, None], rate)
        found[..., k] = below @ _WEIGHTS
    best: Float64 = found / found.sum(axis=-1, keepdims=True)
    return best


def draw(successes: npt.ArrayLike, trials: npt.ArrayLike, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Thompson sampling: the variant whose rate is the largest in one draw from the posteriors; int64[...]."""
    s, n = np.asarray(successes, np.float64), np.asarray(trials, np.float64)
    chosen: npt.NDArray[np.int64] = rng.beta(1.0 + s, 1.0 + n - s).argmax(axis=-1)
    return chosen
