"""Accuracy from labels that come late: unbiased where it says so, bounded elsewhere."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from learning.routing.evidence import Counts, ModelWindow, Row, Window, accuracy, scored, windows

START = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def window_of(lot: np.random.Generator, rows: int, labelled_share: dict[tuple[str, bool], float]) -> ModelWindow:
    """Answers `yes` are right in 60 %, `no` in 90 %; a label has come with a probability that depends on answer and rightness."""
    says_yes = lot.random(rows) < 0.3
    right = lot.random(rows) < np.where(says_yes, 0.6, 0.9)
    found = {}
    for answer, mine in (("yes", says_yes), ("no", ~says_yes)):
        share = np.where(right, labelled_share[answer, True], labelled_share[answer, False])
        known = mine & (lot.random(rows) < share)
        found[answer] = Counts(int(mine.sum()), int(known.sum()), int((known & right).sum()))
    return ModelWindow(rows, 0, found)


TRUE = 0.3 * 0.6 + 0.7 * 0.9


def mean_of_many(labelled_share: dict[tuple[str, bool], float]) -> tuple[float, float, float, float]:
    """Plain and weighted accuracy, lower and upper bound, each averaged over many windows."""
    lot = np.random.default_rng(1)
    found = [window_of(lot, 400, labelled_share) for _ in range(400)]
    plain = np.mean([each.correct / each.labelled for each in found])
    weighted = np.mean([each.accuracy for each in found])
    low = np.mean([each.correct / each.asked for each in found])
    high = np.mean([(each.asked - each.labelled + each.correct) / each.asked for each in found])
    return float(plain), float(weighted), float(low), float(high)


def test_with_delays_that_do_not_depend_on_the_outcome_both_accuracies_are_unbiased() -> None:
    plain, weighted, low, high = mean_of_many(dict.fromkeys([(a, r) for a in ("yes", "no") for r in (True, False)], 0.3))
    # One standard error of the mean over 400 windows of 120 labels is 0.0018.
    assert plain == pytest.approx(TRUE, abs=0.006)
    assert weighted == pytest.approx(TRUE, abs=0.006)
    assert low < TRUE < high


def test_with_delays_that_depend_on_the_answer_only_the_weighted_one_is_unbiased() -> None:
    plain, weighted, low, high = mean_of_many({("yes", True): 0.9, ("yes", False): 0.9, ("no", True): 0.2, ("no", False): 0.2})
    assert weighted == pytest.approx(TRUE, abs=0.006)
    assert plain < TRUE - 0.05
    assert low < TRUE < high


def test_with_delays_that_depend_on_the_outcome_only_the_bounds_hold() -> None:
    plain, weighted, low, high = mean_of_many({("yes", True): 0.2, ("yes", False): 0.8, ("no", True): 0.2, ("no", False): 0.8})
    assert plain < TRUE - 0.1
    assert weighted < TRUE - 0.1
    assert low < TRUE < high


def test_older_windows_with_more_labels_do_not_count_for_more() -> None:
    old = Window(START, {"m@1": ModelWindow(100, 0, {"yes": Counts(100, 100, 90)})})
    new = Window(START + HOUR, {"m@1": ModelWindow(100, 0, {"yes": Counts(100, 10, 5)})})
    assert accuracy([old, new], "m@1") == (pytest.approx(0.7), 110)  # and not 95 / 110


def test_errors_are_wrong_answers_and_a_model_without_labels_has_no_accuracy() -> None:
    failing = Window(
        START, {"m@1": ModelWindow(100, 20, {"yes": Counts(80, 80, 80)}), "n@1": ModelWindow(100, 0, {"yes": Counts(100)})}
    )
    assert accuracy([failing], "m@1") == (pytest.approx(0.8), 80)
    assert accuracy([failing], "n@1") is None
    assert accuracy([failing], "nobody@1") is None


def row(minute: int, answer: str | None, *, epoch: int = 1, labelled: int = 0) -> Row:
    asked, errors = 10, 0 if answer else 10
    return Row("m@1", START + timedelta(minutes=minute), epoch, answer, asked, asked - errors, errors, labelled, labelled)


def test_a_window_is_closed_when_a_later_one_has_begun_and_counts_when_enough_labels_came() -> None:
    rows = [
        row(0, "yes", labelled=10),
        row(59, None),
        row(60, "yes", labelled=2),
        row(119, "no", labelled=2),
        row(120, "no", labelled=10),
    ]
    closed = windows(rows, HOUR)
    assert [(each.start, each.models["m@1"].asked, each.models["m@1"].errors) for each in closed] == [
        (START, 20, 10), (START + HOUR, 20, 0),
    ]  # fmt: skip
    assert [each.start for each in scored(closed, 0.5)] == [START]
    assert [each.start for each in scored(closed, 0.2)] == [START, START + HOUR]


def test_rows_of_earlier_epochs_are_left_out_but_still_say_how_late_it_is() -> None:
    rows = [row(0, "yes", epoch=2), row(60, "yes", epoch=1)]
    assert [each.start for each in windows(rows, HOUR, from_epoch=2)] == [START]
