"""A registry in a folder of the test's own, a clock that moves when told, and models that are trained in milliseconds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.errors import UnavailableError
from core.fakes.clock import ManualClock
from core.settings import Settings
from iceberg.registry import ModelVersion
from learning.labelled import LabelledRows
from learning.models.trees import fit_gradient_boosting
from learning.promotion.lifecycle import Lifecycle, open_lifecycle
from learning.promotion.policy import Policy, parse_policy
from learning.train import evaluation_of

CLASSES = ("healthy", "faulty")
FEATURES = ("a", "b", "c")


def rows(seed: int, n: int = 400) -> LabelledRows:
    """Rows whose class is the sign of a sum, with a little noise."""
    random = np.random.default_rng(seed)
    features = random.normal(size=(n, 3)).astype(np.float32)
    labels = (features.sum(axis=1) + random.normal(0, 0.1, n) > 0).astype(np.int64)
    return LabelledRows(features, labels, CLASSES)


@contextmanager
def stopped() -> Iterator[Any]:
    raise UnavailableError("there is no stream database in a unit test")
    yield


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path)


@pytest.fixture
def lifecycle(settings: Settings, clock: ManualClock) -> Lifecycle:
    return open_lifecycle(settings, stopped, clock)


@pytest.fixture
def with_policy(settings: Settings, clock: ManualClock) -> Callable[[dict[str, Any]], Lifecycle]:
    """The same registry under other stages."""

    def open_it(stages: dict[str, Any]) -> Lifecycle:
        policy = parse_policy({"stages": stages}, where="test")
        return open_lifecycle(settings, stopped, clock, policy=Policy(stages={**policy.stages}))

    return open_it


@pytest.fixture
def add(lifecycle: Lifecycle) -> Callable[..., ModelVersion]:
    """Trains and registers a version of `pump`."""

    def register(seed: int = 0, rounds: int = 40, **changes: Any) -> ModelVersion:
        train, held_out = rows(seed), rows(seed + 1)
        fitted = fit_gradient_boosting(train.features, train.labels, CLASSES, positive="faulty", seed=seed, rounds=rounds)
        right = fitted.probabilities(held_out.features).argmax(axis=1) == held_out.labels
        given: dict[str, Any] = {
            "kind": fitted.kind,
            "feature_names": FEATURES,
            "labels": CLASSES,
            "metrics": {"accuracy": float(right.mean())},
            "tags": {},
            "training_data": {"source": "test", "seed": seed},
            "code_hash": "c0de",
            "duration": timedelta(seconds=1),
            "evaluation": evaluation_of(fitted, held_out),
        }
        artifact = changes.pop("artifact", None) or fitted.to_onnx()
        return lifecycle.registry.register(changes.pop("name", "pump"), artifact, **{**given, **changes})

    return register
