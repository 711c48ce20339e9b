"""What an artifact must be before a session is built from it: plain ONNX (`iceberg.onnx_guard`) of one signature.

The signature is the same for every model, so that the router can average any members:

    input   features       float32[batch, n_features]
    output  probabilities  float32[batch, n_classes]
    metadata_props         headrace.classes  = JSON list of class names, in the order of the columns of `probabilities`
                           headrace.positive = the class whose probability is the score (two-class models only)
                           headrace.background = base64 of float32[rows, n_features], little-endian: typical rows that
                                                explanations compare with (may be absent)

Other outputs may stand beside `probabilities`; they are not computed.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx

from core.errors import InvalidInputError
from iceberg.onnx_guard import Tensor, check_onnx

CLASSES = "headrace.classes"
POSITIVE = "headrace.positive"
BACKGROUND = "headrace.background"


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
    graph = check_onnx(artifact, where=name)
    if [value.name for value in graph.inputs] != ["features"] or "probabilities" not in {value.name for value in graph.outputs}:
        raise InvalidInputError(
            f"model has inputs {[value.name for value in graph.inputs]} and outputs {[value.name for value in graph.outputs]}",
            where=name,
            fix="A model takes `features` float32[batch, n] and gives `probabilities` float32[batch, classes].",
        )
    classes, positive = _read_classes(artifact, name)
    return Signature(_width(graph.inputs[0], name), classes, positive)


def read_background(artifact: bytes, signature: Signature, *, name: str) -> npt.NDArray[np.float32] | None:
    """The rows that explanations compare with: float32[rows, n_features], None where the artifact carries none.

    Raises:
        InvalidInputError: they are no such array.
    """
    told = _metadata(artifact).get(BACKGROUND)
    if told is None:
        return None
    try:
        values = np.frombuffer(base64.b64decode(told, validate=True), "<f4")
        rows = values.reshape(-1, signature.n_features)
    except (binascii.Error, ValueError) as problem:
        raise InvalidInputError(
            f"{BACKGROUND} is no base64 of float32 rows of {signature.n_features}: {problem}", where=name
        ) from problem
    if not len(rows) or not np.isfinite(rows).all():
        raise InvalidInputError(f"{BACKGROUND} has no rows, or not only finite ones", where=name)
    return rows.astype(np.float32)


def first_line(problem: Exception) -> str:
    """What an exception says, short enough for a row's error."""
    return (str(problem).strip() or type(problem).__name__).splitlines()[0]


def _width(features: Tensor, name: str) -> int:
    if features.dtype != "float32" or len(features.shape) != 2 or features.shape[0] != -1 or features.shape[1] < 1:
        raise InvalidInputError(
            f"input `features` is {features.dtype}{list(features.shape)}",
            where=name,
            fix="Export it as float32[batch, n] with a free batch dimension and a fixed n.",
        )
    return features.shape[1]


def _read_classes(artifact: bytes, name: str) -> tuple[tuple[str, ...], str | None]:
    metadata = _metadata(artifact)
    try:
        classes = json.loads(metadata[CLASSES])
    except (KeyError, ValueError) as problem:
        raise InvalidInputError(
            "model does not name its classes", where=name, fix=f"Set the metadata property {CLASSES} to a JSON list of names."
        ) from problem
    if not isinstance(classes, list) or not all(isinstance(label, str) for label in classes):
        raise InvalidInputError(f"{CLASSES} is no list of names but `{metadata[CLASSES]}`", where=name)
    if len(classes) < 2 or len(set(classes)) < len(classes):
        raise InvalidInputError(f"model needs two or more distinct classes, has `{metadata[CLASSES]}`", where=name)
    positive = metadata.get(POSITIVE)
    if (len(classes) == 2) != (positive in classes) or (len(classes) > 2 and positive is not None):
        raise InvalidInputError(
            f"{POSITIVE} is `{positive}`", where=name, fix="It names one class of a two-class model, and is absent from others."
        )
    return tuple(classes), positive


def _metadata(artifact: bytes) -> dict[str, str]:
    return {entry.key: entry.value for entry in onnx.load_model_from_string(artifact).metadata_props}
