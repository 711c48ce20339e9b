"""Isolation forest of scikit-learn: how few random cuts part a row from the training rows. Needs no labels.

    a(x) = 2 ^ (- mean depth of x / c(samples))            the anomaly score of the paper, 0 to 1
    depth of a leaf = cuts above it + c(training rows in it),  c(n) = expected depth of a tree of n rows
    probability of the positive class = sigmoid((a(x) - limit) / width)
    limit, width: the quantile of a over the training rows that `contamination` says, and a quarter of its distance above the median

In the graph all trees are one `TreeEnsembleRegressor` whose leaves weigh their depth. (skl2onnx makes a graph of its own for every
tree, which takes onnxruntime 25 s to load for 100 trees; this one takes 50 ms.)

Source: Liu, Ting and Zhou, "Isolation forest", ICDM 2008.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import NodeProto, helper
from sklearn.ensemble import IsolationForest

from learning.models.kind import ML_OPSET, Float32, build_graph, positive_pair

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class IsolationForestModel:
    """A fitted forest; `limit` and `width` turn its score into a probability."""

    classes: tuple[str, ...]
    positive: str
    estimator: Any  # scikit-learn publishes no types
    limit: float
    width: float
    kind: str = "isolation_forest"

    def probabilities(self, features: Float32) -> Float32:
        score = -self.estimator.score_samples(features)
        p = (1 / (1 + np.exp((self.limit - score) / self.width))).astype(np.float32).reshape(-1, 1)
        return np.hstack([1 - p, p] if self.classes.index(self.positive) == 1 else [p, 1 - p])

    def to_onnx(self) -> bytes:
        nodes = [
            self._depths(),
            helper.make_node("Mul", ["depth", "minus_per_depth"], ["exponent"]),
            helper.make_node("Pow", ["two", "exponent"], ["score"]),
            helper.make_node("Sub", ["score", "limit"], ["above_limit"]),
            helper.make_node("Div", ["above_limit", "width"], ["logit"]),
            helper.make_node("Sigmoid", ["logit"], ["p"]),
            *positive_pair("p", self.classes, self.positive),
        ]
        samples = np.array([self.estimator.max_samples_])
        weights = {
            "minus_per_depth": (-1 / expected_depth(samples)).astype(np.float32),
            "two": np.array([2], np.float32),
            "limit": np.array([self.limit], np.float32),
            "width": np.array([self.width], np.float32),
            "one": np.array([1], np.float32),
        }
        return build_graph(
            self.kind,
            nodes,
            weights,
            n_features=self.estimator.n_features_in_,
            classes=self.classes,
            positive=self.positive,
            ml_opset=ML_OPSET,
        )

    def _depths(self) -> NodeProto:
        """From `features` to `depth`, float32[batch, 1]: the mean depth over all trees."""
        told: dict[str, list[Any]] = {}  # Any: integers, floats or names
        for number, (tree, used) in enumerate(
            zip(self.estimator.estimators_, self.estimator.estimators_features_, strict=True)
        ):
            cuts = tree.tree_
            leaf = cuts.children_left < 0
            ids = np.arange(cuts.node_count)
            columns = {
                "nodes_treeids": np.full(len(ids), number),
                "nodes_nodeids": ids,
                "nodes_featureids": np.where(leaf, 0, np.asarray(used)[np.maximum(cuts.feature, 0)]),
                "nodes_values": np.where(leaf, 0, _not_above(cuts.threshold)),
                "nodes_modes": np.where(leaf, "LEAF", "BRANCH_LEQ"),
                "nodes_truenodeids": np.where(leaf, 0, cuts.children_left),
                "nodes_falsenodeids": np.where(leaf, 0, cuts.children_right),
                "target_treeids": np.full(leaf.sum(), number),
                "target_nodeids": ids[leaf],
                "target_ids": np.zeros(leaf.sum(), np.int64),
                "target_weights": (_cuts_above(cuts) + expected_depth(cuts.n_node_samples))[leaf],
            }
            for name, column in columns.items():
                told.setdefault(name, []).extend(column.tolist())
        attributes: dict[str, Any] = {**told, "n_targets": 1, "aggregate_function": "AVERAGE"}  # Any: as above
        return helper.make_node(
            "TreeEnsembleRegressor",
            ["features"],
            ["depth"],
            domain="ai.onnx.ml",
            **attributes,
        )


def fit_isolation_forest(
    features: Float32,
    classes: tuple[str, ...],
    *,
    positive: str,
    seed: int,
    contamination: float = 0.05,
    trees: int = 100,
) -> IsolationForestModel:
    """Grow the forest on rows most of which are normal.

    Args:
        features: float32[rows, n], finite.
        contamination: share of the training rows that may be anomalous; their probability lies above one half.
    """
    estimator = IsolationForest(n_estimators=trees, random_state=seed, n_jobs=1).fit(features)
    scores = -estimator.score_samples(features)
    limit = float(np.quantile(scores, 1 - contamination))
    width = max(limit - float(np.median(scores)), 1e-3) / 4
    return IsolationForestModel(classes, positive, estimator, limit, width)


def expected_depth(rows: npt.NDArray[np.int64]) -> Float64:
    """c(n) of the paper: the mean depth at which a random search tree of n rows gives up."""
    n = rows.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        depth = 2 * (np.log(n - 1) + np.euler_gamma) - 2 * (n - 1) / n
    depth[rows == 2] = 1
    depth[rows < 2] = 0
    return depth


def _cuts_above(cuts: Any) -> Float64:  # Any: scikit-learn's Tree
    above = np.zeros(cuts.node_count)
    for node in range(cuts.node_count):  # parents come before their children
        for child in (cuts.children_left[node], cuts.children_right[node]):
            if child >= 0:
                above[child] = above[node] + 1
    return above


def _not_above(thresholds: Float64) -> Float32:
    """The largest float32 that is not above each threshold: `x <= threshold` stays what it was for every float32 x."""
    narrow = thresholds.astype(np.float32)
    lower: Float32 = np.where(narrow > thresholds, np.nextafter(narrow, np.float32(-np.inf)), narrow)
    return lower
