"""A hybrid: tabular features, the states of a recurrent and those of a convolutional network, one trained readout.

    states = [ z of the tabular features | reservoir states | pooled convolution responses ]
    p      = softmax(states v + c)

Each part is the one of its own kind (`recurrent`, `convolution_1d`); they are joined where the readout is trained, so that one
member of a route sees what three would see apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import helper

from core.errors import InvalidInputError
from learning.models.convolution_1d import Kernels, channels_first, channels_first_constants, draw_kernels
from learning.models.kind import Float32, Int64, build_graph
from learning.models.readout import fit_readout, read_out, readout_nodes
from learning.models.recurrent import Reservoir, draw_reservoir, split_sizes
from learning.models.sequence import Layout, Scaling, fit_scaling


@dataclass(frozen=True)
class Hybrid:
    """A fitted network; its layout has tabular features and readings."""

    classes: tuple[str, ...]
    positive: str | None
    scaling: Scaling
    reservoir: Reservoir
    kernels: Kernels
    readout: Float32
    offset: Float32
    kind: str = "hybrid"

    def probabilities(self, features: Float32) -> Float32:
        return read_out(hybrid_states(features, self.scaling, self.reservoir, self.kernels), self.readout, self.offset)

    def to_onnx(self) -> bytes:
        layout = self.scaling.layout
        readings = [f"reading_{step}" for step in range(layout.steps)]
        nodes = [
            *self.scaling.nodes(),
            helper.make_node("Split", ["z", "parts"], ["tabular", *readings], axis=1),
            *self.reservoir.nodes(readings),
            *channels_first(layout),
            *self.kernels.nodes("channels_first"),
            helper.make_node("Concat", ["tabular", "recurrent_states", "convolution_states"], ["states"], axis=1),
            *readout_nodes("states"),
        ]
        weights: dict[str, npt.NDArray[Any]] = {  # Any: floats and sizes
            **self.scaling.weights(),
            **self.reservoir.weights(layout),
            **self.kernels.constants(),
            **channels_first_constants(layout),
            "parts": split_sizes(layout),
            "readout": self.readout,
            "offset": self.offset,
        }
        return build_graph(self.kind, nodes, weights, n_features=layout.width, classes=self.classes, positive=self.positive)


def fit_hybrid(
    features: Float32, labels: Int64, classes: tuple[str, ...], *, positive: str | None, layout: Layout, seed: int
) -> Hybrid:
    """Draw reservoir and kernels, and train the readout; arguments as `fit_recurrent`.

    Raises:
        InvalidInputError: the layout has no tabular features.
    """
    if not layout.tabular:
        raise InvalidInputError("a hybrid needs tabular features", fix="Train a `recurrent` or a `convolution_1d` model.")
    scaling = fit_scaling(features, layout)
    reservoir = draw_reservoir(layout.channels, seed)
    kernels = draw_kernels(scaling.sequence(scaling.apply(features)), seed)
    states = hybrid_states(features, scaling, reservoir, kernels)
    readout, offset = fit_readout(states, labels, len(classes), inverse_penalty=1.0)
    return Hybrid(classes, positive, scaling, reservoir, kernels, readout, offset)


def hybrid_states(features: Float32, scaling: Scaling, reservoir: Reservoir, kernels: Kernels) -> Float32:
    """What the readout sees: the standardised tabular features, then the states of both networks."""
    z = scaling.apply(features)
    readings = scaling.sequence(z)
    return np.hstack([z[:, : scaling.layout.tabular], reservoir.states(readings), kernels.states(readings)])
