"""Sequence numbers against a model: whatever is repeated, reordered or skipped, each batch is stored once and in order."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kio.schema.errors import ErrorCode

from broker.log.batch import BatchHeader
from broker.log.producers import EXPIRES_AFTER_MS, ProducerTable
from broker.refusal import Refusal


def header(producer_id: int, epoch: int, sequence: int, count: int = 1, offset: int = 0, time_ms: int = 0) -> BatchHeader:
    return BatchHeader(offset, 100, 0, 2, 0, 0, count - 1, time_ms, time_ms, producer_id, epoch, sequence, count)


def offer(table: ProducerTable, item: BatchHeader) -> int | None:
    staged = table.stage()
    known = staged.check(item)
    if known is None:
        staged.remember(item)
        table.apply(staged)
    return known


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(-3, 2)), max_size=60))
def test_the_next_is_taken_the_last_five_are_repetitions_the_rest_is_refused(steps: list[tuple[int, int]]) -> None:
    table = ProducerTable()
    sent: dict[int, list[int]] = {0: [], 1: [], 2: []}  # producer -> offset of each batch, index = sequence
    offset = 0
    for producer_id, shift in steps:
        history = sent[producer_id]
        sequence = max(len(history) + shift, 0) if history else 0
        item = header(producer_id, 0, sequence, offset=offset)
        if sequence == len(history):
            assert offer(table, item) is None
            history.append(offset)
            offset += 1
        elif sequence < len(history) and sequence >= len(history) - 5:
            assert offer(table, item) == history[sequence]
        else:
            with pytest.raises(Refusal) as refused:
                offer(table, item)
            assert refused.value.code in (ErrorCode.out_of_order_sequence_number, ErrorCode.duplicate_sequence_number)


def test_sequence_numbers_wrap() -> None:
    table = ProducerTable()
    assert offer(table, header(1, 0, 2**31 - 2, count=2)) is None
    assert offer(table, header(1, 0, 0, offset=2)) is None
    assert offer(table, header(1, 0, 2**31 - 2, count=2)) == 0


def test_a_snapshot_is_the_state_and_forgets_who_was_silent_for_a_day(tmp_path: Path) -> None:
    table = ProducerTable()
    offer(table, header(1, 0, 0, time_ms=1000))
    offer(table, header(2, 3, 0, time_ms=EXPIRES_AFTER_MS, offset=9))
    path = tmp_path / "snapshot"
    table.save(path, now_ms=EXPIRES_AFTER_MS + 2000)
    loaded = ProducerTable.load(path)
    assert loaded is not None
    assert loaded.entry(1) is None
    assert loaded.entry(2) == table.entry(2)
    assert offer(loaded, header(2, 3, 0)) == 9
