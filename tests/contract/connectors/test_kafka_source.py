"""`KafkaSource` against a real broker: nothing lost, nothing twice, in order, from any position."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from core.errors import CorruptDataError
from engine.connectors.base import RAW_SCHEMA
from engine.connectors.kafka_source import KafkaSource

DEADLINE_SECONDS = 20.0


def options(bootstrap: str, topic: str, **more: str) -> dict[str, str]:
    named = {name.replace("_", "."): value for name, value in more.items()}
    return {"connector": "kafka", "topic": topic, "properties.bootstrap.server": bootstrap, **named}


@pytest.fixture
def topic(bootstrap: str) -> str:
    name = f"source-{uuid.uuid4().hex[:8]}"
    create_topic(bootstrap, name, partitions=2)
    return name


def create_topic(bootstrap: str, name: str, partitions: int) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(name, partitions, 1)])[name].result(DEADLINE_SECONDS)


def produce(bootstrap: str, topic: str, values: list[bytes | None], *, partition: int = 0, **more: Any) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True})
    for value in values:
        producer.produce(topic, value, partition=partition, **more)
    assert producer.flush(DEADLINE_SECONDS) == 0


@contextmanager
def reading(
    source: KafkaSource, positions: Mapping[int, int] | None = None
) -> Iterator[Callable[[int], list[dict[str, object]]]]:
    """Start `source`; the function given takes exactly as many rows as asked for, waiting on `wake`."""
    woken = threading.Event()
    source.start(positions or {}, woken.set)

    def take(count: int) -> list[dict[str, object]]:
        rows: list[dict[str, object]] = []
        deadline = time.monotonic() + DEADLINE_SECONDS
        while len(rows) < count:
            table = source.take(count - len(rows))
            if table is not None:
                assert table.schema == RAW_SCHEMA
                rows += table.to_pylist()
            elif not woken.wait(max(0.0, deadline - time.monotonic())):
                pytest.fail(f"{len(rows)} of {count} rows after {DEADLINE_SECONDS} s")
            else:
                woken.clear()
        return rows

    try:
        yield take
    finally:
        source.close()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "condition not met in time"
        time.sleep(0.01)


def test_all_partitions_are_read_in_order_with_every_raw_column(bootstrap: str, topic: str) -> None:
    produce(
        bootstrap,
        topic,
        [b"%d" % i for i in range(50)],
        key=b"k",
        headers=[("trace", b"1"), ("empty", None)],
        timestamp=1_712_800_800_123,
    )
    produce(bootstrap, topic, [b"a", None], partition=1)
    with reading(KafkaSource(options(bootstrap, topic))) as take:
        rows = take(52)
    first = [row for row in rows if row["partition"] == 0]
    assert [(row["offset"], row["value"]) for row in first] == [(i, b"%d" % i) for i in range(50)]
    assert first[0]["key"] == b"k"
    assert first[0]["headers"] == [{"key": "trace", "value": b"1"}, {"key": "empty", "value": None}]
    assert str(first[0]["timestamp"]) == "2024-04-11 02:00:00.123000"
    other = [(row["offset"], row["key"], row["value"], row["headers"]) for row in rows if row["partition"] == 1]
    assert other == [(0, None, b"a", None), (1, None, None, None)]


def test_stored_positions_are_where_reading_goes_on(bootstrap: str, topic: str) -> None:
    produce(bootstrap, topic, [b"%d" % i for i in range(10)])
    produce(bootstrap, topic, [b"x"], partition=1)
    with reading(KafkaSource(options(bootstrap, topic, scan_startup_mode="latest")), {0: 7, 1: 1}) as take:
        assert [row["value"] for row in take(3)] == [b"7", b"8", b"9"]


def test_latest_begins_after_what_is_there_and_says_where(bootstrap: str, topic: str) -> None:
    produce(bootstrap, topic, [b"old"] * 3)
    source = KafkaSource(options(bootstrap, topic, scan_startup_mode="latest"))
    with reading(source) as take:
        wait_until(lambda: source.starts() == {0: 3, 1: 0})
        produce(bootstrap, topic, [b"new"])
        assert [(row["offset"], row["value"]) for row in take(1)] == [(3, b"new")]


def test_a_startup_time_begins_at_the_first_record_not_older(bootstrap: str, topic: str) -> None:
    for millis in (1000, 2000, 3000):
        produce(bootstrap, topic, [b"%d" % millis], timestamp=millis)
    source = KafkaSource(options(bootstrap, topic) | {"scan.startup.timestamp.millis": "1500"})
    with reading(source) as take:
        assert [row["value"] for row in take(2)] == [b"2000", b"3000"]
        assert source.starts() == {0: 1, 1: 0}


def test_a_topic_that_does_not_exist_yet_is_waited_for_and_read_from_its_first_record(bootstrap: str) -> None:
    name = f"later-{uuid.uuid4().hex[:8]}"
    source = KafkaSource(options(bootstrap, name, scan_startup_mode="latest"))
    with reading(source) as take:
        wait_until(lambda: source._looked)  # it has seen that there is no topic
        assert source.take(10) is None
        create_topic(bootstrap, name, partitions=1)
        produce(bootstrap, name, [b"first"])
        assert take(1)[0]["value"] == b"first"


def test_new_partitions_are_noticed_and_read_from_their_first_record(bootstrap: str, topic: str) -> None:
    source = KafkaSource(options(bootstrap, topic, scan_startup_mode="latest"), discovery_seconds=0.1)
    with reading(source) as take:
        wait_until(lambda: len(source.starts()) == 2)
        admin = AdminClient({"bootstrap.servers": bootstrap})
        admin.create_partitions([NewPartitions(topic, 3)])[topic].result(DEADLINE_SECONDS)
        wait_until(lambda: 2 in admin.list_topics(topic, 5).topics[topic].partitions)
        produce(bootstrap, topic, [b"third"], partition=2)
        assert [(row["partition"], row["value"]) for row in take(1)] == [(2, b"third")]


def test_a_full_buffer_stops_polling_and_nothing_is_lost(bootstrap: str, topic: str) -> None:
    total = 5000
    produce(bootstrap, topic, [b"%d" % i for i in range(total)])
    source = KafkaSource(options(bootstrap, topic) | {"properties.queued.min.messages": "100"}, max_buffered_rows=100)
    with reading(source) as take:
        first = take(1)
        wait_until(lambda: source._buffer.rows >= 100)
        held = source._buffer.rows
        assert not source._buffer.wait_for_room(0.3)
        assert source._buffer.rows == held, "polled although the buffer is full"
        rows = first + take(total - 1)
    assert [row["value"] for row in rows] == [b"%d" % i for i in range(total)]


def test_the_byte_limit_stops_polling_too(bootstrap: str, topic: str) -> None:
    produce(bootstrap, topic, [b"x" * 10_000] * 300)
    source = KafkaSource(
        options(bootstrap, topic) | {"properties.queued.max.messages.kbytes": "200"}, max_buffered_bytes=500_000
    )
    with reading(source) as take:
        take(1)
        wait_until(lambda: not source._buffer.wait_for_room(0.0))
        assert source._buffer.rows < 300
        assert len(take(299)) == 299


def test_lag_counts_what_was_not_taken_and_ends_at_zero(bootstrap: str, topic: str) -> None:
    produce(bootstrap, topic, [b"x"] * 40)
    source = KafkaSource(options(bootstrap, topic))
    with reading(source) as take:
        take(10)
        wait_until(lambda: dict(source.lag()) == {0: 30, 1: 0})
        take(30)
        wait_until(lambda: dict(source.lag()) == {0: 0, 1: 0})


def test_a_position_after_the_end_is_an_error_and_not_a_second_reading(bootstrap: str, topic: str) -> None:
    produce(bootstrap, topic, [b"x"] * 5)
    source = KafkaSource(options(bootstrap, topic))
    woken = threading.Event()
    source.start({0: 50}, woken.set)
    try:
        assert woken.wait(DEADLINE_SECONDS)
        with pytest.raises(CorruptDataError, match="ends at offset 5, but 50 was read already"):
            source.take(10)
    finally:
        source.close()


def test_close_is_quick_even_while_no_broker_answers() -> None:
    source = KafkaSource(options("127.0.0.1:1", "nobody") | {"properties.sync.call.timeout": "300ms"})
    source.start({}, lambda: None)
    began = time.monotonic()
    source.close()
    assert time.monotonic() - began < 5
    assert source._thread is not None
    assert not source._thread.is_alive()


def test_a_batch_is_cut_to_the_rows_asked_for(bootstrap: str, topic: str) -> None:
    produce(bootstrap, topic, [b"%d" % i for i in range(10)])
    source = KafkaSource(options(bootstrap, topic))
    with reading(source) as take:
        wait_until(lambda: source._buffer.rows == 10)
        table = source.take(4)
        assert isinstance(table, pa.Table)
        assert table.column("offset").to_pylist() == [0, 1, 2, 3]
        assert [row["offset"] for row in take(6)] == [4, 5, 6, 7, 8, 9]
