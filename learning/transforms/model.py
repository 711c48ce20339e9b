"""A model behind its transformations: one graph from the features of a row to the probabilities.

features --[ transformations ]--> transformed --[ the model's own graph ]--> probabilities
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, compose, helper, numpy_helper

from learning.models.kind import IR_VERSION, OPSET, FittedModel, Float32, seal
from learning.transforms.declaration import Declaration
from learning.transforms.fitted import METADATA, FittedTransforms, fit_transforms


@dataclass(frozen=True)
class Transformed:
    """A fitted model and what stands in front of it, in its graph."""

    transforms: FittedTransforms
    inner: FittedModel

    @property
    def kind(self) -> str:
        return self.inner.kind

    @property
    def classes(self) -> tuple[str, ...]:
        return self.inner.classes

    @property
    def positive(self) -> str | None:
        return self.inner.positive

    def probabilities(self, features: Float32) -> npt.NDArray[np.floating]:
        return self.inner.probabilities(self.transforms.apply(features))

    def to_onnx(self) -> bytes:
        """With `runs: stream` the model's own graph, whose features are the outputs of the view in SQL."""
        if self.transforms.runs == "stream":
            return with_transforms(onnx.load_model_from_string(self.inner.to_onnx()), self.transforms)
        model = onnx.load_model_from_string(self.inner.to_onnx())
        model = compose.add_prefix(model, "model_", rename_inputs=False, rename_outputs=False)
        front = _front(self.transforms, list(model.opset_import), model.ir_version)
        joined = compose.merge_models(front, _renamed_input(model), [("transformed", "model_features")])
        joined.graph.name = self.kind
        joined.ir_version = IR_VERSION
        sealed = onnx.load_model_from_string(seal(joined, self.classes, self.positive))
        return with_transforms(sealed, self.transforms)


def fit_behind(
    declared: Declaration, features: Float32, names: tuple[str, ...], fit: Callable[[Float32], FittedModel]
) -> Transformed:
    """Fit the transformations, then the model on what they give, both on the same training rows.

    Args:
        fit: makes a model of float32[rows, outputs].
    """
    transforms = fit_transforms(declared, features, names)
    return Transformed(transforms, fit(transforms.apply(features)))


def with_transforms(model: onnx.ModelProto, transforms: FittedTransforms) -> bytes:
    """The model with the parameters written into its metadata, where anybody can read them."""
    told = model.metadata_props.add()
    told.key, told.value = METADATA, transforms.to_json()
    serialized: bytes = model.SerializeToString(deterministic=True)
    return serialized


def read_transforms(artifact: bytes) -> FittedTransforms | None:
    """What stands in front of a served model; None where nothing does."""
    told = {entry.key: entry.value for entry in onnx.load_model_from_string(artifact).metadata_props}
    return FittedTransforms.from_json(told[METADATA]) if METADATA in told else None


def _front(transforms: FittedTransforms, opsets: list[onnx.OperatorSetIdProto], ir_version: int) -> onnx.ModelProto:
    nodes, weights = transforms.nodes()
    graph = helper.make_graph(
        nodes,
        "transforms",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", len(transforms.features)])],
        [helper.make_tensor_value_info("transformed", TensorProto.FLOAT, ["batch", len(transforms.outputs)])],
        [numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in weights.items()],
    )
    assert any(each.domain == "" and each.version == OPSET for each in opsets), "models are exported for one opset"
    return helper.make_model(graph, opset_imports=opsets, ir_version=ir_version)


def _renamed_input(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model's graph with its input `features` called `model_features`."""
    for node in model.graph.node:
        for i, name in enumerate(node.input):
            if name == "features":
                node.input[i] = "model_features"
    model.graph.input[0].name = "model_features"
    return model
