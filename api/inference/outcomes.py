"""What the function `predict` said about rows, as a record each for the log and as one answer for each request.

Texts are put together from the JSON that the UDF server made, which is never parsed here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa

from api.inference.lineage import Served
from api.ingest.events import record_key
from api.ingest.verdicts import Record
from core.ids import TenantId
from udfs.columns import text_column
from udfs.route import RowError

INPUT_CODES = frozenset({"wrong_type", "null_features", "null_feature", "non_finite_feature", "wrong_length"})
"""Errors that are the caller's to mend."""

Vector = Sequence[float | None]

_MAX_FLOAT = 1.7976931348623157e308


@dataclass(frozen=True)
class Outcomes:
    """Columns of some rows.

    Attributes:
        features: the vectors as they were read; None where one could not be.
        members: JSON texts.
        errors: JSON texts; None exactly where there is a score.
    """

    features: Sequence[Vector | None]
    labels: Sequence[str | None]
    scores: Sequence[float | None]
    members: Sequence[str | None]
    errors: Sequence[str | None]

    @property
    def codes(self) -> set[str]:
        """Codes of the errors there are."""
        return {json.loads(error)["code"] for error in set(self.errors) if error is not None}

    def part(self, start: int, stop: int) -> Outcomes:
        """The rows from `start` up to `stop`."""
        rows = slice(start, stop)
        return Outcomes(self.features[rows], self.labels[rows], self.scores[rows], self.members[rows], self.errors[rows])


def read_outcomes(features: pa.Array, unreadable: Mapping[int, RowError], answer: pa.StructArray) -> Outcomes:
    """The columns of `predict`'s answer; rows that could not be read keep the reason that was found before.

    Args:
        features: list<double>[rows].
        unreadable: position to error.
        answer: struct of `udfs.predict.RESULT_TYPE`[rows].
    """
    labels, scores, members, errors = answer.flatten()
    told = text_column(errors).to_pylist()
    for at, error in unreadable.items():
        told[at] = error.as_json()
    return Outcomes(features.to_pylist(), labels.to_pylist(), scores.to_pylist(), text_column(members).to_pylist(), told)


def records(
    outcomes: Outcomes,
    *,
    tenant: TenantId,
    endpoint: str,
    ids: Sequence[str],
    keys: Sequence[str],
    epochs: Sequence[int | None],
    predicted_at: datetime,
) -> list[Record]:
    """The records for topic `predictions.online`, whose columns are those of source `online_events`."""
    head = (
        f'"tenant_id": {json.dumps(tenant)}, "endpoint": {json.dumps(endpoint)}, "predicted_at": "{predicted_at.isoformat()}"'
    )
    result = []
    for at, vector in enumerate(outcomes.features):
        key = keys[at]
        value = (
            f'{{"prediction_id": "{ids[at]}", {head}, "entity_id": {json.dumps(key)}, "features": {_numbers(vector)}, '
            f'"route_epoch": {json.dumps(epochs[at])}, "label": {json.dumps(outcomes.labels[at])}, '
            f'"score": {json.dumps(outcomes.scores[at])}, "members": {outcomes.members[at] or "null"}, '
            f'"error": {outcomes.errors[at] or "null"}}}'
        )
        result.append(Record(record_key(tenant, key), value.encode()))
    return result


def answer_json(
    outcomes: Outcomes, *, endpoint: str, ids: Sequence[str], served: Served, latency_ms: float, more: str = ""
) -> bytes:
    """The body of an answer; see `api.inference.routes.PredictAnswer`.

    Args:
        more: further members of the JSON object, each with a comma before it.
    """
    refused = [
        f'{{"row": {at}, {error.strip()[1:]}' for at, error in enumerate(outcomes.errors) if error is not None
    ]  # the error's own JSON, opened again
    return (
        f'{{"predictions": {json.dumps(outcomes.labels)}, "probabilities": {json.dumps(outcomes.scores)}, '
        f'"model_name": {json.dumps(served.model_name)}, "model_version": {json.dumps(served.model_version)}, '
        f'"prediction_ids": {json.dumps(ids)}, "latency_ms": {latency_ms:.3f}, "endpoint": {json.dumps(endpoint)}, '
        f'"members": [{", ".join(each or "null" for each in outcomes.members)}], "errors": [{", ".join(refused)}], '
        f'"lineage": {served.lineage}{more}}}'
    ).encode()


def status_of(outcomes: Outcomes) -> int:
    """200 when at least one row has an answer; else whose fault it is: 422 the caller's, 503 ours."""
    if any(error is None for error in outcomes.errors):
        return 200
    return 422 if outcomes.codes <= INPUT_CODES else 503


def _numbers(vector: Vector | None) -> str:
    """A vector as JSON, which knows neither NaN nor Infinity: they become null."""
    if vector is None:
        return "null"
    try:
        return json.dumps(vector, allow_nan=False)
    except ValueError:
        return json.dumps([value if value is not None and -_MAX_FLOAT <= value <= _MAX_FLOAT else None for value in vector])
