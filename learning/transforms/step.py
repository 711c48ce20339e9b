"""What a fitted transformation is: parameters, and three ways to compute the same columns with them.

    apply   float32[batch, inputs] -> float32[batch, outputs], NumPy
    nodes   the same as ONNX operators, to stand in front of a model
    sql     the same as expressions for RisingWave and the embedded engine

All three compute in the same order, in float32 (SQL: in double precision, on values rounded to REAL first). A missing value is NaN,
in SQL NULL; it stays missing, but for an embedding, where it is unknown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from onnx import NodeProto, helper

from learning.models.kind import Float32

Weights = Mapping[str, npt.NDArray[Any]]  # Any: of any element type
Parameters = Mapping[str, Any]  # Any: what JSON knows


class Step(Protocol):
    """A fitted transformation of some columns."""

    @property
    def kind(self) -> str: ...

    @property
    def inputs(self) -> tuple[str, ...]: ...

    @property
    def outputs(self) -> tuple[str, ...]: ...

    def parameters(self) -> Parameters:
        """What was fitted, as JSON knows it; with `kind` and `inputs` it is all that there is."""
        ...

    def apply(self, x: Float32) -> Float32:
        """float32[batch, inputs] to float32[batch, outputs]; any batch, also of one row or none."""
        ...

    def nodes(self, part: GraphPart) -> None:
        """Add nodes from `part.x` to `part.y`."""
        ...

    def sql(self, x: Sequence[str]) -> list[str]:
        """An expression for each output, over expressions for the inputs.

        Raises:
            InvalidInputError: SQL cannot say it in a bearable size.
        """
        ...


@dataclass(frozen=True)
class GraphPart:
    """Where a step adds its nodes; names of its own begin with `scope`."""

    scope: str
    x: str
    y: str
    graph_nodes: list[NodeProto]
    weights: dict[str, npt.NDArray[Any]]  # Any: of any element type

    def weight(self, name: str, value: npt.NDArray[Any]) -> str:
        """A constant; returns the name by which nodes know it."""
        full = f"{self.scope}{name}"
        self.weights[full] = value
        return full

    def add(self, operator: str, inputs: Sequence[str], result: str = "", **attributes: Any) -> str:  # Any: as ONNX declares
        """A node with one result; returns the result's name."""
        name = result or f"{self.scope}{operator.lower()}_{len(self.graph_nodes)}"
        self.graph_nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))
        return name


def numbers(values: npt.NDArray[np.floating]) -> list[float]:
    """As JSON writes them: a float32 by the shortest digits that give it back."""
    return [float(str(np.float32(value))) for value in values]


def floats(values: Sequence[float]) -> Float32:
    return np.array(values, np.float32)
