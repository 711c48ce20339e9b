"""A convolutional network over a stretch of readings: random dilated kernels, two poolings, and a trained readout.

    response_k = convolution of the readings with kernel k, plus bias_k        over time, all channels, no padding
    states     = [max of response_k, share of response_k above 0]              for every k
    p          = softmax(states v + c)                                         multinomial logistic regression

The kernels have weights from a normal distribution, made mean-free, and dilations 1, 2 and 4; the bias of a kernel is a quantile
of its responses to training rows, so that the share above 0 tells something. Nothing but the readout is trained.

Source: Dempster, Petitjean and Webb, "ROCKET", Data Mining and Knowledge Discovery 34, 2020 (kernels, poolings); "MiniRocket",
KDD 2021 (biases from quantiles).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view
from onnx import NodeProto, TensorProto, helper

from learning.models.kind import Float32, Int64, build_graph
from learning.models.readout import fit_readout, read_out, readout_nodes
from learning.models.sequence import Layout, Scaling, fit_scaling

KERNELS = 32  # for each dilation
TAPS = 3
_DILATIONS = (1, 2, 4)


@dataclass(frozen=True)
class Kernels:
    """The fixed part, by dilation: `weights` float32[KERNELS, channels, TAPS] and `bias` float32[KERNELS]."""

    weights: Mapping[int, Float32]
    bias: Mapping[int, Float32]

    def states(self, readings: Float32) -> Float32:
        """float32[batch, steps, channels] to float32[batch, 2 * KERNELS * dilations]."""
        pooled = []
        for dilation, weights in self.weights.items():
            response = _responses(readings, weights, dilation) + self.bias[dilation][:, None]
            pooled += [response.max(axis=2), (response > 0).astype(np.float32).mean(axis=2)]
        return np.hstack(pooled)

    def constants(self) -> dict[str, Float32]:
        named = {f"kernels_{dilation}": weights for dilation, weights in self.weights.items()}
        return named | {f"bias_{dilation}": bias for dilation, bias in self.bias.items()} | {"zero": np.zeros(1, np.float32)}

    def nodes(self, readings: str) -> list[NodeProto]:
        """From float32[batch, channels, steps] to `convolution_states`."""
        nodes: list[NodeProto] = []
        pooled: list[str] = []
        for d in self.weights:
            nodes += [
                helper.make_node(
                    "Conv", [readings, f"kernels_{d}", f"bias_{d}"], [f"response_{d}"], kernel_shape=[TAPS], dilations=[d]
                ),
                helper.make_node("ReduceMax", [f"response_{d}"], [f"largest_{d}"], axes=[2], keepdims=0),
                helper.make_node("Greater", [f"response_{d}", "zero"], [f"above_{d}"]),
                helper.make_node("Cast", [f"above_{d}"], [f"counted_{d}"], to=TensorProto.FLOAT),
                helper.make_node("ReduceMean", [f"counted_{d}"], [f"share_{d}"], axes=[2], keepdims=0),
            ]
            pooled += [f"largest_{d}", f"share_{d}"]
        return [*nodes, helper.make_node("Concat", pooled, ["convolution_states"], axis=1)]


@dataclass(frozen=True)
class Convolution1d:
    """A fitted network."""

    classes: tuple[str, ...]
    positive: str | None
    scaling: Scaling
    kernels: Kernels
    readout: Float32
    offset: Float32
    kind: str = "convolution_1d"

    def probabilities(self, features: Float32) -> Float32:
        states = self.kernels.states(self.scaling.sequence(self.scaling.apply(features)))
        return read_out(states, self.readout, self.offset)

    def to_onnx(self) -> bytes:
        layout = self.scaling.layout
        nodes = [
            *self.scaling.nodes(),
            *channels_first(layout),
            *self.kernels.nodes("channels_first"),
            *readout_nodes("convolution_states"),
        ]
        weights: dict[str, npt.NDArray[Any]] = {  # Any: floats and sizes
            **self.scaling.weights(),
            **self.kernels.constants(),
            **channels_first_constants(layout),
            "readout": self.readout,
            "offset": self.offset,
        }
        return build_graph(self.kind, nodes, weights, n_features=layout.width, classes=self.classes, positive=self.positive)


def fit_convolution_1d(
    features: Float32, labels: Int64, classes: tuple[str, ...], *, positive: str | None, layout: Layout, seed: int
) -> Convolution1d:
    """Draw the kernels and train the readout.

    Args:
        features: float32[rows, layout.width], finite; at least 9 steps.
        labels: int64[rows], positions in `classes`.
    """
    scaling = fit_scaling(features, layout)
    readings = scaling.sequence(scaling.apply(features))
    kernels = draw_kernels(readings, seed)
    readout, offset = fit_readout(kernels.states(readings), labels, len(classes), inverse_penalty=1.0)
    return Convolution1d(classes, positive, scaling, kernels, readout, offset)


def draw_kernels(readings: Float32, seed: int) -> Kernels:
    """Kernels for readings float32[rows, steps, channels], with biases from their responses."""
    rng = np.random.default_rng(seed)
    some = readings[rng.choice(len(readings), min(len(readings), 500), replace=False)]
    weights: dict[int, Float32] = {}
    bias: dict[int, Float32] = {}
    for dilation in _DILATIONS:
        drawn = rng.normal(size=(KERNELS, readings.shape[2], TAPS))
        # Half of the kernels see shapes alone; without their mean the other half would be blind to a level.
        drawn[::2] -= drawn[::2].mean(axis=2, keepdims=True)
        weights[dilation] = (drawn / np.sqrt(readings.shape[2])).astype(np.float32)
        responses = _responses(some, weights[dilation], dilation).transpose(1, 0, 2).reshape(KERNELS, -1)
        levels = rng.uniform(0.2, 0.8, KERNELS)
        bias[dilation] = np.array([-np.quantile(row, q) for row, q in zip(responses, levels, strict=True)], np.float32)
    return Kernels(weights, bias)


def channels_first(layout: Layout) -> list[NodeProto]:
    """From `z` to `channels_first`, float32[batch, channels, steps]; uses `channels_first_constants`."""
    whole = "z"
    nodes = []
    if layout.tabular:
        nodes = [helper.make_node("Slice", ["z", "first_reading", "row_end", "row_axis"], ["flat_readings"])]
        whole = "flat_readings"
    return [
        *nodes,
        helper.make_node("Reshape", [whole, "readings_shape"], ["readings"]),
        helper.make_node("Transpose", ["readings"], ["channels_first"], perm=[0, 2, 1]),
    ]


def channels_first_constants(layout: Layout) -> dict[str, Int64]:
    constants = {"readings_shape": np.array([-1, layout.steps, layout.channels], np.int64)}
    if layout.tabular:
        constants |= {
            "first_reading": np.array([layout.tabular], np.int64),
            "row_end": np.array([layout.width], np.int64),
            "row_axis": np.array([1], np.int64),
        }
    return constants


def _responses(readings: Float32, weights: Float32, dilation: int) -> Float32:
    """float32[batch, KERNELS, positions]."""
    reach = (TAPS - 1) * dilation + 1
    windows = sliding_window_view(readings, reach, axis=1)[..., ::dilation]  # [batch, positions, channels, TAPS]
    responses: Float32 = np.einsum("bpct,kct->bkp", windows, weights, optimize=True).astype(np.float32)
    return responses
