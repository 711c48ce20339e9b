"""A small convolutional network for 8 x 8 images: kernels learned from patches, and a trained readout.

    image    features / 16, as [batch, 1, 8, 8]                         in the graph
    layer    ReLU(convolution with `KERNELS` kernels of 3 x 3, same size, plus bias)
    pooling  mean over 2 x 2, to [batch, KERNELS, 4, 4]
    p        softmax(flattened readout)                                 multinomial logistic regression

The kernels are the centres of k-means over patches of the training images, each made mean-free and of length one: edges and
strokes, found without labels and without gradients.

Source: Coates, Ng and Lee, "An analysis of single-layer networks in unsupervised feature learning", AISTATS 2011.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view
from onnx import helper
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression

from learning.models.kind import Float32, Int64, build_graph

SIDE = 8
KERNELS = 24
BRIGHTEST = 16.0
_THRESHOLD = 0.15  # what a kernel must see before it fires; flat areas give 0


@dataclass(frozen=True)
class Convolution:
    """A fitted network. `kernels` float32[KERNELS, 1, 3, 3], `readout` float32[KERNELS * 16, classes]."""

    classes: tuple[str, ...]
    kernels: Float32
    bias: Float32
    readout: Float32
    offset: Float32
    positive: str | None = None
    kind: str = "convolution"

    def probabilities(self, features: Float32) -> Float32:
        logits = pooled_responses(features, self.kernels, self.bias) @ self.readout + self.offset
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares: Float32 = powers / powers.sum(axis=1, keepdims=True)
        return shares

    def to_onnx(self) -> bytes:
        nodes = [
            helper.make_node("Div", ["features", "brightest"], ["scaled"]),
            helper.make_node("Reshape", ["scaled", "image_shape"], ["image"]),
            helper.make_node("Conv", ["image", "kernels", "bias"], ["responses"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["responses"], ["fired"]),
            helper.make_node("AveragePool", ["fired"], ["pooled"], kernel_shape=[2, 2], strides=[2, 2]),
            helper.make_node("Flatten", ["pooled"], ["flat"], axis=1),
            helper.make_node("MatMul", ["flat", "readout"], ["logits_without_offset"]),
            helper.make_node("Add", ["logits_without_offset", "offset"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        ]
        weights: dict[str, npt.NDArray[Any]] = {  # Any: floats and a shape
            "brightest": np.array([BRIGHTEST], np.float32),
            "image_shape": np.array([-1, 1, SIDE, SIDE], np.int64),
            "kernels": self.kernels,
            "bias": self.bias,
            "readout": self.readout,
            "offset": self.offset,
        }
        return build_graph(self.kind, nodes, weights, n_features=SIDE * SIDE, classes=self.classes, positive=self.positive)


def fit_convolution(features: Float32, labels: Int64, classes: tuple[str, ...], *, seed: int) -> Convolution:
    """Learn kernels and readout.

    Args:
        features: float32[rows, 64], brightness 0 to 16, row by row from the top left.
        labels: int64[rows], positions in `classes`.
    """
    kernels = _learn_kernels(features, seed)
    bias = np.full(KERNELS, -_THRESHOLD, np.float32)
    fitted = LogisticRegression(C=3.0, max_iter=300).fit(pooled_responses(features, kernels, bias), labels)
    return Convolution(classes, kernels, bias, fitted.coef_.T.astype(np.float32), fitted.intercept_.astype(np.float32))


def pooled_responses(features: Float32, kernels: Float32, bias: Float32) -> Float32:
    """What the readout sees: float32[batch, KERNELS * 16]."""
    image = features.reshape(-1, SIDE, SIDE) / np.float32(BRIGHTEST)
    patches = sliding_window_view(np.pad(image, ((0, 0), (1, 1), (1, 1))), (3, 3), axis=(1, 2))
    fired = np.maximum(np.einsum("bijxy,kxy->bkij", patches, kernels[:, 0]) + bias[:, None, None], 0)
    pooled = fired.reshape(len(image), len(kernels), SIDE // 2, 2, SIDE // 2, 2).mean(axis=(3, 5))
    flat: Float32 = pooled.reshape(len(image), -1).astype(np.float32)
    return flat


def _learn_kernels(features: Float32, seed: int) -> Float32:
    image = features.reshape(-1, SIDE, SIDE) / np.float32(BRIGHTEST)
    patches = sliding_window_view(image, (3, 3), axis=(1, 2)).reshape(-1, 9)
    centred = patches - patches.mean(axis=1, keepdims=True)
    strength = np.linalg.norm(centred, axis=1)
    shapes = centred[strength > 0.3] / strength[strength > 0.3, None]  # flat patches have no shape
    rng = np.random.default_rng(seed)
    some = shapes[rng.choice(len(shapes), min(len(shapes), 4000), replace=False)]
    centres = KMeans(KERNELS, n_init=1, max_iter=30, random_state=seed).fit(some).cluster_centers_
    centres = centres - centres.mean(axis=1, keepdims=True)
    kernels: Float32 = (centres / np.linalg.norm(centres, axis=1, keepdims=True)).reshape(-1, 1, 3, 3).astype(np.float32)
    return kernels
