"""How a stretch of readings lies in one feature vector, and its standardisation inside the graph.

    features = [ tabular | reading 0 | reading 1 | ... ]       oldest reading first, a reading is its channels side by side

In SQL: `array_cat(ARRAY[..tabular..], array_agg(.. ORDER BY event_time))`. `predict` keeps nothing between rows, so what a
recurrent or convolutional model is to remember comes with the row.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from onnx import NodeProto, helper

from core.errors import InvalidInputError
from learning.models.kind import Float32


@dataclass(frozen=True)
class Layout:
    """Sizes of the parts of a feature vector."""

    steps: int
    channels: int
    tabular: int = 0

    @property
    def width(self) -> int:
        return self.tabular + self.steps * self.channels

    def check(self, features: Float32) -> None:
        """Raises InvalidInputError if the matrix is of another width."""
        if features.shape[1] != self.width:
            raise InvalidInputError(
                f"{features.shape[1]} features, not {self.tabular} + {self.steps} x {self.channels}",
                fix="Name the layout that the rows have.",
            )


@dataclass(frozen=True)
class Scaling:
    """Mean and scale of each tabular feature and of each channel, the latter the same at every step."""

    layout: Layout
    mean: Float32
    scale: Float32

    def apply(self, features: Float32) -> Float32:
        """float32[batch, width], standardised."""
        z: Float32 = (features - self.mean) / self.scale
        return z

    def sequence(self, z: Float32) -> Float32:
        """The readings of standardised rows: float32[batch, steps, channels]."""
        return z[:, self.layout.tabular :].reshape(-1, self.layout.steps, self.layout.channels)

    def weights(self) -> dict[str, Float32]:
        return {"mean": self.mean, "scale": self.scale}

    @staticmethod
    def nodes() -> list[NodeProto]:
        """From `features` to `z`."""
        return [
            helper.make_node("Sub", ["features", "mean"], ["centred"]),
            helper.make_node("Div", ["centred", "scale"], ["z"]),
        ]


def fit_scaling(features: Float32, layout: Layout) -> Scaling:
    """Measure on training rows: float32[rows, layout.width]. A constant is left as it is but for its mean."""
    layout.check(features)
    wide = features.astype(np.float64)
    parts = [(wide[:, : layout.tabular], 1)]
    if layout.steps:
        parts.append((wide[:, layout.tabular :].reshape(-1, layout.channels), layout.steps))
    mean = np.concatenate([np.tile(part.mean(axis=0), times) for part, times in parts])
    scale = np.concatenate([np.tile(part.std(axis=0), times) for part, times in parts])
    scale[scale < 1e-6 * np.maximum(1.0, np.abs(mean))] = 1.0
    return Scaling(layout, mean.astype(np.float32), scale.astype(np.float32))
