"""What every model kind offers, and the uniform shell of its ONNX graph (the signature of `udfs.artifact`)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from udfs.artifact import CLASSES, POSITIVE

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]

OPSET = 17
ML_OPSET = 3
IR_VERSION = 9  # what goes with opset 17 to 19; every onnxruntime since 1.16 reads it


class FittedModel(Protocol):
    """A trained model that Python and ONNX compute alike."""

    @property
    def kind(self) -> str:
        """What the model is, e.g. `gradient_boosting`."""
        ...

    @property
    def classes(self) -> tuple[str, ...]: ...

    @property
    def positive(self) -> str | None:
        """The class whose probability is the score; None for more than two classes."""
        ...

    def probabilities(self, features: Float32) -> npt.NDArray[np.floating]:
        """By the Python source: float32[batch, n_features] to [batch, n_classes]."""
        ...

    def to_onnx(self) -> bytes: ...


def build_graph(
    name: str,
    nodes: Sequence[NodeProto],
    weights: Mapping[str, npt.NDArray[Any]],  # Any: of any element type
    *,
    n_features: int,
    classes: tuple[str, ...],
    positive: str | None,
    ml_opset: int | None = None,
) -> bytes:
    """Serialize nodes that lead from `features` to `probabilities`; the same arguments give the same bytes.

    Args:
        ml_opset: of the operators for classical models, where one is used.
    """
    graph = helper.make_graph(
        list(nodes),
        name,
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", n_features])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", len(classes)])],
        [numpy_helper.from_array(np.ascontiguousarray(array), key) for key, array in weights.items()],
    )
    opsets = [helper.make_opsetid("", OPSET)] + ([helper.make_opsetid("ai.onnx.ml", ml_opset)] if ml_opset else [])
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
    return seal(model, classes, positive)


def seal(model: onnx.ModelProto, classes: tuple[str, ...], positive: str | None) -> bytes:
    """Write the class names into the model, check it and serialize it."""
    properties = {CLASSES: json.dumps(list(classes))} | ({POSITIVE: positive} if positive is not None else {})
    helper.set_model_props(model, properties)
    model.producer_name = "headrace"
    model.producer_version = ""
    onnx.checker.check_model(model)
    serialized: bytes = model.SerializeToString(deterministic=True)
    return serialized


def positive_pair(column: str, classes: tuple[str, ...], positive: str) -> list[NodeProto]:
    """Nodes from `column`, the positive class's probability as float32[batch, 1], to `probabilities`; uses the weight `one`."""
    order = ["not_positive", column] if classes.index(positive) == 1 else [column, "not_positive"]
    return [
        helper.make_node("Sub", ["one", column], ["not_positive"]),
        helper.make_node("Concat", order, ["probabilities"], axis=1),
    ]
