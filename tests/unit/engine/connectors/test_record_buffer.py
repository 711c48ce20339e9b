"""The buffer between a source's thread and the engine: order, bounds, release."""

from __future__ import annotations

import threading

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from engine.connectors.record_buffer import RecordBuffer


def batch(begin: int, rows: int) -> pa.RecordBatch:
    return pa.record_batch({"n": pa.array(range(begin, begin + rows), pa.int64())})


@given(puts=st.lists(st.integers(1, 20), max_size=10), takes=st.lists(st.integers(1, 25), max_size=30))
def test_rows_come_out_once_and_in_order_however_they_are_cut(puts: list[int], takes: list[int]) -> None:
    buffer = RecordBuffer(10_000, 1 << 20)
    total = 0
    for rows in puts:
        buffer.put(batch(total, rows))
        total += rows
    out: list[int] = []
    for wanted in [*takes, *[25] * 10]:
        table = buffer.take(wanted)
        assert (table is None) == (len(out) == total)
        if table is not None:
            assert table.num_rows == min(wanted, total - len(out))
            out += table.column("n").to_pylist()
        assert buffer.rows == total - len(out)
    assert out == list(range(total))


def test_there_is_no_room_at_the_bound_until_rows_are_taken() -> None:
    for buffer in (RecordBuffer(5, 1 << 20), RecordBuffer(100, 5 * 8)):
        buffer.put(batch(0, 5))
        assert not buffer.wait_for_room(0.0)
        assert buffer.take(1) is not None
        assert buffer.wait_for_room(0.0)


def test_a_waiting_putter_goes_on_when_rows_are_taken() -> None:
    buffer = RecordBuffer(1, 1 << 20)
    buffer.put(batch(0, 1))
    answers: list[bool] = []
    putter = threading.Thread(target=lambda: answers.append(buffer.wait_for_room(20.0)))
    putter.start()
    buffer.take(1)
    putter.join(20.0)
    assert answers == [True]


def test_release_lets_a_waiting_putter_go_without_room() -> None:
    buffer = RecordBuffer(1, 1 << 20)
    buffer.put(batch(0, 1))
    buffer.release()
    assert not buffer.wait_for_room(20.0)
