"""What an artifact must be before a session is built from it: plain, self-contained ONNX of a known signature.

The signature is the same for every model, so that the router can average any members:

    input   features       float32[batch, n_features]
    output  probabilities  float32[batch, n_classes]
    metadata_props         headrace.classes  = JSON list of class names, in the order of the columns of `probabilities`
                           headrace.positive = the class whose probability is the score (two-class models only)

A pickle executes code when it is read, so it is refused by its first bytes and never opened. Operators outside the ONNX
standard and tensors in files beside the model are refused too: they would load libraries or read paths of the author's
choice.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import onnx

from core.errors import InvalidInputError

MAX_BYTES = 256 * 1024 * 1024  # far above any model that answers within a stream's latency budget on a CPU
_STANDARD_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})


@dataclass(frozen=True)
class Signature:
    """The shape of a model's input, and what its columns of output mean."""

    n_features: int
    classes: tuple[str, ...]
    positive: str | None

    @property
    def positive_index(self) -> int | None:
        return None if self.positive is None else self.classes.index(self.positive)


def read_signature(artifact: bytes, *, name: str) -> Signature:
    """Check an artifact and read its signature.

    Raises:
        InvalidInputError: it is a pickle, too large, no ONNX, not self-contained, or of another signature.
    """
    if artifact[:1] == b"\x80" or artifact[:2] == b"PK":
        raise InvalidInputError(
            f"model `{name}` is a pickle or an archive, not ONNX",
            fix="Export it with skl2onnx, or with one of learning.export; a pickle can run code and is never opened.",
        )
    if len(artifact) > MAX_BYTES:
        raise InvalidInputError(f"model `{name}` has {len(artifact)} bytes, more than the {MAX_BYTES} that are accepted")
    try:
        model = onnx.load_model_from_string(artifact)
        onnx.checker.check_model(model)
    except Exception as problem:  # protobuf and the checker raise whatever they like on hostile bytes
        raise InvalidInputError(f"model `{name}` is no valid ONNX: {first_line(problem)}") from problem
    foreign = sorted({entry.domain for entry in model.opset_import} - _STANDARD_DOMAINS)
    if foreign or model.functions:
        raise InvalidInputError(f"model `{name}` uses custom operators ({', '.join(foreign) or 'local functions'})")
    if any(_has_external_data(graph) for graph in _graphs(model.graph)):
        raise InvalidInputError(f"model `{name}` keeps tensors in other files", fix="Export it as one self-contained file.")
    return _signature(model, name)


def first_line(problem: Exception) -> str:
    """What an exception says, short enough for a row's error."""
    return (str(problem).strip() or type(problem).__name__).splitlines()[0]


def _graphs(graph: Any) -> list[Any]:  # Any: onnx's protobuf classes are untyped
    """The graph and all graphs inside its If, Loop and Scan nodes."""
    inner = [
        found
        for node in graph.node
        for attribute in node.attribute
        for body in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs)
        for found in _graphs(body)
    ]
    return [graph, *inner]


def _has_external_data(graph: Any) -> bool:  # Any: as above
    constants = [attribute.t for node in graph.node for attribute in node.attribute if attribute.HasField("t")]
    return any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in [*graph.initializer, *constants])


def _signature(model: Any, name: str) -> Signature:  # Any: as above
    inputs = [value for value in model.graph.input if value.name not in {tensor.name for tensor in model.graph.initializer}]
    outputs = {value.name for value in model.graph.output}
    if [value.name for value in inputs] != ["features"] or "probabilities" not in outputs:
        raise InvalidInputError(
            f"model `{name}` has inputs {[value.name for value in inputs]} and outputs {sorted(outputs)}",
            fix="A model takes `features` float32[batch, n] and gives `probabilities` float32[batch, classes].",
        )
    tensor = inputs[0].type.tensor_type
    dims = tensor.shape.dim
    if tensor.elem_type != onnx.TensorProto.FLOAT or len(dims) != 2 or dims[0].dim_value or dims[1].dim_value < 1:
        raise InvalidInputError(f"input `features` of model `{name}` must be float32 of shape [batch, n] with a free batch")
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    try:
        classes = tuple(json.loads(metadata["headrace.classes"]))
    except (KeyError, ValueError) as problem:
        raise InvalidInputError(
            f"model `{name}` does not name its classes", fix="Set the metadata property headrace.classes to a JSON list."
        ) from problem
    positive = metadata.get("headrace.positive")
    if len(classes) < 2 or len(set(classes)) < len(classes) or not all(isinstance(label, str) for label in classes):
        raise InvalidInputError(f"model `{name}` needs two or more distinct class names, has `{list(classes)}`")
    if (len(classes) == 2) != (positive is not None) or (positive is not None and positive not in classes):
        raise InvalidInputError(f"model `{name}`: headrace.positive must name one class of two, is `{positive}`")
    return Signature(int(dims[1].dim_value), classes, positive)
