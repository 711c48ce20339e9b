"""Reads topics from outside, as any Kafka client would."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from confluent_kafka import OFFSET_BEGINNING, TIMESTAMP_NOT_AVAILABLE, Consumer, Message, TopicPartition

from core.errors import UnavailableError

QUIET_SECONDS = 30.0  # longest silence of a broker on this machine before it counts as gone


@dataclass(frozen=True)
class Raw:
    """One record as it lies in the log; `appended_ms` is the broker's append time, unix milliseconds."""

    partition: int
    offset: int
    appended_ms: int
    key: str
    value: bytes

    @property
    def tenant(self) -> str:
        """The tenant, from the key `tenant/entity`: the value may be unreadable."""
        return self.key.partition("/")[0]


def build_consumer(bootstrap: str) -> Consumer:
    """A consumer that reads committed records by assignment only; it commits nothing."""
    return Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "headrace-demo",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "enable.partition.eof": False,
        }
    )


def partitions(consumer: Consumer, topic: str) -> list[int]:
    """The topic's partitions; empty if there is no such topic."""
    found = consumer.list_topics(topic, timeout=QUIET_SECONDS).topics.get(topic)
    return sorted(found.partitions) if found is not None and found.error is None else []


def read_all(bootstrap: str, topic: str) -> list[Raw]:
    """Read a topic from its beginning to what is its end now, in offset order within a partition.

    Raises:
        UnavailableError: the broker falls silent before the end.
    """
    consumer = build_consumer(bootstrap)
    try:
        ends: dict[int, int] = {}
        for partition in partitions(consumer, topic):
            low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=QUIET_SECONDS)
            if high > low:
                ends[partition] = high
        consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in ends])
        return sorted(_until(consumer, topic, ends), key=lambda raw: (raw.partition, raw.offset))
    finally:
        consumer.close()


def _until(consumer: Consumer, topic: str, ends: dict[int, int]) -> Iterator[Raw]:
    reached = dict.fromkeys(ends, 0)
    heard = time.monotonic()
    while any(reached[partition] < end for partition, end in ends.items()):
        for message in consumer.consume(5000, timeout=0.5):
            if message.error() is not None:
                raise UnavailableError(f"topic `{topic}` cannot be read: {message.error()}")
            raw = parse(message)
            reached[raw.partition] = raw.offset + 1
            heard = time.monotonic()
            if raw.offset < ends[raw.partition]:
                yield raw
        # Control records of transactions end a log without being handed out: the position tells.
        for place in consumer.position([TopicPartition(topic, partition) for partition in ends]):
            if place.offset >= 0:
                reached[place.partition] = max(reached[place.partition], place.offset)
        if time.monotonic() - heard > QUIET_SECONDS:
            raise UnavailableError(f"topic `{topic}` falls silent at {reached} of {ends}")


def parse(message: Message[bytes, bytes]) -> Raw:
    """Take apart what confluent-kafka hands out."""
    kind, milliseconds = message.timestamp()
    partition, offset, key = message.partition(), message.offset(), message.key()
    assert kind != TIMESTAMP_NOT_AVAILABLE
    assert partition is not None
    assert offset is not None
    return Raw(partition, offset, milliseconds, key.decode() if key else "", message.value() or b"")
