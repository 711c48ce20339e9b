"""Vectors for categories. A category is a whole number from 0 to 2**24 - 1, which float32 holds exactly; a text becomes one by
`text_code`, in SQL by `text_code_sql`.

    hash      the vector of `code mod buckets`; categories that training never saw have one, and some share one
    lookup    the vector of each category of the training rows, or the vectors that are given; all others have zeros

Vectors that nobody gives are drawn from a hash of the seed and the bucket or category: the same in every process, on every
machine, for ever. (Document 004 drew them anew at each call: the same user was somebody else every time.) What is missing, or no
whole number in the range, is unknown: zeros.

Source: Weinberger et al., "Feature hashing for large scale multitask learning", ICML 2009; SHAKE-128 of FIPS 202.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from onnx import TensorProto

from core.errors import InvalidInputError
from learning.models.kind import Float32
from learning.transforms.step import GraphPart, Parameters, floats, numbers

Method = Literal["hash", "lookup"]
DIMENSION = 50
CODES = 1 << 24


@dataclass(frozen=True)
class Embedding:
    """The vector of one input.

    Attributes:
        codes: of the categories of `lookup`, ascending; empty for `hash`.
        vectors: of these, where they were given; otherwise they are drawn.
    """

    inputs: tuple[str, ...]
    method: Method
    dim: int
    seed: int
    buckets: int = 0
    codes: tuple[int, ...] = ()
    vectors: tuple[tuple[float, ...], ...] = ()
    kind: str = "embedding"

    @property
    def outputs(self) -> tuple[str, ...]:
        return tuple(f"{self.inputs[0]}_e{i}" for i in range(self.dim))

    def parameters(self) -> Parameters:
        return {
            "method": self.method,
            "dim": self.dim,
            "seed": self.seed,
            "buckets": self.buckets,
            "codes": list(self.codes),
            "vectors": [list(vector) for vector in self.vectors],
        }

    def table(self) -> Float32:
        """float32[known + 1, dim]; the last row is for what is unknown."""
        if self.vectors:
            known = np.array(self.vectors, np.float32)
        else:
            known = np.stack([_drawn(self.seed, each, self.dim) for each in self.codes or range(self.buckets)])
        return np.vstack([known, np.zeros((1, self.dim), np.float32)])

    def apply(self, x: Float32) -> Float32:
        with np.errstate(invalid="ignore"):
            valid = (x[:, 0] >= 0) & (x[:, 0] < CODES) & (np.floor(x[:, 0]) == x[:, 0])
        codes = np.where(valid, x[:, 0], 0).astype(np.int64)
        if self.method == "hash":
            place, known = codes % self.buckets, valid
        else:
            listed = np.array(self.codes, np.int64)
            place = np.minimum(np.searchsorted(listed, codes), len(listed) - 1)
            known = valid & (listed[place] == codes)
        return self.table()[np.where(known, place, len(self.codes) or self.buckets)]

    def nodes(self, part: GraphPart) -> None:
        flat = part.add("Reshape", [part.x, part.weight("flat", np.array([-1], np.int64))])
        unknown = part.weight("unknown", np.array(len(self.codes) or self.buckets, np.int64))
        if self.method == "hash":
            low = part.add("GreaterOrEqual", [flat, part.weight("zero", np.array(0, np.float32))])
            high = part.add("Less", [flat, part.weight("codes", np.array(CODES, np.float32))])
            whole = part.add("Equal", [flat, part.add("Floor", [flat])])
            known = part.add("And", [part.add("And", [low, high]), whole])
            code = part.add(
                "Cast", [part.add("Where", [known, flat, part.weight("none", np.array(0, np.float32))])], to=TensorProto.INT64
            )
            place = part.add("Mod", [code, part.weight("buckets", np.array(self.buckets, np.int64))])
        else:
            column = part.add("Reshape", [part.x, part.weight("column", np.array([-1, 1], np.int64))])
            equal = part.add("Equal", [column, part.weight("codes", np.array([self.codes], np.float32))])
            hits = part.add("Cast", [equal], to=TensorProto.FLOAT)
            place = part.add("ArgMax", [hits], axis=1, keepdims=0)
            known = part.add("Cast", [part.add("ReduceMax", [hits], axes=[1], keepdims=0)], to=TensorProto.BOOL)
        part.add("Gather", [part.weight("table", self.table()), part.add("Where", [known, place, unknown])], part.y, axis=0)

    def sql(self, x: Sequence[str]) -> list[str]:
        raise InvalidInputError(
            f"an embedding of `{x[0]}` into {len(self.codes) or self.buckets} x {self.dim} numbers is no SQL",
            fix="Let it run in the graph (`runs: graph`).",
        )


def fit_embedding(
    inputs: tuple[str, ...],
    x: Float32,
    *,
    method: Method = "hash",
    dim: int = DIMENSION,
    buckets: int = 1024,
    seed: int = 0,
    vectors: Mapping[int, Sequence[float]] | None = None,
) -> Embedding:
    """Learn which categories there are: float32[rows, 1].

    Raises:
        InvalidInputError: `vectors` of another length, or a training row that is no category.
    """
    if len(inputs) != 1:
        raise InvalidInputError("embedding takes one column", fix="Write one entry for each column.")
    if dim < 1 or buckets < 1:
        raise InvalidInputError(f"an embedding of {buckets} x {dim} numbers", fix="Give `dim` and `buckets` above 0.")
    if method == "hash":
        return Embedding(inputs, method, dim, seed, buckets)
    if vectors is not None:
        codes = sorted(vectors)
        wrong = [code for code in codes if len(vectors[code]) != dim or not 0 <= code < CODES]
        if wrong or not codes:
            raise InvalidInputError(f"the vector of category {wrong[:1]} has not {dim} numbers", fix="Give `dim` as it is.")
        given = tuple(tuple(numbers(floats(vectors[code]))) for code in codes)
        return Embedding(inputs, method, dim, seed, codes=tuple(codes), vectors=given)
    values = np.unique(x[~np.isnan(x[:, 0]), 0])
    if not len(values) or (values < 0).any() or (values >= CODES).any() or (values != np.floor(values)).any():
        raise InvalidInputError(
            f"`{inputs[0]}` is no category: it has values that are no whole numbers from 0 to {CODES - 1}",
            fix="Number the categories, or take `text_code` of their names.",
        )
    return Embedding(inputs, method, dim, seed, codes=tuple(int(value) for value in values))


def text_code(text: str) -> int:
    """The code of a category that is a text: the first three bytes of its MD5."""
    return int.from_bytes(hashlib.md5(text.encode(), usedforsecurity=False).digest()[:3], "big")


def text_code_sql(expression: str) -> str:
    """`text_code` in SQL, for RisingWave and the embedded engine; NULL stays NULL."""
    digest = f"decode(md5({expression}), 'hex')"
    return f"(get_byte({digest}, 0) * 65536 + get_byte({digest}, 1) * 256 + get_byte({digest}, 2))"


def _drawn(seed: int, number: int, dim: int) -> npt.NDArray[np.float32]:
    """A vector of length about 1: uniform numbers, 16 bits each."""
    drawn = np.frombuffer(hashlib.shake_128(f"{seed}/{number}".encode()).digest(2 * dim), "<u2").astype(np.float64)
    vector: npt.NDArray[np.float32] = ((drawn / 32_768 - 1) * np.sqrt(3 / dim)).astype(np.float32)
    return vector
