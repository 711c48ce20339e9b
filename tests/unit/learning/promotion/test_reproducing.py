"""A sealed version is trained again; whatever stands in the way is named."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from core.clock import SystemClock
from core.settings import Settings
from iceberg.registry import Registry, open_registry
from learning.promotion.reproducing import reproduce
from learning.tabular import load_tabular, train_tabular
from learning.train import TrainedModel, code_hash, environment, register, train_vision

CLOCK = SystemClock()


@pytest.fixture(scope="module")
def digits() -> TrainedModel:
    (model,) = train_vision(kinds=("random_forest",))
    return model


@pytest.fixture
def registry(settings: Settings) -> Registry:
    return open_registry(settings)


def test_a_version_comes_out_bit_for_bit(registry: Registry, digits: TrainedModel) -> None:
    register(registry, [digits])
    found = registry.must_get("vision_digit", 1)
    assert found.code_hash == code_hash()
    assert json.loads(found.tags["environment"]) == environment()
    report = reproduce(registry, found, clock=CLOCK)
    assert report["verdict"] == "bit_for_bit"
    assert report["reproduced"] is True
    assert report["difference"]["largest_probability_difference"] == 0.0
    assert report["difference"]["metrics"] == {}
    json.dumps(report)


def seal(registry: Registry, model: TrainedModel, artifact: bytes | None = None, **changes: object) -> None:
    registry.register(
        model.name,
        artifact or model.artifact,
        kind=str(changes.get("kind", model.fitted.kind)),
        feature_names=model.feature_names,
        labels=model.fitted.classes,
        metrics=model.metrics,
        tags={"environment": json.dumps(changes.get("environment", environment()))},
        training_data={**model.training_data, **changes.get("training_data", {})},  # type: ignore[dict-item]
        code_hash=str(changes.get("code_hash", code_hash())),
        duration=timedelta(seconds=1),
        evaluation=model.evaluation,
    )


def test_another_model_than_was_sealed_is_told_with_its_difference(registry: Registry, digits: TrainedModel) -> None:
    (other,) = train_vision(seed=5, kinds=("random_forest",))
    seal(registry, digits, other.artifact, code_hash="0ld", environment={**environment(), "scikit-learn": "0.1"})
    report = reproduce(registry, registry.must_get("vision_digit", 1), clock=CLOCK)
    assert report["verdict"] == "different"
    assert report["reproduced"] is False
    assert report["difference"]["largest_probability_difference"] > 0
    assert "code" in report["reasons"][0]
    assert any("scikit-learn was 0.1" in reason for reason in report["reasons"])


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"training_data": {"sha256": "another"}}, "training data is not what it was"),
        ({"training_data": {"source": "river.datasets.Nothing"}}, "no training that headrace can run"),
        ({"kind": "transformer"}, "code has changed"),
    ],
)
def test_what_cannot_be_reproduced_says_why(
    registry: Registry, digits: TrainedModel, changes: dict[str, object], says: str
) -> None:
    seal(registry, digits, **changes)
    report = reproduce(registry, registry.must_get("vision_digit", 1), clock=CLOCK)
    assert (report["reproduced"], report["verdict"]) == (False, "cannot")
    assert says in report["reasons"][0]


def test_a_model_of_a_file_needs_the_file(registry: Registry, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    lines = ["a,b,label"]
    lines += [f"{a:.4f},{b:.4f},{int(a + b > 0)}" for a, b in random.normal(size=(120, 2))]
    file = tmp_path / "rows.csv"
    file.write_text("\n".join(lines), encoding="utf-8")
    trained = train_tabular(load_tabular(file), name="churn", source="rows.csv", clock=CLOCK, trees=5, depth=3)
    register(registry, [trained])
    found = registry.must_get("churn", 1)
    assert "--data FILE" in reproduce(registry, found, clock=CLOCK)["reasons"][0]
    assert reproduce(registry, found, clock=CLOCK, data=file)["verdict"] == "bit_for_bit"
    file.write_text("\n".join(lines[:-1]), encoding="utf-8")
    assert "not what it was" in reproduce(registry, found, clock=CLOCK, data=file)["reasons"][0]
