"""Exact Shapley values of an ensemble of trees, from its paths.

The value of a coalition S of features is what the trees answer when the features in S are known and the others are drawn as the
training rows fell through the nodes (`tree_path_dependent` of the `shap` library). A leaf with value v, reached through features
1..d, where o_j says whether the row passes on feature j and z_j which share of the training rows does, gives

    phi_i = v (o_i - z_i) * integral over t from 0 to 1 of  product over j != i of (o_j t + z_j (1 - t))  dt

because the weight |S|! (d - 1 - |S|)! / d! of a coalition is the integral of t^|S| (1 - t)^(d - 1 - |S|). The integrand is a
polynomial of degree d - 1, so Gauss-Legendre quadrature at (d + 1) / 2 points is exact, and whole batches of rows and leaves are
plain array arithmetic.

Source: Lundberg, Erion and Lee, "Consistent individualized feature attribution for tree ensembles", 2018 (the values);
Yu et al., "Linear TreeShap", NeurIPS 2022 (as polynomials of the path).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from udfs.explanations.trees import Float32, Float64, Leaves, TreeEnsemble

_CELLS_AT_ONCE = 4_000_000  # 32 MB of float64 a step


def tree_shap(ensemble: TreeEnsemble, features: Float32) -> Float64:
    """Shapley values of each row.

    Args:
        features: float32[rows, n], finite.

    Returns:
        float64[rows, n, classes]; over the features they sum to the row's score less `ensemble.base`, in `ensemble.unit`.
    """
    rows, n = features.shape
    found = np.zeros((rows, n * len(ensemble.base)))
    for leaves in ensemble.leaves:
        spread = _spread(leaves, n)
        size, d = leaves.features.shape
        step = max(1, _CELLS_AT_ONCE // (size * d * ((d + 1) // 2)))
        for start in range(0, rows, step):
            amounts = _amounts(leaves, features[start : start + step])
            found[start : start + step] += (spread.T @ amounts.reshape(-1, size * d).T).T
    return found.reshape(rows, n, len(ensemble.base))


def _amounts(leaves: Leaves, features: Float32) -> Float64:
    """float64[rows, leaves, d]: what a leaf of value 1 gives to each of its features."""
    seen = features[:, leaves.features]
    passes = ((seen > leaves.low) & (seen <= leaves.high)).astype(np.float64)
    d = leaves.features.shape[1]
    points, weights = _quadrature(d)
    factors = passes[..., None] * points + (leaves.share[..., None] * (1.0 - points))[None]
    others = np.empty_like(factors)  # the product of all but one: from the left, then from the right
    running = np.ones(factors.shape[:2] + factors.shape[3:])
    for j in range(d):
        others[:, :, j] = running
        running = running * factors[:, :, j]
    running = np.ones_like(running)
    for j in reversed(range(d)):
        others[:, :, j] *= running
        running = running * factors[:, :, j]
    amounts: Float64 = (passes - leaves.share) * (others @ weights)
    return amounts


def _spread(leaves: Leaves, n: int) -> Any:  # Any: scipy publishes no types
    """Sparse [leaves * d, n * classes]: the values of a leaf, at the features of its path."""
    from scipy.sparse import csr_matrix  # here, because a server's start need not wait for it

    size, d = leaves.features.shape
    classes = leaves.values.shape[1]
    columns = leaves.features[:, :, None] * classes + np.arange(classes)
    values = np.broadcast_to(leaves.values[:, None, :], (size, d, classes))
    starts = np.arange(size * d + 1) * classes
    return csr_matrix((values.reshape(-1), columns.reshape(-1), starts), shape=(size * d, n * classes))


@lru_cache(maxsize=128)
def _quadrature(d: int) -> tuple[Float64, Float64]:
    points, weights = np.polynomial.legendre.leggauss((d + 1) // 2)
    return (points + 1.0) / 2.0, weights / 2.0
