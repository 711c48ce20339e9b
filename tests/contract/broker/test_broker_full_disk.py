"""The embedded broker on a full disk: produce requests get an error, what was acknowledged stays, and on it goes with room."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition

from tests.services.kafka import Cluster, ServiceUnavailableError, start_embedded
from tests.services.namespace import SmallDisk

TOPIC = "filling"


@pytest.fixture
def disk(tmp_path: Path, services_required: bool) -> Iterator[SmallDisk]:
    try:
        made = SmallDisk(tmp_path / "disk", "16m")
    except ServiceUnavailableError as error:
        if services_required:
            raise
        pytest.skip(str(error))
    yield made
    made.close()


@pytest.fixture
def broker(disk: SmallDisk) -> Iterator[Cluster]:
    cluster = start_embedded(disk.folder, wrap=disk.command, log_folder=disk.folder.parent)
    yield cluster
    cluster.stop()


class Sent:
    """What the broker acknowledged, and what it refused."""

    def __init__(self, cluster: Cluster) -> None:
        self.acknowledged: list[int] = []
        self.refused: list[KafkaError] = []
        # One try a record, so that the refusal itself is seen and not a time-out after many.
        self._producer = Producer({"bootstrap.servers": cluster.bootstrap, "acks": "all", "retries": 0, "linger.ms": 0})

    def send(self, number: int) -> bool:
        """Whether it was acknowledged."""
        before = len(self.acknowledged)

        def note(error: KafkaError | None, _message: Message) -> None:
            if error is None:
                self.acknowledged.append(number)
            else:
                self.refused.append(error)

        self._producer.produce(TOPIC, b"%08d" % number + bytes(20_000), on_delivery=note)
        assert self._producer.flush(30) == 0
        return len(self.acknowledged) > before


def read(cluster: Cluster) -> list[int]:
    consumer = Consumer({"bootstrap.servers": cluster.bootstrap, "group.id": "check", "enable.partition.eof": True})
    consumer.assign([TopicPartition(TOPIC, 0, 0)])
    found: list[int] = []
    try:
        while True:
            for message in consumer.consume(100, 10):
                error = message.error()
                if error is None:
                    found.append(int(message.value()[:8]))
                elif error.code() == KafkaError._PARTITION_EOF:
                    return found
    finally:
        consumer.close()


@pytest.mark.parametrize("killed", [False, True], ids=["stays up", "is killed"])
def test_a_full_disk_refuses_records_and_keeps_those_that_were_acknowledged(
    broker: Cluster, disk: SmallDisk, killed: bool
) -> None:
    sent = Sent(broker)
    assert sent.send(0)
    disk.fill(keep=1 << 20)
    number = 1
    while sent.send(number):
        number += 1
        assert number < 2000, "the disk does not fill up"
    assert sent.refused[0].code() in (KafkaError.KAFKA_STORAGE_ERROR, KafkaError.UNKNOWN), sent.refused[0]
    assert read(broker) == sent.acknowledged, "what is acknowledged can be read while the disk is full"
    if killed:
        broker.kill()
    disk.free()
    if killed:
        broker.start()
    for later in range(10_000, 10_010):
        assert sent.send(later), sent.refused[-1]
    assert read(broker) == sent.acknowledged
