"""`infer(model, version, features)`: the probabilities of one model version, without a route.

    infer(model VARCHAR, version INT, features DOUBLE PRECISION[])
        -> STRUCT<probabilities REAL[], error JSONB>

For callers that name the model themselves (the V2 inference protocol). Rows that cannot be used come back with a typed error.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from arrow_udf import JsonType, UserDefinedFunction

from udfs.columns import FeatureColumn, feature_column, text_column
from udfs.predict import run_isolated
from udfs.route import ModelKey, RowError
from udfs.sessions import LoadedModel, ModelSessions

RESULT_TYPE = pa.struct([("probabilities", pa.list_(pa.float32())), ("error", JsonType())])
_NO_MODEL = RowError("no_model", "The model or its version is NULL.")


class InferFunction(UserDefinedFunction):  # type: ignore[misc]  # arrow-udf publishes no types
    """The function as arrow-udf wants it."""

    def __init__(self, sessions: ModelSessions) -> None:
        self._name = "infer"
        self._input_schema = pa.schema([("model", pa.string()), ("version", pa.int32()), ("features", pa.list_(pa.float64()))])
        self._result_schema = pa.schema([("infer", RESULT_TYPE)])
        self._sessions = sessions

    def eval_batch(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        """Answer a batch of `(model, version, features)` with a batch of one struct column, row by row in order."""
        outcome = infer(batch.column(0), batch.column(1), batch.column(2), self._sessions)
        yield pa.RecordBatch.from_arrays([outcome], schema=self._result_schema)


def infer(models: pa.Array, versions: pa.Array, features: pa.Array, sessions: ModelSessions) -> pa.StructArray:
    """Ask each row's model.

    Args:
        models: string[rows].
        versions: int32[rows].
        features: list<double>[rows].

    Returns:
        struct of `RESULT_TYPE`[rows]; `error` is NULL exactly where `probabilities` is not.

    Raises:
        UnavailableError: the registry does not answer; nothing was decided about any row.
    """
    vectors = feature_column(features)
    groups: dict[ModelKey | None, list[int]] = {}
    for row, (name, version) in enumerate(zip(text_column(models).to_pylist(), versions.to_pylist(), strict=True)):
        groups.setdefault(None if name is None or version is None else ModelKey(name, version), []).append(row)
    answers: list[npt.NDArray[np.float32] | None] = [None] * len(models)
    errors: list[RowError | None] = [None] * len(models)
    for key, rows in groups.items():
        model = sessions.get(key) if key is not None else _NO_MODEL
        if isinstance(model, RowError):
            for row in rows:
                errors[row] = model
        else:
            _ask(model, np.array(rows), vectors, sessions, answers, errors)
    told = pa.array([None if error is None else error.as_json() for error in errors], pa.string())
    columns = [pa.array(answers, pa.list_(pa.float32())), pa.ExtensionArray.from_storage(JsonType(), told)]
    return pa.StructArray.from_arrays(columns, fields=list(RESULT_TYPE))


def _ask(
    model: LoadedModel,
    rows: npt.NDArray[np.int64],
    vectors: FeatureColumn,
    sessions: ModelSessions,
    answers: list[npt.NDArray[np.float32] | None],
    errors: list[RowError | None],
) -> None:
    width = model.signature.n_features
    good = vectors.usable[rows] & (vectors.lengths[rows] == width)
    for row in rows[~good].tolist():
        wrong = f"Model `{model.key}` takes {width} features, the row has {vectors.lengths[row]}."
        errors[row] = RowError("wrong_length", wrong) if vectors.usable[row] else vectors.why_unusable(row)
    rows = rows[good]
    if not len(rows):
        return
    probabilities, failures = run_isolated(model, vectors.matrix(rows, width), sessions)
    narrow = probabilities.astype(np.float32)
    for position, row in enumerate(rows.tolist()):
        errors[row] = failures.get(position)
        answers[row] = None if position in failures else narrow[position]
