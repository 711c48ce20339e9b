"""`predict(route, key, features)`: one prediction a row, from the members of the row's own route.

    predict(route JSONB, key VARCHAR, features DOUBLE PRECISION[])
        -> STRUCT<label VARCHAR, score DOUBLE PRECISION, members JSONB, error JSONB>

In a vote a member abstains where two classes are equally probable to it; the others' weights then share what is left.
A row that cannot be predicted (no route, NULL or NaN among the features, a wrong length, an unknown strategy) is set aside
before any model is called, and answered with `error` set and `label` and `score` NULL. Its neighbours do not notice. The
rest is grouped by model, and each model is called once a batch, whatever the routes are.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from arrow_udf import JsonType, UserDefinedFunction

from core.errors import UnavailableError
from udfs.artifact import first_line
from udfs.columns import FeatureColumn, feature_column, text_column
from udfs.combine import ANSWERED, NOT_ASKED, Answers, Block, combine
from udfs.route import ModelKey, Route, RowError, parse_route
from udfs.router import asked_members
from udfs.runtime import DeadlineExceeded
from udfs.sessions import Float32, LoadedModel, ModelSessions

logger = logging.getLogger(__name__)

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

RESULT_TYPE = pa.struct([("label", pa.string()), ("score", pa.float64()), ("members", JsonType()), ("error", JsonType())])
_NO_ROUTE = RowError("no_route", "There is no route for this tenant and endpoint; insert rows into `endpoints` and `routes`.")


class PredictFunction(UserDefinedFunction):  # type: ignore[misc]  # arrow-udf publishes no types
    """The function as arrow-udf wants it: a name, two schemas, and batches in and out."""

    def __init__(self, sessions: ModelSessions, shadows: Shadows | None = None) -> None:
        self._name = "predict"
        self._input_schema = pa.schema([("route", JsonType()), ("key", pa.string()), ("features", pa.list_(pa.float64()))])
        self._result_schema = pa.schema([("predict", RESULT_TYPE)])
        self._sessions = sessions
        self._shadows = shadows

    def eval_batch(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        """Answer a batch of `(route, key, features)` with a batch of one struct column, row by row in order."""
        outcome = predict(batch.column(0), batch.column(1), batch.column(2), self._sessions)
        yield pa.RecordBatch.from_arrays([outcome], schema=self._result_schema)

    def answered(self, batch: pa.RecordBatch) -> None:
        """To be called with the arguments when the answer has left."""
        if self._shadows is not None:
            offer_shadows(batch.column(0), batch.column(1), batch.column(2), self._shadows)


class Shadows(Protocol):
    """Takes rows that were answered, without waiting. Adapter: `udfs.shadows.ShadowLane`."""

    def offer(self, route: str, keys: pa.Array, features: pa.Array) -> None: ...


def offer_shadows(routes: pa.Array, keys: pa.Array, features: pa.Array, shadows: Shadows) -> None:
    """Hand over the rows whose route has a shadow; arguments as of `predict`."""
    texts = text_column(routes).dictionary_encode()
    for i, text in enumerate(texts.dictionary.to_pylist()):
        route = parse_route(text)
        if isinstance(route, RowError) or not any(member.is_shadow for member in route.members):
            continue
        if len(texts.dictionary) == 1 and not texts.indices.null_count:
            shadows.offer(text, text_column(keys), features)
        else:
            mine = pc.equal(texts.indices, i)
            shadows.offer(text, text_column(keys).filter(mine), features.filter(mine))


def predict(routes: pa.Array, keys: pa.Array, features: pa.Array, sessions: ModelSessions) -> pa.StructArray:
    """Predict each row.

    Args:
        routes: JSON text[rows], or the extension type `arrowudf.json`; see `udfs.route`.
        keys: string[rows], what sticky choices stick to.
        features: list<double>[rows].

    Returns:
        struct of `RESULT_TYPE`[rows]; `error` is NULL exactly where `score` is not.

    Raises:
        Exception: the registry does not answer; nothing was decided about any row.
    """
    n = len(routes)
    vectors = feature_column(features)
    texts = text_column(routes).dictionary_encode()
    route_of = np.where(texts.indices.is_valid(), pc.fill_null(texts.indices, -1).to_numpy(), -1)
    routeless = np.flatnonzero(route_of < 0)
    blocks = [Block.of_error(routeless, _NO_ROUTE)] if len(routeless) or not n else []
    groups: list[_Group] = []
    key_texts = text_column(keys)
    for i, text in enumerate(texts.dictionary.to_pylist()):
        rows = np.flatnonzero(route_of == i)
        route = parse_route(text)
        if isinstance(route, RowError):
            blocks.append(Block.of_error(rows, route))
            continue
        usable = vectors.usable[rows]
        if not usable.all():
            blocks += [Block.of_error(np.array([row]), vectors.why_unusable(int(row))) for row in rows[~usable]]
            rows = rows[usable]
        if len(rows):
            chosen = key_texts if len(rows) == n else key_texts.take(pa.array(rows))
            groups.append(_Group.start(route, rows, chosen, vectors, sessions))
    for key in dict.fromkeys(key for group in groups for key in group.wanted):
        _ask_model(key, groups, vectors, sessions)
    for group in groups:
        blocks += combine(group.route, group.rows, group.answers())
    return _assemble(blocks, n)


@dataclass
class _Group:
    """The rows that share a route, and what is known about them so far. Mutable while the models are being called."""

    route: Route
    rows: Int64
    models: list[LoadedModel | None]
    codes: npt.NDArray[np.int32]
    errors: list[RowError]
    probabilities: list[Float64 | None]

    @classmethod
    def start(cls, route: Route, rows: Int64, keys: pa.Array, vectors: FeatureColumn, sessions: ModelSessions) -> _Group:
        """Load the members, decide who is asked, and set aside what has the wrong length for a member."""
        found = [None if member.is_shadow else sessions.get(member.key) for member in route.members]
        models = [model if isinstance(model, LoadedModel) else None for model in found]
        available = frozenset(i for i, model in enumerate(models) if model is not None)
        asked = asked_members(route, available, keys)
        codes = np.where(asked, ANSWERED, NOT_ASKED).astype(np.int32)
        group = cls(route, rows, models, codes, [], [None] * len(models))
        lengths = vectors.lengths[rows]
        for i, model in enumerate(found):
            if isinstance(model, RowError):
                codes[:, i] = group.code_of(model)
            if not isinstance(model, LoadedModel):
                continue  # a shadow, or one that failed
            width = model.signature.n_features
            wrong = asked[:, i] & (lengths != width)
            for length in np.unique(lengths[wrong]).tolist():
                error = RowError("wrong_length", f"Model `{model.key}` takes {width} features, the row has {length}.")
                codes[wrong & (lengths == length), i] = group.code_of(error)
            group.probabilities[i] = np.empty((len(rows), len(model.signature.classes)))
        return group

    @property
    def wanted(self) -> list[ModelKey]:
        return [model.key for model in self.models if model is not None]

    def code_of(self, error: RowError) -> int:
        """The positive code of an error, the same one for equal errors."""
        if error not in self.errors:
            self.errors.append(error)
        return self.errors.index(error) + 1

    def answers(self) -> Answers:
        signatures = [None if model is None else model.signature for model in self.models]
        return Answers(self.codes, self.errors, self.probabilities, signatures)


def _ask_model(key: ModelKey, groups: list[_Group], vectors: FeatureColumn, sessions: ModelSessions) -> None:
    """Call one model once for all rows of all groups that want it, and hand the answers back to the groups."""
    parts: list[tuple[_Group, int, Int64]] = []
    for group in groups:
        for i, model in enumerate(group.models):
            if model is not None and model.key == key:
                parts.append((group, i, np.flatnonzero(group.codes[:, i] == ANSWERED)))
    loaded = parts[0][0].models[parts[0][1]]
    assert loaded is not None, "only loaded models are wanted"
    rows = np.concatenate([group.rows[within] for group, _, within in parts])
    if not len(rows):
        return
    answers, failures = run_isolated(loaded, vectors.matrix(rows, loaded.signature.n_features), sessions)
    start = 0
    for group, i, within in parts:
        mine = slice(start, start + len(within))
        start = mine.stop
        target = group.probabilities[i]
        assert target is not None, "a loaded member has room for its answers"
        target[within] = answers[mine]
        if group.route.strategy == "ensemble_vote":
            group.codes[within[_undecided(answers[mine])], i] = group.code_of(_abstained(key))
        for position, error in failures.items():
            if mine.start <= position < mine.stop:
                group.codes[within[position - mine.start], i] = group.code_of(error)


def _undecided(answers: Float64) -> npt.NDArray[np.bool_]:
    """Rows for which no class is more probable than every other."""
    best = answers.max(axis=1, keepdims=True)
    found: npt.NDArray[np.bool_] = (answers == best).sum(axis=1) > 1
    return found


def _abstained(key: ModelKey) -> RowError:
    return RowError("abstained", f"Model `{key}` has no single most probable class for this row, and gives no vote.")


def run_isolated(model: LoadedModel, features: Float32, sessions: ModelSessions) -> tuple[Float64, dict[int, RowError]]:
    """Run a batch; where the model raises, halve it until the rows that make it raise are alone.

    Returns:
        float64[batch, n_classes], and the errors by position; the rows that have one hold noise.
    """
    try:
        answers = sessions.run(model, features).astype(np.float64)
    except UnavailableError:  # nothing is known about any row
        raise
    except DeadlineExceeded as problem:  # halves would take as long again
        logger.warning("model ended", extra={"model": str(model.key), "rows": len(features), "reason": str(problem)})
        late = RowError("deadline", f"Model `{model.key}` did not answer the batch of this row in time: {problem}.")
        return np.zeros((len(features), len(model.signature.classes))), dict.fromkeys(range(len(features)), late)
    except Exception as problem:  # noqa: BLE001 - onnxruntime's exceptions share no base class; the row gets it
        if len(features) > 1:
            middle = len(features) // 2
            left, left_errors = run_isolated(model, features[:middle], sessions)
            right, right_errors = run_isolated(model, features[middle:], sessions)
            errors = left_errors | {middle + position: error for position, error in right_errors.items()}
            return np.concatenate([left, right]), errors
        logger.warning("model raised on a row", extra={"model": str(model.key), "reason": str(problem)})
        error = RowError("model_failed", f"Model `{model.key}` raised on this row: {first_line(problem)}")
        return np.zeros((1, len(model.signature.classes))), {0: error}
    finite = np.isfinite(answers).all(axis=1)
    if finite.all():
        return answers, {}
    error = RowError("non_finite_score", f"Model `{model.key}` gave no finite probability for this row.")
    return answers, dict.fromkeys(np.flatnonzero(~finite).tolist(), error)


def _assemble(blocks: list[Block], n: int) -> pa.StructArray:
    """Put the blocks back into the order of the rows."""
    order = np.concatenate([block.rows for block in blocks])
    assert len(order) == n, "every row is answered once"
    columns = [pa.concat_arrays([getattr(block, name) for block in blocks]) for name in ("label", "score", "members", "error")]
    if not np.array_equal(order, np.arange(n)):
        back = np.empty(n, np.int64)
        back[order] = np.arange(n)
        columns = [column.take(pa.array(back)) for column in columns]
    columns[2:] = [pa.ExtensionArray.from_storage(JsonType(), column) for column in columns[2:]]
    return pa.StructArray.from_arrays(columns, fields=list(RESULT_TYPE))
