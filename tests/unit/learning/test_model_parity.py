"""Each ONNX graph against the Python source of its model, and every model against guessing."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from learning import telemetry, vision
from learning.train import _plant_rows, accuracy, train_plant, train_telemetry, train_vision
from udfs.route import ModelKey
from udfs.sessions import load_model

# float32 sums in another order; the largest difference seen is 2e-6.
TOLERANCE = 1e-5


class OneModel:
    def __init__(self, artifact: bytes) -> None:
        self.artifact = artifact

    def load_artifact(self, name: str, version: int) -> bytes:
        return self.artifact


def _stream_rows():
    """Rows of each stream, none of which trained anything."""
    return {
        "plant_health": _plant_rows(77, ("unseen",)),
        "telemetry_anomaly": telemetry.telemetry_rows(telemetry.load_telemetry().stream.slice(0, 3000)),
        "vision_digit": vision.vision_rows(vision.load_vision().stream),
    }


@pytest.fixture(scope="module")
def rows():
    return _stream_rows()


@pytest.fixture(scope="module")
def models():
    trained = [*train_plant(), *train_telemetry(), *train_vision()]
    return {f"{model.name}/{model.fitted.kind}": model for model in trained}


KINDS = [
    "plant_health/gradient_boosting",
    "plant_health/echo_state",
    "telemetry_anomaly/gradient_boosting",
    "telemetry_anomaly/echo_state",
    "vision_digit/convolution",
    "vision_digit/random_forest",
]


def test_these_are_all_the_models(models):
    assert list(models) == KINDS


@pytest.mark.parametrize("kind", KINDS)
def test_onnx_says_what_python_says(models, rows, kind):
    model = models[kind]
    features = rows[model.name].features
    served = load_model(ModelKey(model.name, 1), OneModel(model.artifact))
    answer = served.probabilities(features)
    expected = model.fitted.probabilities(features)
    assert np.abs(answer - expected).max() < TOLERANCE
    assert (answer.argmax(axis=1) == expected.argmax(axis=1)).all()
    assert answer.sum(axis=1) == pytest.approx(1.0, abs=1e-5)
    assert served.signature.classes == model.fitted.classes
    assert served.signature.positive == model.fitted.positive
    assert served.signature.n_features == len(model.feature_names)


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_is_answered_the_same_to_the_bit_whatever_batch_it_is_in(models, rows, kind):
    model = models[kind]
    features = rows[model.name].features[:512]
    served = load_model(ModelKey(model.name, 1), OneModel(model.artifact))
    whole = served.probabilities(features)
    for size in (1, 2, 3, 5, 8, 13, 31, 100, 511):
        for start in (0, 1, 7):
            part = np.ascontiguousarray(features[start : start + size])
            assert np.array_equal(served.probabilities(part), whole[start : start + size]), (size, start)


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_beats_both_guesses_on_the_stream_and_not_only_where_it_was_measured(models, rows, kind):
    from learning.labelled import baselines

    model = models[kind]
    stream = rows[model.name]
    reached = accuracy(model.fitted, stream)
    assert reached > baselines(stream.labels, stream.series).best + 0.01
    assert model.metrics["accuracy"] > max(model.metrics["baseline_majority_class"], model.metrics["baseline_last_value"])


def test_training_again_gives_the_same_bytes(models):
    again = {f"{model.name}/{model.fitted.kind}": model for model in [*train_plant(), *train_vision()]}
    for kind, model in again.items():
        assert hashlib.sha256(model.artifact).hexdigest() == hashlib.sha256(models[kind].artifact).hexdigest(), kind
