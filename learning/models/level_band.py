"""A band for the level of each channel that widens with time: what a process that drifts may reach without being disturbed.

Each channel is a local level with noise, fitted on its training rows (by medians and quantiles: a fifth of the pairs of rows that
are compared may be disturbed):

    level_t = level_(t-1) + drift noise,  x_t = level_t + noise
    g0^2 = half the mean square of differences over `WINDOW` rows             (noise of the smoothed channel)
    gL^2 = half the mean square of differences over `LAG` rows                (noise and what drifted in LAG rows)
    drift a row = (gL^2 - g0^2) / LAG, at least 0
    scale(h) = sqrt(g0^2 + drift * (h + LAG))                                 h = rows since the training ended

    z_c = (x_c - median of the last LAG training rows) / scale(h)
    d   = (mean over the channels of z_c^4) ^ (1/4)                           one channel far out counts, eight a little out do not
    probability of `anomaly` = d^2 / (d^2 + limit^2)                          d = limit gives one half

A fixed band either misses what happens in a quiet channel or takes every drift for an anomaly. Features: the channels, smoothed
over `WINDOW` rows that end with the row itself, then the row's number since the recording began.

Source: Harvey, "Forecasting, structural time series models and the Kalman filter", 1989 (local level model, its forecast variance);
Matheron, "Principles of geostatistics", Economic Geology 58, 1963 (half mean squares of differences: the variogram).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import helper

from core.errors import InvalidInputError
from learning.models.kind import Float32, build_graph, positive_pair

Float64 = npt.NDArray[np.float64]

CLASSES = ("normal", "anomaly")
WINDOW = 10
LAG = 100
LIMIT = 2.5
_FARTHEST = 1000.0  # z beyond is cut: its fourth power still is a float32
_SHARE, _DEVIATIONS = 0.8, 1.2816  # so many of the absolute values of a normal variable lie below so many deviations


@dataclass(frozen=True)
class LevelBand:
    """Fitted constants, all float32[channels]; `trained_rows` is where the forecast begins."""

    centre: Float32
    noise: Float32
    drift: Float32
    trained_rows: int
    classes: tuple[str, ...] = CLASSES
    positive: str = "anomaly"
    kind: str = "level_band"

    def distances(self, features: Float32) -> Float32:
        """d of each row: float32[batch]; features float32[batch, channels + 1], the row's number last."""
        ahead = np.maximum(features[:, -1:] - np.float32(self.trained_rows), 0) + np.float32(LAG)
        scale = np.sqrt(self.noise + self.drift * ahead)
        z = np.clip((features[:, :-1] - self.centre) / scale, -_FARTHEST, _FARTHEST)
        distances: Float32 = np.sqrt(np.sqrt(((z * z) * (z * z)).mean(axis=1)))
        return distances

    def probabilities(self, features: Float32) -> Float32:
        d = (self.distances(features) / np.float32(LIMIT)) ** 2
        anomaly = d / (d + 1)
        return np.stack([1 - anomaly, anomaly], axis=1)

    def to_onnx(self) -> bytes:
        node = helper.make_node
        nodes = [
            node("Split", ["features", "parts"], ["levels", "row"], axis=1),
            node("Sub", ["row", "trained"], ["since"]),
            node("Relu", ["since"], ["forecast"]),
            node("Add", ["forecast", "lag"], ["ahead"]),
            node("Mul", ["ahead", "drift"], ["drifted"]),
            node("Add", ["drifted", "noise"], ["variance"]),
            node("Sqrt", ["variance"], ["scale"]),
            node("Sub", ["levels", "centre"], ["off"]),
            node("Div", ["off", "scale"], ["relative"]),
            node("Clip", ["relative", "nearest", "farthest"], ["z"]),
            node("Mul", ["z", "z"], ["squared"]),
            node("Mul", ["squared", "squared"], ["fourth"]),
            node("ReduceMean", ["fourth"], ["mean_fourth"], axes=[1], keepdims=1),
            node("Sqrt", ["mean_fourth"], ["root"]),
            node("Sqrt", ["root"], ["distance"]),
            node("Div", ["distance", "limit"], ["share"]),
            node("Mul", ["share", "share"], ["d"]),
            node("Add", ["d", "one"], ["d_and_one"]),
            node("Div", ["d", "d_and_one"], ["p"]),
            *positive_pair("p", self.classes, self.positive),
        ]
        weights: dict[str, npt.NDArray[Any]] = {  # Any: sizes are integers
            "parts": np.array([len(self.centre), 1], np.int64),
            "trained": np.array([self.trained_rows], np.float32),
            "lag": np.array([LAG], np.float32),
            "centre": self.centre,
            "noise": self.noise,
            "drift": self.drift,
            "nearest": np.array(-_FARTHEST, np.float32),
            "farthest": np.array(_FARTHEST, np.float32),
            "limit": np.array([LIMIT], np.float32),
            "one": np.ones(1, np.float32),
        }
        return build_graph(
            self.kind,
            nodes,
            weights,
            n_features=len(self.centre) + 1,
            classes=self.classes,
            positive=self.positive,
        )


def fit_level_band(readings: Float64) -> LevelBand:
    """Fit on the rows at the beginning of a recording, in their order.

    Args:
        readings: float64[rows, channels], finite; more than `LAG` + 2 `WINDOW` rows, most of them undisturbed.

    Raises:
        InvalidInputError: there are too few rows.
    """
    if len(readings) <= LAG + 2 * WINDOW:
        raise InvalidInputError(f"{len(readings)} rows are too few", fix=f"Train on more than {LAG + 2 * WINDOW}.")
    levels = trailing_means(readings)[WINDOW:]
    short = levels[WINDOW:] - levels[:-WINDOW]
    noise = (1.4826 * np.median(np.abs(short - np.median(short, axis=0)), axis=0)) ** 2 / 2
    # A channel that jumps between few values looks still for most of the time; its smallest jump is no news all the same.
    noise = np.maximum(noise, (_smallest_step(readings) / WINDOW) ** 2)
    long = np.abs(levels[LAG:] - levels[:-LAG])
    drift = np.maximum((np.quantile(long, _SHARE, axis=0) / _DEVIATIONS) ** 2 / 2 - noise, 0) / LAG
    centre = np.median(levels[-LAG:], axis=0)
    return LevelBand(centre.astype(np.float32), noise.astype(np.float32), drift.astype(np.float32), trained_rows=len(readings))


def trailing_means(readings: Float64) -> Float64:
    """The mean of each row and the `WINDOW` - 1 before it, as far as there are any: float64[rows, channels]."""
    total = np.cumsum(np.vstack([np.zeros(readings.shape[1]), readings]), axis=0)
    end = np.arange(1, len(readings) + 1)
    begin = np.maximum(end - WINDOW, 0)
    means: Float64 = (total[end] - total[begin]) / (end - begin)[:, None]
    return means


def _smallest_step(readings: Float64) -> Float64:
    """The smallest change from row to row in each channel; one hundredth of its size for a channel that never changes."""
    steps = np.abs(np.diff(readings, axis=0))
    smallest = np.where(steps > 0, steps, np.inf).min(axis=0)
    still = np.maximum(np.abs(readings).max(axis=0), 1.0) / 100
    steps_or_share: Float64 = np.where(np.isfinite(smallest), smallest, still)
    return steps_or_share
