"""Products of columns: `polynomial` has all of them up to a degree, `interaction` only those of different columns.

Which products there are is decided by scikit-learn's PolynomialFeatures; each is multiplied from left to right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.preprocessing import PolynomialFeatures

from core.errors import InvalidInputError
from learning.models.kind import Float32
from learning.transforms.step import GraphPart, Parameters

_MOST = 512  # products; 30 columns to the second degree are 465


@dataclass(frozen=True)
class Products:
    """Attributes:
    kind: `polynomial` or `interaction`.
    factors: of each output, positions of inputs.
    """

    kind: str
    inputs: tuple[str, ...]
    factors: tuple[tuple[int, ...], ...]

    @property
    def outputs(self) -> tuple[str, ...]:
        return tuple("_x_".join(self.inputs[i] for i in each) for each in self.factors)

    def parameters(self) -> Parameters:
        return {"factors": [list(each) for each in self.factors]}

    def apply(self, x: Float32) -> Float32:
        columns = []
        with np.errstate(invalid="ignore", over="ignore"):
            for first, *rest in self.factors:
                column = x[:, first]
                for each in rest:
                    column = column * x[:, each]
                columns.append(column)
        return np.stack(columns, axis=1)

    def nodes(self, part: GraphPart) -> None:
        # All products of a length at once: the first factors, times the second ones, and so on.
        done = []
        for length in sorted({len(each) for each in self.factors}):
            chosen = [each for each in self.factors if len(each) == length]
            result = ""
            for place in range(length):
                positions = part.weight(f"factors_{length}_{place}", np.array([each[place] for each in chosen], np.int64))
                picked = part.add("Gather", [part.x, positions], axis=1)
                result = part.add("Mul", [result, picked]) if result else picked
            done.append(result)
        part.add("Concat", done, part.y, axis=1)

    def sql(self, x: Sequence[str]) -> list[str]:
        return [" * ".join(f"({x[i]})::REAL::DOUBLE PRECISION" for i in each) for each in self.factors]


def fit_products(
    inputs: tuple[str, ...], x: Float32, *, kind: str = "polynomial", degree: int = 2, pairs: Sequence[Sequence[str]] = ()
) -> Products:
    """Name the products; nothing is measured.

    Args:
        kind: `polynomial` or `interaction`.
        degree: the most factors of one product, 2 or more.
        pairs: of `interaction`: only these products.
    """
    del x
    if kind == "interaction" and pairs:
        unknown = sorted({name for pair in pairs for name in pair} - set(inputs))
        if unknown or any(len(pair) < 2 for pair in pairs):
            raise InvalidInputError(f"pairs {list(pairs)} are not of the columns {list(inputs)}", fix="Name two of them each.")
        factors = tuple(tuple(inputs.index(name) for name in pair) for pair in pairs)
    else:
        powers = PolynomialFeatures(degree, interaction_only=kind == "interaction", include_bias=False)
        rows = powers.fit(np.zeros((1, len(inputs)))).powers_
        all_factors = (tuple(i for i, power in enumerate(row) for _ in range(power)) for row in rows)
        factors = tuple(each for each in all_factors if len(each) > 1)
    if not factors or degree < 2 or len(factors) > _MOST:
        raise InvalidInputError(
            f"{kind} of {len(inputs)} columns to degree {degree} are {len(factors)} products",
            fix=f"Ask for 1 to {_MOST}: name other columns, or another degree.",
        )
    return Products(kind, inputs, tuple(sorted(factors, key=len)))
