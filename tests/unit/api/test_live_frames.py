"""Frames and mailboxes: what is left out is always accounted for."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.live.changes import Position
from api.live.frames import MAX_ROWS, Frame, FrameBuilder
from api.live.mailbox import Mailbox, OverflowPolicy, SlowConsumerError


def _frame(seq: int, matched: int) -> Frame:
    builder = FrameBuilder(random.Random(seq))
    for number in range(matched):
        builder.insert({"id": (seq, number)}, committed_at_ms=1000)
    return builder.build(seq, Position(1000, seq), now_ms=1000.0 + seq)


@given(st.lists(st.integers(1, 100), min_size=1, max_size=30), st.integers(1, 5), st.data())
async def test_the_sums_are_exact_however_slow_the_client_is(matched: list[int], capacity: int, data: st.DataObject) -> None:
    policy = data.draw(st.sampled_from([OverflowPolicy.COALESCE, OverflowPolicy.DROP_OLDEST]))
    mailbox = Mailbox(capacity, policy)
    received: list[Frame] = []
    for seq, count in enumerate(matched, start=1):
        mailbox.offer(_frame(seq, count))
        assert len(mailbox) <= capacity
        if data.draw(st.booleans()) and len(mailbox):
            received.append(await mailbox.next())
    while len(mailbox):
        received.append(await mailbox.next())
    assert sum(frame.total for frame in received) == sum(matched)
    expected_seq = 1
    for frame in received:
        assert frame.sampled <= MAX_ROWS
        assert frame.total >= frame.sampled + frame.dropped
        if frame.gap is None:
            assert (frame.seq, frame.dropped) == (expected_seq, 0)
        else:  # the hole in the numbers is exactly what the gap says
            assert (frame.gap.first, frame.gap.last, frame.gap.count) == (expected_seq, frame.seq - 1, frame.dropped)
        expected_seq = frame.seq + 1
    shown = [row["id"] for frame in received for row in frame.rows]
    assert len(shown) == len(set(shown))
    assert shown == sorted(shown)
    # Rows that everybody else was shown and this client was not are exactly those that are called dropped.
    sampled_for_all = sum(min(count, MAX_ROWS) for count in matched)
    assert len(shown) + sum(frame.dropped for frame in received) == sampled_for_all


async def test_a_slow_client_that_asked_for_it_is_disconnected() -> None:
    mailbox = Mailbox(2, OverflowPolicy.DISCONNECT)
    for seq in (1, 2, 3, 4):
        mailbox.offer(_frame(seq, 1))
    with pytest.raises(SlowConsumerError):
        await mailbox.next()
    assert len(mailbox) == 0


def test_every_row_has_the_same_chance_to_be_shown() -> None:
    shown = [0] * 200
    for seed in range(2000):
        builder = FrameBuilder(random.Random(seed))
        for number in range(200):
            builder.insert({"n": number}, 0)
        for row in builder.build(1, Position(0, 0), 0.0).rows:
            shown[row["n"]] += 1
    # 2000 draws of 40 in 200: 400 each, standard deviation 18; six of them are never reached by an even sample.
    assert all(abs(count - 400) < 108 for count in shown)


def test_percentiles_are_of_all_rows_and_not_of_the_sample() -> None:
    builder = FrameBuilder(random.Random(0))
    for _ in range(990):
        builder.insert({}, committed_at_ms=990)
    for _ in range(10):
        builder.insert({}, committed_at_ms=500)
    frame = builder.build(1, Position(0, 0), now_ms=1000.0)
    assert (frame.total, frame.sampled, frame.p50, frame.p99) == (1000, MAX_ROWS, 10.0, 10.0)
    for _ in range(980):
        builder.insert({}, committed_at_ms=990)
    for _ in range(20):
        builder.insert({}, committed_at_ms=500)
    assert builder.build(2, Position(0, 0), now_ms=1000.0).p99 == 500.0
