"""What is known about models, window by window of feature time: counts that can be added up, read from `member_scores`.

An accuracy over several windows weighs each window by what was asked in it, not by the labels that came, and within a window
each labelled answer by the inverse share of labelled ones among the same answers. So late labels bias it neither towards older
windows nor towards answers that are looked at more often, as long as a label's delay does not depend on whether the answer was
right. Source: Horvitz and Thompson, JASA 47, 1952, as a ratio (Hajek, 1971).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from pipelines.routing import Connection

_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Counts:
    """Answers of one model that said the same."""

    answered: int = 0
    labelled: int = 0
    correct: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.answered + other.answered, self.labelled + other.labelled, self.correct + other.correct)


@dataclass(frozen=True)
class ModelWindow:
    """One model in one window.

    Attributes:
        asked: rows for which it was asked.
        errors: rows that it failed on.
        by_answer: what it said.
    """

    asked: int = 0
    errors: int = 0
    by_answer: Mapping[str, Counts] = field(default_factory=dict)

    @property
    def labelled(self) -> int:
        return sum(each.labelled for each in self.by_answer.values())

    @property
    def correct(self) -> int:
        return sum(each.correct for each in self.by_answer.values())

    @property
    def coverage(self) -> float:
        """The share of answers that have a label."""
        answered = sum(each.answered for each in self.by_answer.values())
        return self.labelled / answered if answered else 0.0

    @property
    def accuracy(self) -> float | None:
        """Weighted by the inverse share of labelled answers; None without a label."""
        seen = [each for each in self.by_answer.values() if each.labelled]
        answered = sum(each.answered for each in seen)
        return sum(each.answered * each.correct / each.labelled for each in seen) / answered if answered else None

    def __add__(self, other: ModelWindow) -> ModelWindow:
        answers = {
            answer: self.by_answer.get(answer, Counts()) + other.by_answer.get(answer, Counts())
            for answer in (*self.by_answer, *(each for each in other.by_answer if each not in self.by_answer))
        }
        return ModelWindow(self.asked + other.asked, self.errors + other.errors, answers)


@dataclass(frozen=True)
class Window:
    """One window of feature time; `models` by `name@version`."""

    start: datetime
    models: Mapping[str, ModelWindow]

    @property
    def coverage(self) -> float:
        """The share of answers that have a label, over all models."""
        pooled = ModelWindow()
        for each in self.models.values():
            pooled = pooled + each
        return pooled.coverage


@dataclass(frozen=True)
class Row:
    """A row of `member_scores`."""

    model: str
    minute: datetime
    epoch: int
    answer: str | None
    asked: int
    answered: int
    errors: int
    labelled: int
    correct: int


def newest_minute(connection: Connection, tenant_id: str, endpoint: str) -> datetime | None:
    """The last minute that anything is known of; None before the first answer."""
    row = connection.execute(
        "SELECT max(minute_start) FROM member_scores WHERE tenant_id = %s AND endpoint = %s", (tenant_id, endpoint)
    ).fetchone()
    return row[0] if row is not None else None


def read_rows(connection: Connection, tenant_id: str, endpoint: str, *, since: datetime | None = None) -> list[Row]:
    """The rows of one endpoint, by minute."""
    rows = connection.execute(
        "SELECT model, version, minute_start, route_epoch, answer, asked, answered, errors, labelled, correct"
        " FROM member_scores WHERE tenant_id = %s AND endpoint = %s AND minute_start >= %s"
        " ORDER BY minute_start, model, version, route_epoch, answer",
        (tenant_id, endpoint, since or _BEGINNING),
    ).fetchall()
    return [Row(f"{row[0]}@{row[1]}", row[2], row[3] or 0, row[4], *row[5:]) for row in rows]


def windows(rows: Iterable[Row], length: timedelta, *, from_epoch: int = 0) -> list[Window]:
    """Windows that are closed, oldest first: a later one has begun.

    Args:
        rows: of one endpoint.
        length: of a window; a whole number of minutes.
        from_epoch: rows of earlier route epochs are left out.
    """
    found: dict[datetime, dict[str, ModelWindow]] = defaultdict(dict)
    newest = _BEGINNING
    for row in rows:
        start = _BEGINNING + (row.minute - _BEGINNING) // length * length
        newest = max(newest, start)
        if row.epoch < from_epoch:
            continue
        counts = {row.answer: Counts(row.answered, row.labelled, row.correct)} if row.answer is not None else {}
        before = found[start].get(row.model, ModelWindow())
        found[start][row.model] = before + ModelWindow(row.asked, row.errors, counts)
    return [Window(start, found[start]) for start in sorted(found) if start < newest]


def scored(found: Sequence[Window], least_coverage: float) -> list[Window]:
    """The windows of which enough labels have come."""
    return [window for window in found if window.coverage >= least_coverage]


def accuracy(found: Sequence[Window], model: str) -> tuple[float, int] | None:
    """Over several windows, weighed by what was asked in each; errors are wrong answers.

    Returns:
        the accuracy and how many labels it rests on; None without a label.
    """
    parts = [
        (window.models[model], own) for window in found if model in window.models and (own := _own(window, model)) is not None
    ]
    asked = sum(part.asked for part, _ in parts)
    if not asked:
        return None
    return sum(part.asked * own for part, own in parts) / asked, sum(part.labelled for part, _ in parts)


def _own(window: Window, model: str) -> float | None:
    part = window.models[model]
    found = part.accuracy
    return None if found is None else found * (1.0 - part.errors / part.asked)
