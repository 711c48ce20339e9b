"""log(x + offset): for amounts and counts. What has no logarithm is missing (NaN).

Taken in double precision and rounded: onnxruntime's float32 logarithm has another last bit at another place of the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from core.errors import InvalidInputError
from learning.models.kind import Float32
from learning.transforms.step import GraphPart, Parameters


@dataclass(frozen=True)
class Log:
    """The natural logarithm of each input."""

    inputs: tuple[str, ...]
    offset: float
    kind: str = "log"

    @property
    def outputs(self) -> tuple[str, ...]:
        return tuple(f"log_{name}" for name in self.inputs)

    def parameters(self) -> Parameters:
        return {"offset": self.offset}

    def apply(self, x: Float32) -> Float32:
        moved = x.astype(np.float64) + self.offset
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(moved > 0, np.log(moved), np.nan).astype(np.float32)

    def nodes(self, part: GraphPart) -> None:
        wide = part.add("Cast", [part.x], to=TensorProto.DOUBLE)
        moved = part.add("Add", [wide, part.weight("offset", np.array([self.offset], np.float64))])
        positive = part.add("Greater", [moved, part.weight("zero", np.zeros(1, np.float64))])
        missing = part.weight("missing", np.full(1, np.nan, np.float64))
        chosen = part.add("Where", [positive, part.add("Log", [moved]), missing])
        part.add("Cast", [chosen], part.y, to=TensorProto.FLOAT)

    def sql(self, x: Sequence[str]) -> list[str]:
        return [f"CASE WHEN {each}::REAL + {self.offset!r} > 0 THEN ln({each}::REAL + {self.offset!r}) END" for each in x]


def fit_log(inputs: tuple[str, ...], x: Float32, *, offset: float = 1.0) -> Log:
    """Raises InvalidInputError where training rows have values without a logarithm."""
    lowest = np.nanmin(x, axis=0) if len(x) else np.zeros(len(inputs))
    for name, value in zip(inputs, lowest, strict=True):
        if value + offset <= 0:
            raise InvalidInputError(
                f"`{name}` goes down to {value:g}: log(x + {offset:g}) has no value there", fix="Give a larger `offset`."
            )
    return Log(inputs, float(offset))
