"""Typical rows, kept in a model's artifact: what explanations compare a row with (see `udfs.explanations.sampled_shap`)."""

from __future__ import annotations

import base64

import numpy as np
import numpy.typing as npt
import onnx

from core.errors import InvalidInputError
from udfs.artifact import BACKGROUND

ROWS = 32  # an explanation asks the model 2 n times for each of them


def with_background(artifact: bytes, features: npt.NDArray[np.float32], *, seed: int, rows: int = ROWS) -> bytes:
    """The same model with rows of its training data in its metadata; the same arguments give the same bytes.

    Args:
        artifact: an ONNX model.
        features: float32[rows, n], the training rows.
        seed: decides which of them are taken.
        rows: how many.

    Raises:
        InvalidInputError: there are no training rows.
    """
    if not len(features):
        raise InvalidInputError("there are no rows to take a background from")
    chosen = np.random.default_rng(seed).permutation(len(features))[:rows]
    model = onnx.load_model_from_string(artifact)
    kept = [entry for entry in model.metadata_props if entry.key != BACKGROUND]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    told = model.metadata_props.add()
    told.key = BACKGROUND
    told.value = base64.b64encode(features[np.sort(chosen)].astype("<f4").tobytes()).decode()
    serialized: bytes = model.SerializeToString(deterministic=True)
    return serialized
