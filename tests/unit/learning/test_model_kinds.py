"""Every model kind: ONNX says what Python says, to the bit whatever the batch, and the model is worth something on unseen data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from core.errors import InvalidInputError
from learning import plant, plant_sequences
from learning.labelled import LabelledRows, baselines
from learning.models.convolution_1d import fit_convolution_1d
from learning.models.hybrid import fit_hybrid
from learning.models.isolation_forest import fit_isolation_forest
from learning.models.kind import FittedModel
from learning.models.linear import fit_linear
from learning.models.principal_residual import fit_residual
from learning.models.recurrent import fit_recurrent
from learning.models.sequence import Layout
from learning.models.trees import fit_gradient_boosting, fit_random_forest
from udfs.route import ModelKey
from udfs.sessions import LoadedModel, load_model

TOLERANCE = 1e-5  # float32 sums in another order
_DAY = datetime(2025, 1, 1, tzinfo=UTC)
LAYOUT = plant_sequences.LAYOUT
_POSITIVE = "faulty"


@dataclass(frozen=True)
class OneModel:
    artifact: bytes

    def load_artifact(self, name: str, version: int) -> bytes:
        return self.artifact


def _rows(seed: int, tenant: str) -> LabelledRows:
    return plant_sequences.sequence_rows(plant.simulate_plant(seed, _DAY, timedelta(minutes=40), tenants=(tenant,)))


@pytest.fixture(scope="module")
def train() -> LabelledRows:
    return _rows(11, "training")


@pytest.fixture(scope="module")
def unseen() -> LabelledRows:
    return _rows(12, "unseen")


def _labelled(fit: Callable[..., FittedModel], **more: object) -> Callable[[LabelledRows], FittedModel]:
    return lambda rows: fit(rows.features, rows.labels, rows.classes, positive=_POSITIVE, seed=0, **more)


KINDS: dict[str, Callable[[LabelledRows], FittedModel]] = {
    "linear": lambda rows: fit_linear(rows.features, rows.labels, rows.classes, positive=_POSITIVE),
    "gradient_boosting": _labelled(fit_gradient_boosting, rounds=30),
    "random_forest": _labelled(fit_random_forest, trees=30),
    "recurrent": _labelled(fit_recurrent, layout=LAYOUT),
    "convolution_1d": _labelled(fit_convolution_1d, layout=LAYOUT),
    "hybrid": _labelled(fit_hybrid, layout=LAYOUT),
    "isolation_forest": lambda rows: fit_isolation_forest(
        rows.features[rows.labels == 0, : LAYOUT.tabular], plant.CLASSES, positive=_POSITIVE, seed=0
    ),
    "principal_residual": lambda rows: fit_residual(rows.features[rows.labels == 0, : LAYOUT.tabular]),
}
_UNLABELLED = ("isolation_forest", "principal_residual")


@pytest.fixture(scope="module")
def fitted(train: LabelledRows) -> dict[str, FittedModel]:
    return {kind: fit(train) for kind, fit in KINDS.items()}


def _features(kind: str, rows: LabelledRows) -> np.ndarray:
    return np.ascontiguousarray(rows.features[:, : LAYOUT.tabular] if kind in _UNLABELLED else rows.features)


def _served(model: FittedModel) -> LoadedModel:
    return load_model(ModelKey(model.kind, 1), OneModel(model.to_onnx()))


@pytest.mark.parametrize("kind", KINDS)
def test_onnx_says_what_python_says(kind: str, fitted: dict[str, FittedModel], unseen: LabelledRows) -> None:
    model = fitted[kind]
    assert model.kind == kind
    features = _features(kind, unseen)
    answer, expected = _served(model).probabilities(features), model.probabilities(features)
    assert np.abs(answer - expected).max() < TOLERANCE
    assert answer.sum(axis=1) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_is_answered_the_same_to_the_bit_whatever_batch_it_is_in(
    kind: str, fitted: dict[str, FittedModel], unseen: LabelledRows
) -> None:
    served, features = _served(fitted[kind]), _features(kind, unseen)[:300]
    whole = served.probabilities(features)
    for start, size in ((0, 1), (1, 2), (5, 7), (0, 64), (17, 200)):
        part = np.ascontiguousarray(features[start : start + size])
        assert np.array_equal(served.probabilities(part), whole[start : start + size]), (start, size)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in _UNLABELLED])
def test_a_labelled_kind_beats_the_majority_on_a_fleet_it_never_saw(
    kind: str, fitted: dict[str, FittedModel], unseen: LabelledRows
) -> None:
    model = fitted[kind]
    hits = model.probabilities(unseen.features).argmax(axis=1) == unseen.labels
    assert hits.mean() > baselines(unseen.labels, unseen.series).majority_class + 0.03


@pytest.mark.parametrize("kind", _UNLABELLED)
def test_an_unlabelled_kind_ranks_faults_above_normal_rows(
    kind: str, fitted: dict[str, FittedModel], unseen: LabelledRows
) -> None:
    scores = fitted[kind].probabilities(_features(kind, unseen))[:, 1]
    faulty, normal = scores[unseen.labels == 1], scores[unseen.labels == 0]
    ranks = (faulty[:, None] > normal[None, :]).mean()  # the area under the ROC curve
    assert ranks > 0.75


@pytest.mark.parametrize("kind", KINDS)
def test_training_again_gives_the_same_bytes(kind: str, fitted: dict[str, FittedModel], train: LabelledRows) -> None:
    assert KINDS[kind](train).to_onnx() == fitted[kind].to_onnx()


def test_a_recurrent_model_remembers_what_the_last_reading_does_not_tell() -> None:
    """Whether the sum of early readings is positive: the last ones are noise of the same kind, so only memory can know."""
    rng = np.random.default_rng(3)
    layout = Layout(steps=12, channels=1)
    features = rng.normal(size=(3000, layout.width)).astype(np.float32)
    labels = (features[:, 6:9].sum(axis=1) > 0).astype(np.int64)
    model = fit_recurrent(features[:2000], labels[:2000], ("no", "yes"), positive="yes", layout=layout, seed=0)
    hits = model.probabilities(features[2000:]).argmax(axis=1) == labels[2000:]
    assert hits.mean() > 0.8


def test_rows_of_another_layout_are_refused() -> None:
    rows = np.zeros((10, 7), np.float32)
    with pytest.raises(InvalidInputError, match="7 features, not 1 \\+ 4 x 2"):
        fit_recurrent(rows, np.arange(10) % 2, ("a", "b"), positive="b", layout=Layout(4, 2, 1), seed=0)


def test_a_hybrid_without_tabular_features_is_refused() -> None:
    rows = np.zeros((10, 8), np.float32)
    with pytest.raises(InvalidInputError, match="tabular"):
        fit_hybrid(rows, np.arange(10) % 2, ("a", "b"), positive="b", layout=Layout(4, 2), seed=0)
