"""A fitted sequence of transformations: data with a hash, computed alike wherever it runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from onnx import NodeProto

from core.errors import InvalidInputError
from learning.models.kind import Float32
from learning.transforms.binning import Binning, fit_binning
from learning.transforms.declaration import Declaration
from learning.transforms.embedding import Embedding, fit_embedding
from learning.transforms.log import Log, fit_log
from learning.transforms.normalize import Normalize, fit_normalize
from learning.transforms.products import Products, fit_products
from learning.transforms.step import GraphPart, Step, Weights

FORMAT = 1
METADATA = "headrace.transforms"
"""Property of an ONNX model that holds the JSON of what stands in front of it."""

_Fit = Callable[..., Step]
_FITS: Mapping[str, _Fit] = {
    "log": fit_log,
    "normalize": fit_normalize,
    "binning": fit_binning,
    "embedding": fit_embedding,
    "polynomial": fit_products,
    "interaction": fit_products,
}
_READ: Mapping[str, Callable[..., Step]] = {
    "log": Log,
    "normalize": Normalize,
    "binning": Binning,
    "embedding": Embedding,
    "polynomial": Products,
    "interaction": Products,
}


@dataclass(frozen=True)
class FittedTransforms:
    """Attributes:
    features: the columns of a row, in order, before anything is done to them.
    outputs: the columns that the model gets, in order.
    runs: where they are computed when the model serves.
    """

    features: tuple[str, ...]
    steps: tuple[Step, ...]
    outputs: tuple[str, ...]
    runs: Literal["graph", "stream"] = "graph"

    @property
    def served_names(self) -> tuple[str, ...]:
        """The columns of the vector that `predict` gets."""
        return self.features if self.runs == "graph" else self.outputs

    def apply(self, features: Float32) -> Float32:
        """float32[batch, features] to float32[batch, outputs]: one row, many or none; nothing is measured."""
        if features.ndim != 2 or features.shape[1] != len(self.features):
            raise InvalidInputError(
                f"a batch of shape {features.shape}, not of {len(self.features)} features", fix=f"Give {list(self.features)}."
            )
        columns = {name: features[:, i] for i, name in enumerate(self.features)}
        for step in self.steps:
            y = step.apply(np.stack([columns[name] for name in step.inputs], axis=1).astype(np.float32))
            columns |= {name: y[:, i] for i, name in enumerate(step.outputs)}
        return np.stack([columns[name] for name in self.outputs], axis=1).astype(np.float32)

    def nodes(self, x: str = "features", y: str = "transformed") -> tuple[list[NodeProto], Weights]:
        """The same as ONNX operators and their constants."""
        graph_nodes: list[NodeProto] = []
        weights: dict[str, Any] = {}  # Any: arrays of any element type
        known, wide = list(self.features), x
        for number, step in enumerate(self.steps):
            scope = f"transform_{number}_"
            part = GraphPart(scope, f"{scope}x", f"{scope}y", graph_nodes, weights)
            chosen = part.weight("inputs", np.array([known.index(name) for name in step.inputs], np.int64))
            part.add("Gather", [wide, chosen], part.x, axis=1)
            step.nodes(part)
            wide = part.add("Concat", [wide, part.y], f"{scope}wide", axis=1)
            known += step.outputs
        last = GraphPart("transform_out_", wide, y, graph_nodes, weights)
        last.add(
            "Gather", [wide, last.weight("outputs", np.array([known.index(n) for n in self.outputs], np.int64))], y, axis=1
        )
        return graph_nodes, weights

    def sql(self, columns: Mapping[str, str] | None = None) -> dict[str, str]:
        """An expression for each output, over columns of the row.

        Args:
            columns: feature to expression; by default its name.

        Raises:
            InvalidInputError: one of the steps is no SQL.
        """
        known = {name: (columns or {}).get(name, name) for name in self.features}
        for step in self.steps:
            known |= dict(zip(step.outputs, step.sql([known[name] for name in step.inputs]), strict=True))
        return {name: known[name] for name in self.outputs}

    def view_sql(self, view: str, source: str, keys: Sequence[str]) -> str:
        """The statement of a view that computes the outputs in the stream."""
        items = ",\n    ".join([*keys, *(f"({sql})::DOUBLE PRECISION AS {name}" for name, sql in self.sql().items())])
        return f"-- Transformations {self.sha256[:16]}, fitted on training rows.\nCREATE MATERIALIZED VIEW {view} AS\nSELECT\n    {items}\nFROM {source};\n"

    def to_json(self) -> str:
        """Canonical JSON: equal transformations have equal texts."""
        return json.dumps(
            {
                "format": FORMAT,
                "runs": self.runs,
                "features": list(self.features),
                "steps": [{"kind": s.kind, "inputs": list(s.inputs), "parameters": dict(s.parameters())} for s in self.steps],
                "outputs": list(self.outputs),
            },
            sort_keys=True,
            separators=(",", ":"),
            ensure_ascii=False,
            allow_nan=False,
        )

    @property
    def sha256(self) -> str:
        """Of `to_json`, hexadecimal: what a model version is tagged with."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    @staticmethod
    def from_json(text: str) -> FittedTransforms:
        """What `to_json` wrote.

        Raises:
            InvalidInputError: it is of another format.
        """
        told = json.loads(text)
        if told.get("format") != FORMAT:
            raise InvalidInputError(f"transformations of format {told.get('format')}, not {FORMAT}", fix="Fit them again.")
        steps = tuple(_step(each["kind"], each["inputs"], each["parameters"]) for each in told["steps"])
        return FittedTransforms(tuple(told["features"]), steps, tuple(told["outputs"]), told["runs"])


