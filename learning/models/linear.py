"""Logistic regression behind its own standardisation, both inside the graph.

    p = softmax(((features - mean) / scale) W + b)

The graph is made of plain operators: the ONNX operator for linear classifiers gives another last bit in another batch.
"""

from __future__ import annotations

from dataclasses import dataclass

from learning.models.kind import Float32, Int64, build_graph
from learning.models.readout import fit_readout, read_out, readout_nodes
from learning.models.sequence import Layout, Scaling, fit_scaling


@dataclass(frozen=True)
class Linear:
    """A fitted model."""

    classes: tuple[str, ...]
    positive: str | None
    scaling: Scaling
    readout: Float32
    offset: Float32
    kind: str = "linear"

    def probabilities(self, features: Float32) -> Float32:
        return read_out(self.scaling.apply(features), self.readout, self.offset)

    def to_onnx(self) -> bytes:
        weights = {**self.scaling.weights(), "readout": self.readout, "offset": self.offset}
        return build_graph(
            self.kind,
            [*self.scaling.nodes(), *readout_nodes("z")],
            weights,
            n_features=self.scaling.layout.width,
            classes=self.classes,
            positive=self.positive,
        )


def fit_linear(
    features: Float32, labels: Int64, classes: tuple[str, ...], *, positive: str | None, inverse_penalty: float = 1.0
) -> Linear:
    """Fit scaling and weights.

    Args:
        features: float32[rows, n], finite.
        labels: int64[rows], positions in `classes`, each of which occurs.
        inverse_penalty: scikit-learn's `C`; smaller shrinks the weights more.
    """
    scaling = fit_scaling(features, Layout(steps=0, channels=1, tabular=features.shape[1]))
    readout, offset = fit_readout(scaling.apply(features), labels, len(classes), inverse_penalty)
    return Linear(classes, positive, scaling, readout, offset)
