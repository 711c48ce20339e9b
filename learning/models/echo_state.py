"""An echo-state network for one feature vector: a fixed random recurrent network that settles, and a trained readout.

`predict` is stateless, so a row is one vector and not a history. The reservoir therefore gets the vector as a constant drive
for a few steps, and the readout sees where it has gone:

    z = (features - mean) / scale                         standardised, in the graph
    x_0 = 0,  x_(t+1) = (1 - leak) x_t + leak tanh(z W_in + x_t W + b)          for `STEPS` steps
    p = sigmoid([z, x_1 .. x_STEPS] v + c)                v, c by logistic regression; nothing else is trained

W is sparse and scaled to spectral radius 0.9. With a constant drive this is a recurrent random-feature map: it bends the
feature space as a recurrent network does, and it has no memory of earlier windows. Memory must come in as features (lags
in SQL); then the same class takes them.

Source: Jaeger, "The 'echo state' approach to analysing and training recurrent neural networks", GMD Report 148, 2001.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from onnx import helper
from sklearn.linear_model import LogisticRegression

from learning.models.kind import Float32, Int64, build_graph, positive_pair

UNITS = 64
STEPS = 4
LEAK = 0.5
SPECTRAL_RADIUS = 0.9
_CONNECTED = 0.2


@dataclass(frozen=True)
class EchoState:
    """A fitted network for two classes. Weights are float32: `drive` [n, units], `recur` [units, units], `readout` [inputs, 1]."""

    classes: tuple[str, ...]
    positive: str
    mean: Float32
    scale: Float32
    drive: Float32
    recur: Float32
    bias: Float32
    readout: Float32
    offset: Float32
    kind: str = "echo_state"

    def probabilities(self, features: Float32) -> Float32:
        logit = self._states(features) @ self.readout + self.offset
        p = 1 / (1 + np.exp(-logit))
        return np.hstack([1 - p, p] if self.classes.index(self.positive) == 1 else [p, 1 - p])

    def _states(self, features: Float32) -> Float32:
        return reservoir_states(features, self.mean, self.scale, self.drive, self.recur, self.bias)

    def to_onnx(self) -> bytes:
        nodes = [
            helper.make_node("Sub", ["features", "mean"], ["centred"]),
            helper.make_node("Div", ["centred", "scale"], ["z"]),
            helper.make_node("MatMul", ["z", "drive"], ["driven_without_bias"]),
            helper.make_node("Add", ["driven_without_bias", "bias"], ["driven"]),
            helper.make_node("Tanh", ["driven"], ["bent_1"]),
            helper.make_node("Mul", ["bent_1", "leak"], ["x_1"]),
        ]
        for step in range(2, STEPS + 1):
            nodes += [
                helper.make_node("MatMul", [f"x_{step - 1}", "recur"], [f"recurrent_{step}"]),
                helper.make_node("Add", [f"recurrent_{step}", "driven"], [f"sum_{step}"]),
                helper.make_node("Tanh", [f"sum_{step}"], [f"bent_{step}"]),
                helper.make_node("Mul", [f"bent_{step}", "leak"], [f"new_{step}"]),
                helper.make_node("Mul", [f"x_{step - 1}", "keep"], [f"kept_{step}"]),
                helper.make_node("Add", [f"kept_{step}", f"new_{step}"], [f"x_{step}"]),
            ]
        nodes += [
            helper.make_node("Concat", ["z", *(f"x_{step}" for step in range(1, STEPS + 1))], ["states"], axis=1),
            helper.make_node("MatMul", ["states", "readout"], ["logit_without_offset"]),
            helper.make_node("Add", ["logit_without_offset", "offset"], ["logit"]),
            helper.make_node("Sigmoid", ["logit"], ["p"]),
            *positive_pair("p", self.classes, self.positive),
        ]
        weights = {
            "mean": self.mean,
            "scale": self.scale,
            "drive": self.drive,
            "recur": self.recur,
            "bias": self.bias,
            "readout": self.readout,
            "offset": self.offset,
            "leak": np.array([LEAK], np.float32),
            "keep": np.array([1 - LEAK], np.float32),
            "one": np.array([1], np.float32),
        }
        return build_graph(self.kind, nodes, weights, n_features=len(self.mean), classes=self.classes, positive=self.positive)


def fit_echo_state(features: Float32, labels: Int64, classes: tuple[str, ...], *, positive: str, seed: int) -> EchoState:
    """Draw the reservoir and train the readout.

    Args:
        features: float32[rows, n], finite.
        labels: int64[rows], positions in `classes`, which are two.
    """
    rng = np.random.default_rng(seed)
    mean, scale = features.mean(axis=0), np.maximum(features.std(axis=0), 1e-6)
    drive = rng.uniform(-1, 1, (features.shape[1], UNITS)).astype(np.float32)
    recur = rng.uniform(-1, 1, (UNITS, UNITS)) * (rng.random((UNITS, UNITS)) < _CONNECTED)
    recur = (recur * SPECTRAL_RADIUS / np.abs(np.linalg.eigvals(recur)).max()).astype(np.float32)
    bias = rng.uniform(-0.5, 0.5, UNITS).astype(np.float32)
    states = reservoir_states(features, mean, scale, drive, recur, bias)
    fitted = LogisticRegression(C=10.0, max_iter=500).fit(states, labels == classes.index(positive))
    readout, offset = fitted.coef_.T.astype(np.float32), fitted.intercept_.astype(np.float32)
    return EchoState(classes, positive, mean, scale, drive, recur, bias, readout, offset)


def reservoir_states(
    features: Float32, mean: Float32, scale: Float32, drive: Float32, recur: Float32, bias: Float32
) -> Float32:
    """The standardised features and the states of all steps: float32[batch, n + STEPS * units]."""
    z = (features - mean) / scale
    driven = z @ drive + bias
    state = np.zeros_like(driven)
    states = []
    for _ in range(STEPS):
        state = np.float32(1 - LEAK) * state + np.float32(LEAK) * np.tanh(driven + state @ recur)
        states.append(state)
    return np.hstack([z, *states])