def fit_transforms(declared: Declaration, features: Float32, names: Sequence[str]) -> FittedTransforms:
    """Fit on training rows, in order, each on what those above it give.

    Args:
        declared: what is wanted.
        features: float32[rows, names], the training rows and no others; a missing value is NaN.

    Raises:
        InvalidInputError: no rows, infinite values, a column that is not there or there twice, or a step cannot be fitted.
    """
    if not len(features) or np.isinf(features).any() or features.shape[1] != len(names):
        raise InvalidInputError(
            f"training rows of shape {features.shape} for {len(names)} columns, infinite: {int(np.isinf(features).sum())}",
            fix="Fit on one finite training row or more.",
        )
    columns = {name: features[:, i].astype(np.float32) for i, name in enumerate(names)}
    steps: list[Step] = []
    for number, wanted in enumerate(declared.transforms):
        where = f"transforms.{number} ({wanted.kind})"
        _must_know(wanted.of, columns, where)
        arguments = wanted.model_dump(exclude={"of"} if wanted.kind in ("polynomial", "interaction") else {"of", "kind"})
        step = _FITS[wanted.kind](tuple(wanted.of), np.stack([columns[name] for name in wanted.of], axis=1), **arguments)
        twice = sorted(set(step.outputs) & columns.keys())
        if twice:
            raise InvalidInputError(f"`{twice[0]}` is there already", where=where, fix="Transform a column once in each way.")
        y = step.apply(np.stack([columns[name] for name in step.inputs], axis=1))
        columns |= {name: y[:, i] for i, name in enumerate(step.outputs)}
        steps.append(step)
    _must_know(declared.keep, columns, "keep")
    read = {name for step in steps for name in step.inputs}
    outputs = tuple(name for name in columns if name not in read or name in declared.keep)
    return FittedTransforms(tuple(names), tuple(steps), outputs, declared.runs)


def _must_know(names: Sequence[str], columns: Mapping[str, object], where: str) -> None:
    unknown = [name for name in names if name not in columns]
    if unknown:
        raise InvalidInputError(f"there is no column `{unknown[0]}`", where=where, fix=f"Known are {', '.join(columns)}.")


def _step(kind: str, inputs: Sequence[str], parameters: Mapping[str, Any]) -> Step:  # Any: what JSON knows
    if kind not in _READ:
        raise InvalidInputError(f"there is no transformation `{kind}`", fix=f"Known are {', '.join(_READ)}.")
    return _READ[kind](inputs=tuple(inputs), kind=kind, **{name: _tuples(value) for name, value in parameters.items()})


def _tuples(value: object) -> object:
    return tuple(_tuples(each) for each in value) if isinstance(value, list) else value
