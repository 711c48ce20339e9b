"""An ensemble of trees, read back from an ONNX graph as the paths to its leaves.

    leaf   features   f1      f2      f7         one column for each feature that is asked on the way down
           interval   (a, b]  (c, d]  (e, f]     the row reaches the leaf when every feature lies in its interval
           share      0.40    0.75    0.10       of the training rows, those that pass the questions on this feature
           value      per class                  what the leaf adds to the score

The shares come from `nodes_hitrates`, ONNX's own attribute for how often a node is visited; `learning.models.trees` writes the
training rows there. Without them (skl2onnx writes 1 everywhere) an ensemble cannot be explained by its paths.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]
Unit = Literal["probability", "log_odds"]

_UNITS: dict[bytes, Unit] = {b"NONE": "probability", b"LOGISTIC": "log_odds", b"SOFTMAX": "log_odds"}
_PASSING_ON = ("Identity", "Cast")
_LEAVES_AT_ONCE = 16_384  # bounds the memory of one step: 16,384 leaves of 10 features at 5 points are 6 MB a row


@dataclass(frozen=True)
class Leaves:
    """Leaves whose paths ask the same number d of features.

    Attributes:
        features: int64[leaves, d].
        low: float32[leaves, d]; a feature above `low` ...
        high: float32[leaves, d]; ... and not above `high` passes.
        share: float64[leaves, d].
        values: float64[leaves, classes].
    """

    features: Int64
    low: Float32
    high: Float32
    share: Float64
    values: Float64


@dataclass(frozen=True)
class TreeEnsemble:
    """All trees of a model.

    Attributes:
        unit: of the scores: they are probabilities already, or become some by the logistic function or softmax.
        base: float64[classes]; the mean score over the training rows, by the shares.
        leaves: in groups of equal d.
    """

    unit: Unit
    base: Float64
    leaves: tuple[Leaves, ...]


def read_trees(model: onnx.ModelProto) -> TreeEnsemble | None:
    """The ensemble that gives `probabilities`; None if the graph is something else, or has no shares."""
    node = _ensemble_node(model.graph)
    if node is None:
        return None
    told = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    unit = _UNITS.get(told.get("post_transform", b"NONE"))
    rates = np.array(told.get("nodes_hitrates", []), np.float64)
    modes = set(told["nodes_modes"])
    if (
        unit is None
        or not len(rates)
        or (rates == rates[0]).all()
        or (rates <= 0).any()
        or not modes <= set(_SIDES) | {b"LEAF"}
    ):
        return None
    n_classes = max(len(told.get("classlabels_int64s", ())), len(told.get("classlabels_strings", ())))
    values = _leaf_values(told, n_classes)
    base = np.array(told.get("base_values", []), np.float64)
    if len(values[next(iter(values))]) == 1:
        # Two classes told by one number, that of the second; the first one's is its negative, or what it leaves of 1.
        if n_classes != 2:
            return None
        values = {key: np.array([-value[0], value[0]]) for key, value in values.items()}
        told_base = base[0] if len(base) else 0.0
        base = np.array([(1.0 if unit == "probability" else 0.0) - told_base, told_base])
    groups: dict[int, list[_Path]] = {}
    for path in _paths(told, rates):
        groups.setdefault(len(path.features), []).append(path)
    total = np.zeros(n_classes) if not len(base) else base.astype(np.float64)
    leaves = []
    for size, paths in sorted(groups.items()):
        for start in range(0, len(paths), _LEAVES_AT_ONCE):
            group = _group(paths[start : start + _LEAVES_AT_ONCE], values, n_classes)
            total = total + group.share.prod(axis=1) @ group.values
            if size:
                leaves.append(group)
    return TreeEnsemble(unit, total, tuple(leaves))


@dataclass(frozen=True)
class _Path:
    """The way to one leaf; `passes` is (low, high, share) by feature."""

    leaf: tuple[int, int]
    features: tuple[int, ...]
    passes: tuple[tuple[float, float, float], ...]


def _ensemble_node(graph: onnx.GraphProto) -> onnx.NodeProto | None:
    makers = {output: node for node in graph.node for output in node.output}

    def origin(name: str) -> str:
        while name in makers and makers[name].op_type in _PASSING_ON:
            name = makers[name].input[0]
        return name

    name = origin("probabilities")
    node = makers.get(name)
    if (
        node is None
        or node.op_type != "TreeEnsembleClassifier"
        or name != node.output[1]
        or origin(node.input[0]) != "features"
    ):
        return None
    return node


def _leaf_values(told: dict[str, Any], n_classes: int) -> dict[tuple[int, int], Float64]:  # Any: ONNX attributes
    ids = told["class_ids"]
    width = n_classes if len(set(ids)) > 1 or n_classes == 1 else 1
    values: dict[tuple[int, int], Float64] = {}
    for tree, leaf, index, weight in zip(told["class_treeids"], told["class_nodeids"], ids, told["class_weights"], strict=True):
        values.setdefault((tree, leaf), np.zeros(width))[index if width > 1 else 0] += weight
    return values


# The half that the true branch takes: (-inf, bound] or (bound, inf), and whether the bound is one float32 lower.
_SIDES: dict[bytes, tuple[bool, bool]] = {
    b"BRANCH_LEQ": (True, False),
    b"BRANCH_LT": (True, True),
    b"BRANCH_GT": (False, False),
    b"BRANCH_GTE": (False, True),
}


def _paths(told: dict[str, Any], rates: Float64) -> Iterator[_Path]:  # Any: as above
    """Every leaf with its path, tree by tree; a tree's first node is its root."""
    position = {key: i for i, key in enumerate(zip(told["nodes_treeids"], told["nodes_nodeids"], strict=True))}
    roots: dict[int, int] = {}
    for i, tree in enumerate(told["nodes_treeids"]):
        roots.setdefault(tree, i)
    for tree, root in roots.items():
        waiting: list[tuple[int, dict[int, tuple[float, float, float]]]] = [(root, {})]
        while waiting:
            at, passes = waiting.pop()
            if told["nodes_modes"][at] == b"LEAF":
                yield _Path((tree, told["nodes_nodeids"][at]), tuple(passes), tuple(passes.values()))
                continue
            feature = told["nodes_featureids"][at]
            low, high, share = passes.get(feature, (-np.inf, np.inf, 1.0))
            below, strictly = _SIDES[told["nodes_modes"][at]]
            value = np.float32(told["nodes_values"][at])
            bound = float(np.nextafter(value, np.float32(-np.inf)) if strictly else value)
            for child, takes_low in ((told["nodes_truenodeids"][at], below), (told["nodes_falsenodeids"][at], not below)):
                next_at = position[tree, child]
                part = share * float(rates[next_at] / rates[at])
                interval = (low, min(high, bound), part) if takes_low else (max(low, bound), high, part)
                waiting.append((next_at, passes | {int(feature): interval}))


def _group(paths: list[_Path], values: dict[tuple[int, int], Float64], n_classes: int) -> Leaves:
    size = len(paths[0].features)
    passes = np.array([path.passes for path in paths], np.float64).reshape(len(paths), size, 3)
    return Leaves(
        np.array([path.features for path in paths], np.int64).reshape(len(paths), size),
        passes[:, :, 0].astype(np.float32),
        passes[:, :, 1].astype(np.float32),
        passes[:, :, 2],
        np.array([values.get(path.leaf, np.zeros(n_classes)) for path in paths]),
    )
