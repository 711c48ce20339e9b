"""(x - shift) / scale: z_score takes mean and standard deviation of the training rows, min_max their least value and their span.

A column that was constant in training is shifted and no more. `clip` of min_max keeps what lies outside of the training rows at 0
and 1. Fitted by scikit-learn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from learning.models.kind import Float32
from learning.transforms.step import GraphPart, Parameters, floats, numbers

Method = Literal["z_score", "min_max"]
_PREFIX = {"z_score": "z", "min_max": "unit"}


@dataclass(frozen=True)
class Normalize:
    """Shifted and scaled inputs."""

    inputs: tuple[str, ...]
    method: Method
    shift: tuple[float, ...]
    scale: tuple[float, ...]
    clip: bool = False
    kind: str = "normalize"

    @property
    def outputs(self) -> tuple[str, ...]:
        return tuple(f"{_PREFIX[self.method]}_{name}" for name in self.inputs)

    def parameters(self) -> Parameters:
        return {"method": self.method, "shift": list(self.shift), "scale": list(self.scale), "clip": self.clip}

    def apply(self, x: Float32) -> Float32:
        with np.errstate(invalid="ignore", over="ignore"):
            y: Float32 = (x - floats(self.shift)) / floats(self.scale)
        return np.clip(y, np.float32(0), np.float32(1)) if self.clip else y

    def nodes(self, part: GraphPart) -> None:
        shifted = part.add("Sub", [part.x, part.weight("shift", floats(self.shift))])
        scale = part.weight("scale", floats(self.scale))
        if not self.clip:
            part.add("Div", [shifted, scale], part.y)
            return
        # Not Clip: it makes a number of NaN.
        zero, one = part.weight("zero", np.zeros(1, np.float32)), part.weight("one", np.ones(1, np.float32))
        y = part.add("Div", [shifted, scale])
        above = part.add("Where", [part.add("Greater", [y, one]), one, y])
        part.add("Where", [part.add("Less", [above, zero]), zero, above], part.y)

    def sql(self, x: Sequence[str]) -> list[str]:
        scaled = [f"(({each})::REAL - ({s!r})) / {t!r}" for each, s, t in zip(x, self.shift, self.scale, strict=True)]
        if not self.clip:
            return scaled
        return [f"CASE WHEN {each} > 1 THEN 1 WHEN {each} < 0 THEN 0 ELSE {each} END" for each in scaled]


def fit_normalize(inputs: tuple[str, ...], x: Float32, *, method: Method = "z_score", clip: bool = False) -> Normalize:
    """Measure on float32[rows, inputs]; missing values do not count."""
    wide = x.astype(np.float64)
    if method == "z_score":
        fitted = StandardScaler().fit(wide)
        shift, scale = fitted.mean_, fitted.scale_
    else:
        fitted = MinMaxScaler().fit(wide)
        shift, scale = fitted.data_min_, np.where(fitted.data_range_ > 0, fitted.data_range_, 1.0)
    # What float32 cannot tell from a constant is one.
    scale = np.where(scale < 1e-6 * np.maximum(1.0, np.abs(shift)), 1.0, scale)
    return Normalize(inputs, method, tuple(numbers(shift)), tuple(numbers(scale)), clip)
