"""The band that widens with time: its graph, what it takes for normal and what not."""

from __future__ import annotations

import numpy as np
import pytest

from core.errors import InvalidInputError
from learning.models.level_band import WINDOW, LevelBand, fit_level_band, trailing_means
from udfs.route import ModelKey
from udfs.sessions import load_model


class OneModel:
    def __init__(self, artifact: bytes) -> None:
        self.artifact = artifact

    def load_artifact(self, name: str, version: int) -> bytes:
        return self.artifact


def _readings(seed: int, rows: int = 1000) -> np.ndarray:
    """A quiet channel, one that drifts as a random walk, one that jumps between two values, and one that never changes."""
    rng = np.random.default_rng(seed)
    quiet = 5 + rng.normal(size=rows)
    drifting = 80 + np.cumsum(rng.normal(scale=0.05, size=rows)) + rng.normal(scale=0.1, size=rows)
    jumping = 32.0 + (rng.random(rows) < 0.01)
    return np.column_stack([quiet, drifting, jumping, np.zeros(rows)])


def _features(readings: np.ndarray) -> np.ndarray:
    return np.column_stack([trailing_means(readings), np.arange(1, len(readings) + 1)]).astype(np.float32)


def _alarms(model: LevelBand, readings: np.ndarray) -> np.ndarray:
    return model.probabilities(_features(readings))[:, 1] > 0.5


def test_onnx_says_what_python_says() -> None:
    model = fit_level_band(_readings(0)[:400])
    features = _features(_readings(1))
    served = load_model(ModelKey("band", 1), OneModel(model.to_onnx()))
    assert np.abs(served.probabilities(features) - model.probabilities(features)).max() < 1e-5


def test_a_process_that_only_drifts_raises_few_alarms() -> None:
    shares = [_alarms(fit_level_band(readings[:400]), readings)[400:].mean() for readings in map(_readings, range(20))]
    assert np.mean(shares) < 0.05


def test_a_fixed_band_would_have_raised_many() -> None:
    """What the widening is for: the same constants without it."""
    shares = []
    for seed in range(20):
        readings = _readings(seed)
        model = fit_level_band(readings[:400])
        fixed = LevelBand(model.centre, model.noise, np.zeros_like(model.drift), model.trained_rows)
        shares.append(_alarms(fixed, readings)[400:].mean())
    assert np.mean(shares) > 0.3


@pytest.mark.parametrize(("channel", "shift"), [(0, 4.0), (1, 8.0), (2, 5.0), (3, 1.0)])
def test_a_step_in_one_channel_is_an_alarm(channel: int, shift: float) -> None:
    readings = _readings(3)
    readings[600:, channel] += shift
    alarms = _alarms(fit_level_band(readings[:400]), readings)
    assert alarms[600 + WINDOW :].mean() > 0.9
    assert alarms[400:600].mean() < 0.1


def test_anomalous_rows_in_the_training_part_do_not_blind_it() -> None:
    disturbed = _readings(5)
    disturbed[150:165, 0] += 30.0
    disturbed[700:, 0] += 5.0
    assert _alarms(fit_level_band(disturbed[:400]), disturbed)[720:].mean() > 0.9


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="too few"):
        fit_level_band(_readings(0)[:120])
