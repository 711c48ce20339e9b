"""The check must find what is wrong: each test breaks one thing that was right."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from headrace.demo.check import _check_place, _check_quarantine
from headrace.demo.expectations import Judged, Verdict
from headrace.demo.places import Prediction
from headrace.demo.rescore import Answer
from headrace.demo.summary import Summary

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def prediction(name: str = "a", **more: object) -> Prediction:
    return Prediction(name, "plant", "t", "e", NOON, NOON, (1.0, 2.0), 1, "faulty", 0.9, [], None)._replace(**more)  # type: ignore[arg-type]


def judged_place(found: list[Prediction]) -> Summary:
    summary = Summary()
    expected = {name: (prediction(name), Answer("faulty", 0.9)) for name in ("a", "b")}
    _check_place("plant", "topic", found, expected, summary)
    return summary


def test_what_is_right_passes() -> None:
    summary = judged_place([prediction("a"), prediction("b")])
    assert summary.ok
    assert (summary.duplicates, summary.missing) == (0, 0)


def test_duplicates_and_missing_rows_are_counted() -> None:
    summary = judged_place([prediction("a"), prediction("a")])
    assert not summary.ok
    assert (summary.duplicates, summary.missing) == (1, 1)


@pytest.mark.parametrize(
    "change",
    [
        {"features": (1.0, 2.0000001)},
        {"features": (1.0, None)},
        {"features": (1.0,)},
        {"label": "healthy"},
        {"score": 0.91},
        {"score": None},
        {"error": {"code": "x"}},
        {"route_epoch": 2},
        {"tenant_id": "u"},
        {"feature_end": NOON.replace(hour=13)},
    ],
)
def test_one_wrong_value_fails(change: dict[str, object]) -> None:
    assert not judged_place([prediction("a"), prediction("b", **change)]).ok


def test_a_prediction_that_nobody_expected_fails() -> None:
    assert not judged_place([prediction("a"), prediction("b"), prediction("c")]).ok


def test_an_empty_place_fails() -> None:
    summary = Summary()
    _check_place("plant", "topic", [], {}, summary)
    assert not summary.ok


@pytest.mark.parametrize(
    ("quarantined", "ok"),
    [
        ([(0, 3, "late by 5 s"), (0, 4, "invalid JSON")], True),
        ([(0, 3, "late by 5 s")], False),
        ([(0, 3, "late by 5 s"), (0, 4, "invalid JSON"), (0, 5, "late")], False),
        ([(0, 3, "invalid JSON"), (0, 4, "invalid JSON")], False),
        ([(0, 3, "late"), (0, 3, "late"), (0, 4, "invalid JSON")], False),
    ],
)
def test_quarantine_must_hold_exactly_the_bad_rows_for_their_reasons(quarantined: list[tuple[int, int, str]], ok: bool) -> None:
    import pyarrow as pa

    summary = Summary()
    judged = Judged(pa.table({}), (Verdict(0, 3, "late"), Verdict(0, 4, "broken")), None)
    _check_quarantine("plant", judged, quarantined, summary)
    assert summary.ok is ok
