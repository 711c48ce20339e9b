"""Row 35: batches go by size or by time, and the tail lands."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import pytest

from core.clock import SystemClock
from core.errors import UnavailableError
from core.fakes.clock import ManualClock
from features.pushing import Pusher


class Topic:
    """Keeps batches and tells offsets of one partition."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.arrived = threading.Event()
        self.down = False

    def send(self, rows: Sequence[Mapping[str, Any]]) -> dict[int, int]:
        if self.down:
            raise UnavailableError("the broker is away")
        self.batches.append([row["n"] for row in rows])
        self.arrived.set()
        return {0: sum(map(len, self.batches)) - 1}


def test_a_full_batch_goes_at_once_and_the_tail_at_the_end() -> None:
    topic = Topic()
    with Pusher(topic.send, ManualClock(), rows=100) as pusher:
        for n in range(250):
            pusher.add({"n": n})
        assert [len(batch) for batch in topic.batches] == [100, 100]
        assert pusher.positions == {0: 199}
    assert [n for batch in topic.batches for n in batch] == list(range(250))
    assert pusher.positions == {0: 249}


def test_a_row_that_waited_long_enough_goes_although_the_batch_is_not_full() -> None:
    topic, clock = Topic(), ManualClock()
    pusher = Pusher(topic.send, clock, age=timedelta(hours=1))
    pusher.add({"n": 1})
    clock.advance(timedelta(minutes=40))
    pusher.add({"n": 2})
    assert not pusher.flush_due()
    clock.advance(timedelta(minutes=20))
    assert pusher.flush_due(), "the first row's age counts, not the last one's"
    assert topic.batches == [[1, 2]]
    assert not pusher.flush_due()
    pusher.close()


def test_the_tail_lands_without_another_row_ever_coming() -> None:
    topic = Topic()
    pusher = Pusher(topic.send, SystemClock(), age=timedelta(milliseconds=20))
    pusher.add({"n": 1})
    assert topic.arrived.wait(10), "nobody closed it, nobody added a row"
    assert topic.batches == [[1]]
    pusher.close()
    assert topic.batches == [[1]]


def test_a_batch_that_could_not_be_sent_is_kept_and_told() -> None:
    topic = Topic()
    pusher = Pusher(topic.send, ManualClock(), rows=2)
    pusher.add({"n": 1})
    topic.down = True
    with pytest.raises(UnavailableError):
        pusher.add({"n": 2})
    topic.down = False
    pusher.close()
    assert topic.batches == [[1, 2]]
    with pytest.raises(ValueError, match="closed"):
        pusher.add({"n": 3})
