"""A frame: what happened to a view in one interval, small enough to be sent to everybody, and honest about what it leaves out.

For every frame that a client receives, `total = len(rows) + left out by sampling + dropped`, and the totals of all
frames add up to the number of rows that matched, whatever was merged or discarded on the way.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from typing import Any

from api.live.changes import Position, Row

MAX_ROWS = 40  # more than this per tenth of a second nobody reads (frontend measurements)


@dataclass(frozen=True)
class Gap:
    """Frames `first` to `last` (numbers) have no message of their own; `count` of their rows are lost to this client.

    `count` is None when nobody can know it: changes that the stream database no longer keeps.
    """

    first: int
    last: int
    count: int | None


@dataclass(frozen=True)
class Frame:
    """One interval.

    Args:
        seq: number in its channel, from 1, without holes; a hole at the client is explained by `gap`.
        cursor: the place after the last change that the frame accounts for.
        total: rows that matched.
        rows: at most `MAX_ROWS` of them, sampled evenly, in commit order.
        dropped: rows that other clients were shown and this one was not, because it was too slow.
        retracted: rows that were taken back (deletions, and the old side of updates).
        p50, p99: of the delivery lag in milliseconds, from the commit in the stream database to this frame, over all
            rows and not only the sample. Of merged frames the larger one: an upper bound.
    """

    seq: int
    cursor: Position
    total: int
    rows: tuple[Row, ...]
    retracted: int = 0
    dropped: int = 0
    gap: Gap | None = None
    p50: float | None = None
    p99: float | None = None
    memo: dict[Hashable, Any] = field(default_factory=dict, init=False, repr=False, compare=False)  # Any: the reader's own
    """What readers made of this frame, so that it is made once for all who share it."""

    @property
    def sampled(self) -> int:
        return len(self.rows)


class FrameBuilder:
    """Gathers an interval's changes in bounded memory."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._clear()

    def _clear(self) -> None:
        self._total = 0
        self._retracted = 0
        self._sample: list[tuple[int, Row]] = []  # arrival number, row
        self._committed: Counter[int] = Counter()  # few distinct values: one per commit

    @property
    def empty(self) -> bool:
        return not self._total and not self._retracted

    def insert(self, row: Row, committed_at_ms: int) -> None:
        """Add a row that matched; every row of the interval has the same chance to be shown (reservoir sampling)."""
        self._total += 1
        self._committed[committed_at_ms] += 1
        if len(self._sample) < MAX_ROWS:
            self._sample.append((self._total, row))
        else:
            at = self._rng.randrange(self._total)
            if at < MAX_ROWS:
                self._sample[at] = (self._total, row)

    def retract(self) -> None:
        """Count a row that was taken back."""
        self._retracted += 1

    def build(self, seq: int, cursor: Position, now_ms: float) -> Frame:
        """Close the interval and begin the next."""
        lags = sorted((max(0.0, now_ms - committed), count) for committed, count in self._committed.items())
        frame = Frame(
            seq=seq,
            cursor=cursor,
            total=self._total,
            rows=tuple(row for _, row in sorted(self._sample, key=lambda numbered: numbered[0])),
            retracted=self._retracted,
            p50=_percentile(lags, self._total, 0.50),
            p99=_percentile(lags, self._total, 0.99),
        )
        self._clear()
        return frame


def fold(older: Frame, newer: Frame, *, keep_rows: bool) -> Frame:
    """One frame that stands for two neighbours in a queue; nothing is lost from the sums.

    Args:
        keep_rows: keep the older frame's rows too, as far as there is room; else they are dropped.
    """
    rows = (older.rows + newer.rows)[-MAX_ROWS:] if keep_rows else newer.rows
    lost = older.dropped + newer.dropped + len(older.rows) + len(newer.rows) - len(rows)
    unknown = any(frame.gap is not None and frame.gap.count is None for frame in (older, newer))
    return replace(
        newer,
        total=older.total + newer.total,
        rows=rows,
        retracted=older.retracted + newer.retracted,
        dropped=lost,
        gap=Gap(older.gap.first if older.gap else older.seq, newer.seq - 1, None if unknown else lost),
        p50=_larger(older.p50, newer.p50),
        p99=_larger(older.p99, newer.p99),
    )


def _percentile(sorted_lags: list[tuple[float, int]], total: int, fraction: float) -> float | None:
    """The smallest lag that at least `fraction` of the rows do not exceed (nearest rank)."""
    passed = 0
    for lag, count in sorted_lags:
        passed += count
        if passed >= fraction * total:
            return lag
    return None


def _larger(one: float | None, other: float | None) -> float | None:
    return max((lag for lag in (one, other) if lag is not None), default=None)
