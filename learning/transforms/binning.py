"""Which of some intervals a value lies in: of equal width, of equal share of the training rows, or with given edges.

    value      x < e1      e1 <= x < e2    ...    ek <= x
    bin        0           1                      k

The first and the last bin have no end, so that a value which training never saw is in one of them. With `one_hot` there is a
column a bin, 1 where the value lies in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from onnx import TensorProto

from core.errors import InvalidInputError
from learning.models.kind import Float32
from learning.transforms.step import GraphPart, Parameters, floats, numbers

Method = Literal["equal_width", "quantile", "edges"]


@dataclass(frozen=True)
class Binning:
    """The bin of one input.

    Attributes:
        edges: ascending, float32; between two bins.
    """

    inputs: tuple[str, ...]
    edges: tuple[float, ...]
    one_hot: bool = False
    kind: str = "binning"

    @property
    def outputs(self) -> tuple[str, ...]:
        name = f"bin_{self.inputs[0]}"
        return tuple(f"{name}_{i}" for i in range(len(self.edges) + 1)) if self.one_hot else (name,)

    def parameters(self) -> Parameters:
        return {"edges": list(self.edges), "one_hot": self.one_hot}

    def apply(self, x: Float32) -> Float32:
        above = (x >= floats(self.edges)).sum(axis=1, keepdims=True).astype(np.float32)
        found = np.where(np.isnan(x), np.float32(np.nan), above)
        if not self.one_hot:
            return found
        bins = np.arange(len(self.edges) + 1, dtype=np.float32)
        return np.where(np.isnan(x), np.float32(np.nan), (found == bins).astype(np.float32))

    def nodes(self, part: GraphPart) -> None:
        missing = part.add("IsNaN", [part.x])
        nan = part.weight("missing", np.full(1, np.nan, np.float32))
        reached = part.add("GreaterOrEqual", [part.x, part.weight("edges", floats(self.edges).reshape(1, -1))])
        axis = part.weight("axis", np.array([1], np.int64))
        number = part.add("ReduceSum", [part.add("Cast", [reached], to=TensorProto.FLOAT), axis], keepdims=1)
        if not self.one_hot:
            part.add("Where", [missing, nan, number], part.y)
            return
        bins = part.weight("bins", np.arange(len(self.edges) + 1, dtype=np.float32).reshape(1, -1))
        part.add("Where", [missing, nan, part.add("Cast", [part.add("Equal", [number, bins])], to=TensorProto.FLOAT)], part.y)

    def sql(self, x: Sequence[str]) -> list[str]:
        value = f"({x[0]})::REAL"
        cases = " ".join(f"WHEN {value} < {edge!r} THEN {i}" for i, edge in enumerate(self.edges))
        number = f"CASE {cases} WHEN {value} IS NOT NULL THEN {len(self.edges)} END"
        if not self.one_hot:
            return [f"({number})::DOUBLE PRECISION"]
        return [
            f"CASE WHEN ({number}) = {i} THEN 1.0 WHEN {value} IS NOT NULL THEN 0.0 END" for i in range(len(self.edges) + 1)
        ]


def fit_binning(
    inputs: tuple[str, ...],
    x: Float32,
    *,
    method: Method = "equal_width",
    bins: int = 10,
    edges: Sequence[float] = (),
    one_hot: bool = False,
) -> Binning:
    """Find the edges of one input: float32[rows, 1]. Fewer bins come of it where edges coincide.

    Raises:
        InvalidInputError: given edges do not ascend, or there are none.
    """
    if len(inputs) != 1:
        raise InvalidInputError("binning takes one column", fix="Write one entry for each column.")
    if method == "edges":
        found = floats(edges)
        if not len(found) or (np.diff(found) <= 0).any() or not np.isfinite(found).all():
            raise InvalidInputError(f"edges {list(edges)} do not ascend", fix="Give one finite edge or more, in order.")
    else:
        values = x[~np.isnan(x[:, 0]), 0].astype(np.float64)
        if not len(values) or bins < 2:
            raise InvalidInputError(f"`{inputs[0]}`: no values for {bins} bins", fix="Give two bins or more, and rows.")
        if method == "equal_width":
            found = np.linspace(values.min(), values.max(), bins + 1)[1:-1].astype(np.float32)
        else:
            found = np.quantile(values, np.linspace(0, 1, bins + 1)[1:-1]).astype(np.float32)
        found = np.unique(found)
    return Binning(inputs, tuple(numbers(found)), one_hot)
