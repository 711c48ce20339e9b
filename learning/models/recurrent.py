"""A recurrent network over a stretch of readings: an echo-state reservoir with memory, and a trained readout.

    x_0 = 0,  x_t = (1 - leak) x_(t-1) + leak tanh(u_t W_in + x_(t-1) W + b)         for each reading u_t, oldest first
    states = [x_T, mean of x_1 .. x_T]
    p = softmax(states v + c)                                 v, c by logistic regression; nothing else is trained

W is sparse and scaled to spectral radius 0.9, so what happened fades over some ten steps. In the graph the steps are unrolled:
their number is fixed, and every operator is of the plain kind that is the same on every runtime.

Source: Jaeger, "The 'echo state' approach to analysing and training recurrent neural networks", GMD Report 148, 2001;
the mean state as in Bianchi et al., "Reservoir computing approaches for representation and classification of multivariate
time series", IEEE TNNLS 32(5), 2021.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import NodeProto, helper

from learning.models.kind import Float32, Int64, build_graph
from learning.models.readout import fit_readout, read_out, readout_nodes
from learning.models.sequence import Layout, Scaling, fit_scaling

UNITS = 48
LEAK = 0.4
SPECTRAL_RADIUS = 0.9
_CONNECTED = 0.2


@dataclass(frozen=True)
class Reservoir:
    """The fixed part: `drive` float32[channels, UNITS], `recur` float32[UNITS, UNITS], `bias` float32[UNITS]."""

    drive: Float32
    recur: Float32
    bias: Float32

    def states(self, readings: Float32) -> Float32:
        """float32[batch, steps, channels] to float32[batch, 2 * UNITS]: the last state and the mean one."""
        state: Float32 = np.zeros((len(readings), UNITS), np.float32)
        total = np.zeros_like(state)
        for step in range(readings.shape[1]):
            bent = np.tanh(readings[:, step] @ self.drive + state @ self.recur + self.bias)
            state = (np.float32(1 - LEAK) * state + np.float32(LEAK) * bent).astype(np.float32, copy=False)
            total = total + state
        return np.hstack([state, total / np.float32(readings.shape[1])])

    def weights(self, layout: Layout) -> Mapping[str, Float32]:
        return {
            "drive": self.drive,
            "recur": self.recur,
            "reservoir_bias": self.bias,
            "leak": np.array([LEAK], np.float32),
            "keep": np.array([1 - LEAK], np.float32),
            "step_count": np.array([layout.steps], np.float32),
        }

    @staticmethod
    def nodes(readings: list[str]) -> list[NodeProto]:
        """From one float32[batch, channels] a step to `recurrent_states`."""
        nodes: list[NodeProto] = []
        for step, reading in enumerate(readings):
            nodes += [
                helper.make_node("MatMul", [reading, "drive"], [f"driven_{step}"]),
                helper.make_node("Add", [f"driven_{step}", "reservoir_bias"], [f"biased_{step}"]),
            ]
            summed = f"biased_{step}"
            if step:
                nodes += [
                    helper.make_node("MatMul", [f"x_{step - 1}", "recur"], [f"recurrent_{step}"]),
                    helper.make_node("Add", [f"recurrent_{step}", f"biased_{step}"], [f"sum_{step}"]),
                ]
                summed = f"sum_{step}"
            nodes += [
                helper.make_node("Tanh", [summed], [f"bent_{step}"]),
                helper.make_node("Mul", [f"bent_{step}", "leak"], [f"new_{step}" if step else "x_0"]),
            ]
            if step:
                nodes += [
                    helper.make_node("Mul", [f"x_{step - 1}", "keep"], [f"kept_{step}"]),
                    helper.make_node("Add", [f"kept_{step}", f"new_{step}"], [f"x_{step}"]),
                ]
        last = len(readings) - 1
        return [
            *nodes,
            helper.make_node("Sum", [f"x_{step}" for step in range(last + 1)], ["state_total"]),
            helper.make_node("Div", ["state_total", "step_count"], ["state_mean"]),
            helper.make_node("Concat", [f"x_{last}", "state_mean"], ["recurrent_states"], axis=1),
        ]


@dataclass(frozen=True)
class Recurrent:
    """A fitted network."""

    classes: tuple[str, ...]
    positive: str | None
    scaling: Scaling
    reservoir: Reservoir
    readout: Float32
    offset: Float32
    kind: str = "recurrent"

    def probabilities(self, features: Float32) -> Float32:
        states = self.reservoir.states(self.scaling.sequence(self.scaling.apply(features)))
        return read_out(states, self.readout, self.offset)

    def to_onnx(self) -> bytes:
        layout = self.scaling.layout
        readings = [f"reading_{step}" for step in range(layout.steps)]
        nodes = [
            *self.scaling.nodes(),
            helper.make_node("Split", ["z", "parts"], [*(["tabular"] if layout.tabular else []), *readings], axis=1),
            *self.reservoir.nodes(readings),
            *readout_nodes("recurrent_states"),
        ]
        weights: dict[str, npt.NDArray[Any]] = {  # Any: floats and sizes
            **self.scaling.weights(),
            **self.reservoir.weights(layout),
            "parts": split_sizes(layout),
            "readout": self.readout,
            "offset": self.offset,
        }
        return build_graph(self.kind, nodes, weights, n_features=layout.width, classes=self.classes, positive=self.positive)


def fit_recurrent(
    features: Float32, labels: Int64, classes: tuple[str, ...], *, positive: str | None, layout: Layout, seed: int
) -> Recurrent:
    """Draw the reservoir and train the readout.

    Args:
        features: float32[rows, layout.width], finite.
        labels: int64[rows], positions in `classes`.
    """
    scaling = fit_scaling(features, layout)
    reservoir = draw_reservoir(layout.channels, seed)
    states = reservoir.states(scaling.sequence(scaling.apply(features)))
    readout, offset = fit_readout(states, labels, len(classes), inverse_penalty=10.0)
    return Recurrent(classes, positive, scaling, reservoir, readout, offset)


def draw_reservoir(channels: int, seed: int) -> Reservoir:
    rng = np.random.default_rng(seed)
    recur = rng.uniform(-1, 1, (UNITS, UNITS)) * (rng.random((UNITS, UNITS)) < _CONNECTED)
    recur *= SPECTRAL_RADIUS / np.abs(np.linalg.eigvals(recur)).max()
    drive = rng.uniform(-1, 1, (channels, UNITS)) / np.sqrt(channels)
    return Reservoir(drive.astype(np.float32), recur.astype(np.float32), rng.uniform(-0.5, 0.5, UNITS).astype(np.float32))


def split_sizes(layout: Layout) -> Int64:
    """Widths of the parts of a feature vector, a part a step."""
    return np.array([*([layout.tabular] if layout.tabular else []), *[layout.channels] * layout.steps], np.int64)
