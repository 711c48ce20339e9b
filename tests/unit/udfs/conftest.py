from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
from onnx import helper

from core.errors import NotFoundError
from learning.models.kind import build_graph
from udfs.sessions import ModelSessions


class Artifacts:
    """A registry in memory that counts what is fetched."""

    def __init__(self) -> None:
        self.stored: dict[tuple[str, int], bytes] = {}
        self.fetched: list[str] = []

    def load_artifact(self, name: str, version: int) -> bytes:
        self.fetched.append(f"{name}@{version}")
        if (name, version) not in self.stored:
            raise NotFoundError(f"model version `{name}@{version}` is not registered")
        return self.stored[name, version]


def linear_model(weights: np.ndarray, classes: tuple[str, ...], positive: str | None = None) -> bytes:
    """softmax(features @ weights), float32[n_features, n_classes]."""
    nodes = [
        helper.make_node("MatMul", ["features", "weights"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    stored = {"weights": weights.astype(np.float32)}
    return build_graph("linear", nodes, stored, n_features=len(weights), classes=classes, positive=positive)


def constant_model(probabilities: list[float], classes: tuple[str, ...], positive: str | None = None, n: int = 3) -> bytes:
    """The same probabilities for every row."""
    nodes = [
        helper.make_node("MatMul", ["features", "zeros"], ["nothing"]),
        helper.make_node("Add", ["nothing", "constant"], ["probabilities"]),
    ]
    stored = {"zeros": np.zeros((n, len(classes)), np.float32), "constant": np.array([probabilities], np.float32)}
    return build_graph("constant", nodes, stored, n_features=n, classes=classes, positive=positive)


def route_of(*members: tuple[str, int, str, float], strategy: str = "ensemble_mean", **fractions: float) -> str:
    """Route JSON from (model, version, role, weight); `fractions` by model."""
    listed = [
        {"model": model, "version": version, "role": role, "weight": weight, "fraction": fractions.get(model)}
        for model, version, role, weight in members
    ]
    return json.dumps({"strategy": strategy, "members": listed})


@pytest.fixture
def artifacts() -> Artifacts:
    """Two linear models of three features (`sick`, versions 1 and 2), and one that is a pickle."""
    rng = np.random.default_rng(0)
    found = Artifacts()
    for version in (1, 2):
        found.stored["sick", version] = linear_model(rng.normal(size=(3, 2)), ("no", "yes"), "yes")
    found.stored["pickled", 1] = b"\x80\x04."
    return found


@pytest.fixture
def sessions(artifacts: Artifacts) -> ModelSessions:
    return ModelSessions(artifacts)


@pytest.fixture
def make_linear() -> Callable[..., bytes]:
    return linear_model


@pytest.fixture
def make_constant() -> Callable[..., bytes]:
    return constant_model


@pytest.fixture
def make_route() -> Callable[..., str]:
    return route_of
