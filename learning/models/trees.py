"""Gradient boosting and random forests of scikit-learn, through skl2onnx.

Trees do not care for scaling, so nothing comes before them in the graph. Both sides compare float32 features with the same
thresholds: training casts to float32 first.

The graph says in `nodes_hitrates` how many training rows passed each node, so that `udfs.explanations` can explain it exactly;
skl2onnx writes 1 everywhere, and onnxruntime does not look at it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier

from learning.models.kind import IR_VERSION, ML_OPSET, OPSET, Float32, Int64, seal


@dataclass(frozen=True)
class Trees:
    """A fitted ensemble of trees; its class i is `classes[i]`."""

    kind: str
    classes: tuple[str, ...]
    positive: str | None
    estimator: Any  # scikit-learn publishes no types
    n_features: int

    def probabilities(self, features: Float32) -> Float32:
        answer: Float32 = self.estimator.predict_proba(features)
        return answer

    def to_onnx(self) -> bytes:
        inputs = [("features", FloatTensorType([None, self.n_features]))]
        model = to_onnx(
            self.estimator,
            initial_types=inputs,
            options={id(self.estimator): {"zipmap": False}},
            target_opset={"": OPSET, "ai.onnx.ml": ML_OPSET},
        )
        _write_visits(model, self.estimator)
        model.ir_version = IR_VERSION
        model.graph.name = self.kind  # skl2onnx draws a random one
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
        for output in [output for output in model.graph.output if output.name != "probabilities"]:
            model.graph.output.remove(output)
        return seal(model, self.classes, self.positive)


def fit_gradient_boosting(
    features: Float32, labels: Int64, classes: tuple[str, ...], *, positive: str | None, seed: int, rounds: int = 60
) -> Trees:
    """Boosted trees of depth 3, each on half of the rows.

    Args:
        features: float32[rows, n], finite.
        labels: int64[rows], positions in `classes`.
    """
    estimator = GradientBoostingClassifier(n_estimators=rounds, max_depth=3, subsample=0.5, random_state=seed)
    estimator.fit(features, labels)
    return Trees("gradient_boosting", classes, positive, estimator, features.shape[1])


def fit_random_forest(
    features: Float32,
    labels: Int64,
    classes: tuple[str, ...],
    *,
    positive: str | None,
    seed: int,
    trees: int = 60,
    depth: int = 10,
) -> Trees:
    """A forest; arguments as `fit_gradient_boosting`."""
    estimator = RandomForestClassifier(n_estimators=trees, max_depth=depth, random_state=seed, n_jobs=1)
    estimator.fit(features, labels)
    assert np.array_equal(estimator.classes_, np.arange(len(classes))), "every class occurs in the training rows"
    return Trees("random_forest", classes, positive, estimator, features.shape[1])


def _write_visits(model: onnx.ModelProto, estimator: Any) -> None:  # Any: scikit-learn publishes no types
    trees = [each.tree_ for each in np.ravel(estimator.estimators_)]
    (node,) = (each for each in model.graph.node if each.op_type == "TreeEnsembleClassifier")
    told = {attribute.name: attribute for attribute in node.attribute}
    order = [(number, i) for number, tree in enumerate(trees) for i in range(tree.node_count)]
    assert list(zip(told["nodes_treeids"].ints, told["nodes_nodeids"].ints, strict=True)) == order, "the order of scikit-learn"
    visits = told["nodes_hitrates"].floats
    del visits[:]
    visits.extend(np.concatenate([tree.weighted_n_node_samples for tree in trees]).tolist())
