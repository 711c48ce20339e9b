"""`explain` and `saliency`, as SQL calls them.

    explain(model VARCHAR, version INT, features DOUBLE PRECISION[])
        -> STRUCT<label, unit, method, base, contributions, half_widths, bound, error>
    saliency(model VARCHAR, version INT, image DOUBLE PRECISION[], width INT, patch INT)
        -> STRUCT<label, score, saliency, error>

A row that cannot be explained has a typed `error` and NULL elsewhere; its neighbours have their explanations.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from arrow_udf import JsonType, UserDefinedFunction

from udfs.columns import FeatureColumn, feature_column
from udfs.explanations.explainer import Explainers, Explanation, Saliency
from udfs.route import ModelKey, RowError

_NUMBERS = pa.list_(pa.float64())
EXPLANATION = pa.struct(
    [
        ("label", pa.string()),
        ("unit", pa.string()),
        ("method", pa.string()),
        ("base", pa.float64()),
        ("contributions", _NUMBERS),
        ("half_widths", _NUMBERS),
        ("bound", pa.float64()),
        ("error", JsonType()),
    ]
)
SALIENCY = pa.struct([("label", pa.string()), ("score", pa.float64()), ("saliency", _NUMBERS), ("error", JsonType())])
CREATE_FUNCTIONS = (
    """CREATE FUNCTION explain(model VARCHAR, version INT, features DOUBLE PRECISION[])
RETURNS STRUCT<label VARCHAR, unit VARCHAR, method VARCHAR, base DOUBLE PRECISION, contributions DOUBLE PRECISION[],
    half_widths DOUBLE PRECISION[], bound DOUBLE PRECISION, error JSONB>
AS 'explain@1' USING LINK '{link}';""",
    """CREATE FUNCTION saliency(model VARCHAR, version INT, image DOUBLE PRECISION[], width INT, patch INT)
RETURNS STRUCT<label VARCHAR, score DOUBLE PRECISION, saliency DOUBLE PRECISION[], error JSONB>
AS 'saliency@1' USING LINK '{link}';""",
)


class ExplainFunction(UserDefinedFunction):  # type: ignore[misc]  # arrow-udf publishes no types
    """Shapley values of a model version, row by row."""

    def __init__(self, explainers: Explainers) -> None:
        self._name = "explain@1"
        self._input_schema = pa.schema([("model", pa.string()), ("version", pa.int32()), ("features", _NUMBERS)])
        self._result_schema = pa.schema([("explain", EXPLANATION)])
        self._explainers = explainers

    def eval_batch(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        """Answer `(model, version, features)` with one struct a row, in order."""
        vectors = feature_column(batch.column(2))
        keys = _keys(batch)
        answers: list[Explanation | RowError] = [_NO_MODEL] * batch.num_rows
        groups: dict[tuple[ModelKey, int], list[int]] = {}
        for row, key in enumerate(keys):
            if key is None:
                continue
            if vectors.usable[row]:
                groups.setdefault((key, int(vectors.lengths[row])), []).append(row)
            else:
                answers[row] = vectors.why_unusable(row)
        for (key, length), rows in groups.items():
            features = np.ascontiguousarray(vectors.matrix(np.array(rows), length))
            for row, answer in zip(rows, self._explainers.explain(key, features), strict=True):
                answers[row] = answer
        yield _struct_batch([_explanation_fields(each) for each in answers], self._result_schema)


class SaliencyFunction(UserDefinedFunction):  # type: ignore[misc]  # as above
    """Occlusion saliency of a model version, image by image."""

    def __init__(self, explainers: Explainers) -> None:
        self._name = "saliency@1"
        self._input_schema = pa.schema(
            [("model", pa.string()), ("version", pa.int32()), ("image", _NUMBERS), ("width", pa.int32()), ("patch", pa.int32())]
        )
        self._result_schema = pa.schema([("saliency", SALIENCY)])
        self._explainers = explainers

    def eval_batch(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        """Answer `(model, version, image, width, patch)` with one struct a row, in order."""
        images = feature_column(batch.column(2))
        keys, widths, patches = _keys(batch), batch.column(3).to_pylist(), batch.column(4).to_pylist()
        answers = [self._one(*each, images) for each in zip(range(batch.num_rows), keys, widths, patches, strict=True)]
        yield _struct_batch([_saliency_fields(each) for each in answers], self._result_schema)

    def _one(
        self, row: int, key: ModelKey | None, width: int | None, patch: int | None, images: FeatureColumn
    ) -> Saliency | RowError:
        if key is None or width is None or patch is None:
            return _NO_MODEL
        if not images.usable[row]:
            return images.why_unusable(row)
        image = images.matrix(np.array([row]), int(images.lengths[row]))[0]
        return self._explainers.saliency(key, image, width=width, patch=patch)


_NO_MODEL = RowError("null_argument", "Model, version, width or patch is NULL.")


def _keys(batch: pa.RecordBatch) -> list[ModelKey | None]:
    named = zip(batch.column(0).to_pylist(), batch.column(1).to_pylist(), strict=True)
    return [None if name is None or version is None else ModelKey(name, version) for name, version in named]


def _explanation_fields(answer: Explanation | RowError) -> dict[str, Any]:  # Any: values of several types
    if isinstance(answer, RowError):
        return {"error": answer.as_json()}
    return {
        "label": answer.label,
        "unit": answer.unit,
        "method": answer.method,
        "base": answer.base,
        "contributions": answer.contributions.tolist(),
        "half_widths": answer.half_widths.tolist(),
        "bound": answer.bound,
    }


def _saliency_fields(answer: Saliency | RowError) -> dict[str, Any]:  # Any: as above
    if isinstance(answer, RowError):
        return {"error": answer.as_json()}
    return {"label": answer.label, "score": answer.score, "saliency": answer.values.tolist()}


def _struct_batch(rows: Sequence[dict[str, Any]], schema: pa.Schema) -> pa.RecordBatch:  # Any: as above
    """One column of structs; what a row does not name is NULL."""
    wanted = schema.field(0).type
    columns = []
    for field in wanted:
        told = [row.get(field.name) for row in rows]
        if isinstance(field.type, pa.ExtensionType):
            columns.append(pa.ExtensionArray.from_storage(field.type, pa.array(told, field.type.storage_type)))
        else:
            columns.append(pa.array(told, field.type))
    return pa.RecordBatch.from_arrays([pa.StructArray.from_arrays(columns, fields=list(wanted))], schema=schema)
