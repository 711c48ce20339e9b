"""A model of what is normal, for recordings that come without a trained one: distance to and within a principal subspace.

    z = (x - mean) / scale                     t = z P                    r = z - t P'
    Q = sum of r^2                             T2 = sum of t^2 / variance of t
    d = (Q / Q99 + T2 / T99) / 2                      Q99, T99: what 99 of 100 training rows stay below
    probability of `anomaly` = d^2 / (d^2 + limit^2)  so that d = limit gives one half

Source: Jackson and Mudholkar, "Control procedures for residuals associated with principal component analysis",
Technometrics 21(3), 1979.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import helper

from learning.models.kind import build_graph, positive_pair

Float32 = npt.NDArray[np.float32]

CLASSES = ("normal", "anomaly")
EXPLAINED = 0.9  # share of the variance that the subspace keeps
LIMIT = 2.0  # training covers minutes of a process that drifts for hours; twice its own spread is still normal


@dataclass(frozen=True)
class ResidualModel:
    """Fitted constants, all float32; `components` is [features, kept]."""

    mean: Float32
    scale: Float32
    components: Float32
    variances: Float32
    q_limit: Float32
    t_limit: Float32

    @property
    def kind(self) -> str:
        return "principal_residual"

    @property
    def classes(self) -> tuple[str, ...]:
        return CLASSES

    @property
    def positive(self) -> str:
        return "anomaly"

    def distances(self, features: Float32) -> tuple[Float32, Float32]:
        """Q and T2: float32[batch] each."""
        z = (features - self.mean) / self.scale
        t = z @ self.components
        residual = z - t @ self.components.T
        return (residual**2).sum(axis=1), (t**2 / self.variances).sum(axis=1)

    def probabilities(self, features: Float32) -> Float32:
        """float32[batch, n_features] to float32[batch, 2]."""
        q, t2 = self.distances(features)
        d = ((q / self.q_limit + t2 / self.t_limit) / (2 * LIMIT)) ** 2
        anomaly = d / (d + 1)
        return np.stack([1 - anomaly, anomaly], axis=1)

    def to_onnx(self) -> bytes:
        """The same as a graph of the common signature."""
        node = helper.make_node
        nodes = [
            node("Sub", ["features", "mean"], ["centred"]),
            node("Div", ["centred", "scale"], ["z"]),
            node("MatMul", ["z", "components"], ["t"]),
            node("MatMul", ["t", "components_transposed"], ["rebuilt"]),
            node("Sub", ["z", "rebuilt"], ["residual"]),
            node("ReduceSumSquare", ["residual"], ["q"], axes=[1], keepdims=1),
            node("Mul", ["t", "t"], ["t_squared"]),
            node("Div", ["t_squared", "variances"], ["t_relative"]),
            node("ReduceSum", ["t_relative", "axis"], ["t2"], keepdims=1),
            node("Div", ["q", "q_limit"], ["q_share"]),
            node("Div", ["t2", "t_limit"], ["t_share"]),
            node("Add", ["q_share", "t_share"], ["both"]),
            node("Div", ["both", "twice_limit"], ["distance"]),
            node("Mul", ["distance", "distance"], ["d"]),
            node("Add", ["d", "one"], ["d_and_one"]),
            node("Div", ["d", "d_and_one"], ["anomaly"]),
            *positive_pair("anomaly", CLASSES, "anomaly"),
        ]
        weights: dict[str, npt.NDArray[Any]] = {  # Any: the axis is an integer
            "mean": self.mean,
            "scale": self.scale,
            "components": self.components,
            "components_transposed": self.components.T,
            "variances": self.variances,
            "axis": np.array([1], np.int64),
            "q_limit": self.q_limit,
            "t_limit": self.t_limit,
            "twice_limit": np.array(2 * LIMIT, np.float32),
            "one": np.ones((), np.float32),
        }
        return build_graph("principal_residual", nodes, weights, n_features=len(self.mean), classes=CLASSES, positive="anomaly")


def fit_residual(features: Float32) -> ResidualModel:
    """Fit on normal rows: float32[rows, n_features]; constant features are left out by weight."""
    wide = features.astype(np.float64)
    mean, scale = wide.mean(axis=0), wide.std(axis=0)
    scale[scale < 1e-9 * np.maximum(1.0, np.abs(mean))] = 1.0
    z = (wide - mean) / scale
    values, vectors = np.linalg.eigh(np.cov(z, rowvar=False))
    order = values.argsort()[::-1]
    values, vectors = np.maximum(values[order], 1e-6), vectors[:, order]
    kept = int(np.searchsorted(values.cumsum() / values.sum(), EXPLAINED)) + 1
    one = np.ones((), np.float32)
    wanted = (mean, scale, vectors[:, :kept], values[:kept])
    narrow = [array.astype(np.float32) for array in wanted]
    rough = ResidualModel(narrow[0], narrow[1], narrow[2], narrow[3], one, one)
    q, t2 = rough.distances(features)
    return replace(rough, q_limit=_limit(q), t_limit=_limit(t2))


def _limit(distances: Float32) -> Float32:
    return np.array(max(float(np.quantile(distances, 0.99)), 1e-6), np.float32)
