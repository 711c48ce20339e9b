"""Reads the feature rows of a request, so that a row nobody can use is alone with its error.

JSON as Python reads it: `NaN` and `Infinity` are taken, and refused later as values of one row instead of as a broken body.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from api.http.problems import TooLargeError
from core.errors import InvalidInputError
from udfs.route import RowError

MAX_ROWS = 10_000
DEFAULT_ENDPOINT = "default"

_VECTOR = pa.list_(pa.float64())
_KEYS = frozenset({"features", "endpoint", "keys", "experiment_id"})


@dataclass(frozen=True)
class FeatureRows:
    """Rows as `predict` takes them.

    Attributes:
        features: list<double>[rows]; NULL where a row could not be read.
        errors: position to why it could not.
    """

    features: pa.Array
    errors: Mapping[int, RowError]


@dataclass(frozen=True)
class PredictRequest:
    """What `/predict` was asked.

    Attributes:
        rows: JSON values, of which each should be an array of numbers.
        keys: what each row is about (an entity, a user), to which sticky choices stick; None when the caller named none.
        experiment_id: the experiment whose variants answer.
    """

    rows: Sequence[Any]  # Any: JSON
    endpoint: str = DEFAULT_ENDPOINT
    keys: Sequence[str] | None = None
    experiment_id: str | None = None


def parse_request(body: bytes) -> PredictRequest:
    """Read the body of `/predict`.

    Raises:
        InvalidInputError: it is no such request at all; what is wrong with a row is found by `read_rows`.
        TooLargeError: it has too many rows.
    """
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"the body is no JSON: {error}", fix='Send {"features": [[1.0, 2.0, 3.0]]}.') from error
    if not isinstance(asked, dict) or not isinstance(asked.get("features"), list):
        raise InvalidInputError("the body has no array `features`", fix='Send {"features": [[1.0, 2.0, 3.0]]}.')
    unknown = sorted(asked.keys() - _KEYS)
    if unknown:
        raise InvalidInputError(f"{unknown[0]!a} is no key of a request", fix=f"Known are {', '.join(sorted(_KEYS))}.")
    features = asked["features"]
    if not features:
        raise InvalidInputError("`features` has no row", fix="Send at least one row of numbers.")
    if len(features) > MAX_ROWS:
        raise TooLargeError(f"the body has more than {MAX_ROWS} rows", fix="Send it in several requests.")
    return PredictRequest(
        features,
        _text(asked, "endpoint") or DEFAULT_ENDPOINT,
        _keys(asked.get("keys"), len(features)),
        _text(asked, "experiment_id"),
    )


def read_rows(features: Sequence[Any]) -> FeatureRows:  # Any: JSON
    """Read rows of numbers: in one step where all can be read, else one by one."""
    try:
        return FeatureRows(pa.array(features, _VECTOR), {})
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        read = [_read_row(row) for row in features]
    errors = {at: row for at, row in enumerate(read) if isinstance(row, RowError)}
    return FeatureRows(pa.array([None if isinstance(row, RowError) else row for row in read], _VECTOR), errors)


def _read_row(row: object) -> list[float | None] | RowError | None:
    if row is None:
        return None
    if not isinstance(row, list):
        return RowError("wrong_type", f"The row is no array of numbers but {_kind(row)}.")
    numbers: list[float | None] = []
    for at, value in enumerate(row):
        if value is not None and not isinstance(value, int | float):
            return RowError("wrong_type", f"Feature {at} of {len(row)} is {_kind(value)}, not a number.")
        try:
            numbers.append(None if value is None else float(value))
        except OverflowError:
            numbers.append(float("inf"))
    return numbers


def _keys(keys: object, rows: int) -> list[str] | None:
    if keys is None:
        return None
    if not isinstance(keys, list) or len(keys) != rows or not all(isinstance(key, str) and "\x00" not in key for key in keys):
        raise InvalidInputError(f"`keys` is no array of {rows} texts", fix="Give one key for each row, or leave `keys` out.")
    return keys


def _text(asked: Mapping[str, object], name: str) -> str | None:
    value = asked.get(name)
    if value is not None and (not isinstance(value, str) or not value or "\x00" in value):
        raise InvalidInputError(f"`{name}` is no text", fix="Give a name, or leave it out.")
    return value


def _kind(value: object) -> str:
    return {str: "a text", bool: "a boolean", int: "a number", float: "a number", list: "an array"}.get(
        type(value), "an object"
    )
