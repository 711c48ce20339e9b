"""The trained part of networks whose hidden layers are drawn or learned without labels: a softmax readout of their states."""

from __future__ import annotations

import numpy as np
from onnx import NodeProto, helper
from sklearn.linear_model import LogisticRegression

from learning.models.kind import Float32, Int64


def fit_readout(states: Float32, labels: Int64, n_classes: int, inverse_penalty: float) -> tuple[Float32, Float32]:
    """Multinomial logistic regression on the hidden states.

    Args:
        states: float32[rows, n].
        labels: int64[rows], 0 to `n_classes` - 1, each of which occurs.

    Returns:
        weights float32[n, n_classes] and offsets float32[n_classes].
    """
    fitted = LogisticRegression(C=inverse_penalty, max_iter=1000).fit(states, labels)
    weights, offsets = fitted.coef_.T, fitted.intercept_
    if n_classes == 2:  # scikit-learn keeps one column, the second class's logit
        weights = np.hstack([np.zeros_like(weights), weights])
        offsets = np.array([0.0, offsets[0]])
    return weights.astype(np.float32), offsets.astype(np.float32)


def read_out(states: Float32, weights: Float32, offsets: Float32) -> Float32:
    """softmax(states weights + offsets): float32[rows, n_classes]."""
    logits = states @ weights + offsets
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: Float32 = powers / powers.sum(axis=1, keepdims=True)
    return shares


def readout_nodes(states: str) -> list[NodeProto]:
    """The same as nodes from `states` to `probabilities`; they use the weights `readout` and `offset`."""
    return [
        helper.make_node("MatMul", [states, "readout"], ["logits_without_offset"]),
        helper.make_node("Add", ["logits_without_offset", "offset"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
