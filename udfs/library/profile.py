"""`profile`: mergeable sketches of columns of numbers, as JSON.

    profile(array_agg(x))                        a sketch of a group or window
    profile_merge(jsonb_agg(sketch))             one of all of them: the same as if all values had been in one group
    profile_read(sketch)                         rows, nulls, null_rate, mean, variance, minimum, maximum and quantiles
    profile_quantile(sketch, 0.999)

Mean and variance are merged pairwise, so that they do not cancel. Quantiles are within 1 % of a value of that rank; their sketch
counts values in buckets of growing width, so merging is adding: exact, in any order, the same in every replay. (The KLL sketch of
the DataSketches library draws random bits, so two runs over the same rows differ.) NaN and infinite values are counted, not used.

Source: Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1979; Masson, Rim and
Lee, "DDSketch: a fast and fully-mergeable quantile sketch with relative-error guarantees", PVLDB 12(12), 2019.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from udfs.functions import udf

_ACCURACY = 0.01
_LOG_GAMMA = math.log((1 + _ACCURACY) / (1 - _ACCURACY))
_BUCKETS = 2_048  # for each sign: a range of 10^17 to 1; below it the smallest values share a bucket
_SMALLEST = 1e-300  # nearer to zero counts as zero
_EMPTY = {"rows": 0, "nulls": 0, "not_finite": 0, "count": 0, "zeros": 0, "positive": {}, "negative": {}}


class Profile(NamedTuple):
    """What a sketch tells; NULL where there are no values. `variance` is that of the values, divided by their number."""

    rows: int
    nulls: int
    not_finite: int
    null_rate: float | None
    mean: float | None
    variance: float | None
    minimum: float | None
    maximum: float | None
    p01: float | None
    p05: float | None
    p25: float | None
    p50: float | None
    p75: float | None
    p95: float | None
    p99: float | None


@udf
def profile(numbers: list[float | None]) -> dict[str, Any]:
    """A sketch of the numbers."""
    present = np.array([value for value in numbers if value is not None], np.float64)
    values = present[np.isfinite(present)]
    sketch = {
        "rows": len(numbers),
        "nulls": len(numbers) - len(present),
        "not_finite": len(present) - len(values),
        "count": len(values),
    }
    if not len(values):
        return _EMPTY | sketch
    mean = math.fsum(values.tolist()) / len(values)
    small = np.abs(values) < _SMALLEST
    return sketch | {
        "mean": mean,
        "squares": _bounded(math.fsum(_squares(values - mean).tolist())),
        "minimum": float(values.min()),
        "maximum": float(values.max()),
        "zeros": int(small.sum()),
        "positive": _buckets(values[~small & (values > 0)]),
        "negative": _buckets(-values[~small & (values < 0)]),
    }


@udf
def profile_merge(sketches: Any) -> dict[str, Any]:  # Any: a JSON array
    """One sketch of all; NULLs among them are left out.

    Raises:
        ValueError: it is no array of sketches.
    """
    if not isinstance(sketches, list):
        raise ValueError("`profile_merge` takes a JSON array of sketches; write profile_merge(jsonb_agg(sketch))")
    merged: dict[str, Any] = _EMPTY
    for sketch in sketches:
        if sketch is not None:
            merged = _merge(merged, sketch)
    return merged


@udf
def profile_read(sketch: dict[str, Any]) -> Profile:
    """What the sketch tells."""
    count = sketch["count"]
    quantiles = [_quantile(sketch, q) for q in (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)]
    return Profile(
        sketch["rows"],
        sketch["nulls"],
        sketch["not_finite"],
        sketch["nulls"] / sketch["rows"] if sketch["rows"] else None,
        sketch["mean"] if count else None,
        sketch["squares"] / count if count else None,
        sketch["minimum"] if count else None,
        sketch["maximum"] if count else None,
        *quantiles,
    )


@udf
def profile_quantile(sketch: dict[str, Any], q: float) -> float | None:
    """The value at rank `q`, 0 to 1.

    Raises:
        ValueError: `q` is no rank.
    """
    if not 0 <= q <= 1:
        raise ValueError(f"a rank lies between 0 and 1, got {q}")
    return _quantile(sketch, q)


def _merge(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    try:
        merged: dict[str, Any] = {name: one[name] + other[name] for name in ("rows", "nulls", "not_finite", "count", "zeros")}
        for sign in ("positive", "negative"):
            merged[sign] = _collapsed({key: one[sign].get(key, 0) + other[sign].get(key, 0) for key in one[sign] | other[sign]})
        if not one["count"] or not other["count"]:
            filled = other if other["count"] else one
            return merged | {name: filled[name] for name in ("mean", "squares", "minimum", "maximum") if name in filled}
        apart = other["mean"] - one["mean"]
        merged["mean"] = one["mean"] + apart * other["count"] / merged["count"]
        shared = one["count"] * other["count"] / merged["count"]
        merged["squares"] = _bounded(one["squares"] + other["squares"] + apart * apart * shared)
        merged["minimum"] = min(one["minimum"], other["minimum"])
        merged["maximum"] = max(one["maximum"], other["maximum"])
    except (KeyError, TypeError, AttributeError) as problem:
        raise ValueError(f"`{str(other)[:60]}` is no sketch of `profile`") from problem
    return merged


def _squares(values: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        squares: np.ndarray = np.minimum(values * values, sys.float_info.max / (len(values) + 1))
    return squares


def _bounded(value: float) -> float:
    return min(value, sys.float_info.max)  # JSON knows no infinity


def _buckets(values: np.ndarray) -> dict[str, int]:
    """Counts by bucket; bucket i holds (gamma^(i - 1), gamma^i]."""
    places, counts = np.unique(np.ceil(np.log(values) / _LOG_GAMMA).astype(np.int64), return_counts=True)
    return _collapsed({str(place): int(count) for place, count in zip(places, counts, strict=True)})


def _collapsed(buckets: dict[str, int]) -> dict[str, int]:
    if len(buckets) <= _BUCKETS:
        return buckets
    ordered = sorted(buckets, key=int)
    kept = ordered[-_BUCKETS:]
    lowest = sum(buckets[key] for key in ordered[: -_BUCKETS + 1])
    return {kept[0]: lowest} | {key: buckets[key] for key in kept[1:]}


def _quantile(sketch: Mapping[str, Any], q: float) -> float | None:
    if not sketch["count"]:
        return None
    rank = q * (sketch["count"] - 1)
    passed = 0
    for value, count in _ascending(sketch):
        passed += count
        if passed > rank:
            return float(min(max(value, sketch["minimum"]), sketch["maximum"]))
    return float(sketch["maximum"])


def _ascending(sketch: Mapping[str, Any]) -> list[tuple[float, int]]:
    """The buckets' middles (in relative terms) and counts, from the lowest value up."""

    def middle(key: str) -> float:
        return 2 * math.exp(int(key) * _LOG_GAMMA) / (1 + math.exp(_LOG_GAMMA))

    below = [(-middle(key), sketch["negative"][key]) for key in sorted(sketch["negative"], key=int, reverse=True)]
    above = [(middle(key), sketch["positive"][key]) for key in sorted(sketch["positive"], key=int)]
    return [*below, (0.0, sketch["zeros"]), *above]


EXAMPLES = {
    "profile@1": [
        (
            ([],),
            {"rows": 0, "nulls": 0, "not_finite": 0, "count": 0, "zeros": 0, "positive": {}, "negative": {}},
        ),
        ((None,), None),
    ],
    "profile_quantile@1": [
        (({"count": 1, "minimum": 2.0, "maximum": 2.0, "zeros": 0, "positive": {"35": 1}, "negative": {}}, 0.5), 2.0)
    ],
}
