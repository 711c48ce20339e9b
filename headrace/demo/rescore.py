"""Predicts again, from the features and the row's own route, by nothing but `onnxruntime` and the registry's bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort


class Artifacts(Protocol):
    """Where the models' bytes come from: the registry."""

    def load_artifact(self, name: str, version: int) -> bytes: ...


@dataclass(frozen=True)
class RouteMember:
    """A model of a tenant's route with its relative weight."""

    model: str
    version: int
    weight: float


@dataclass(frozen=True)
class Answer:
    """What must be predicted; both None where the features cannot be scored."""

    label: str | None
    score: float | None


def rescore(features: Sequence[Sequence[float | None]], members: Sequence[RouteMember], artifacts: Artifacts) -> list[Answer]:
    """Score rows by the weighted mean of the members' probabilities.

    Args:
        features: one row each; a row with a null is not scored.
        members: the route, whose weights need not sum to 1.
    """
    whole = [i for i, row in enumerate(features) if all(value is not None for value in row)]
    answers = [Answer(None, None)] * len(features)
    if not whole:
        return answers
    batch = np.array([features[i] for i in whole], np.float32)
    total = sum(member.weight for member in members)
    mean: npt.NDArray[np.float64] | None = None
    classes: list[str] = []
    positive: str | None = None
    for member in members:
        artifact = artifacts.load_artifact(member.model, member.version)
        names = _metadata(artifact)
        own = ort.InferenceSession(artifact).run(["probabilities"], {"features": batch})[0].astype(np.float64)
        if mean is None:
            classes, positive = json.loads(names["headrace.classes"]), names.get("headrace.positive")
            mean = np.zeros_like(own)
        order = [json.loads(names["headrace.classes"]).index(label) for label in classes]
        mean += member.weight / total * own[:, order]
    assert mean is not None
    best = mean.argmax(axis=1)
    column = np.full(len(best), classes.index(positive)) if positive is not None else best
    scores = mean[np.arange(len(best)), column]
    for position, label, score in zip(whole, best, scores, strict=True):
        answers[position] = Answer(classes[label], float(score))
    return answers


def _metadata(artifact: bytes) -> Mapping[str, str]:
    return {entry.key: entry.value for entry in onnx.load_model_from_string(artifact).metadata_props}
