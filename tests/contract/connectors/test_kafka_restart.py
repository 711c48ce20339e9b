"""Source and sink while the broker is killed and comes back on the same folder: they mend themselves, nothing lost, nothing twice."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from core.errors import UnavailableError
from engine.connectors.kafka_sink import KafkaSink
from engine.connectors.kafka_source import KafkaSource
from engine.sql.types import VARCHAR
from tests.services.kafka import Cluster, start_embedded

DEADLINE_SECONDS = 60.0


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Cluster]:
    cluster = start_embedded(tmp_path)
    yield cluster
    cluster.stop()


@pytest.fixture
def topic(broker: Cluster) -> str:
    name = f"restart-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    admin.create_topics([NewTopic(name, 1, 1)])[name].result(DEADLINE_SECONDS)
    return name


def options(broker: Cluster, topic: str) -> dict[str, str]:
    return {"connector": "kafka", "topic": topic, "properties.bootstrap.server": broker.bootstrap}


def produce(broker: Cluster, topic: str, numbers: range) -> None:
    producer = Producer({"bootstrap.servers": broker.bootstrap, "enable.idempotence": True})
    for number in numbers:
        producer.produce(topic, b"%d" % number)
    assert producer.flush(DEADLINE_SECONDS) == 0


def take(source: KafkaSource, woken: threading.Event, count: int) -> list[bytes]:
    values: list[bytes] = []
    deadline = time.monotonic() + DEADLINE_SECONDS
    while len(values) < count:
        table = source.take(count - len(values))
        if table is not None:
            values += table.column("value").to_pylist()
        elif time.monotonic() > deadline:
            pytest.fail(f"{len(values)} of {count} rows in time")
        else:
            woken.wait(0.5)
            woken.clear()
    return values


def test_a_source_reads_on_after_the_broker_was_killed(broker: Cluster, topic: str) -> None:
    produce(broker, topic, range(1000))
    woken = threading.Event()
    source = KafkaSource(options(broker, topic), discovery_seconds=0.5)
    source.start({}, woken.set)
    try:
        values = take(source, woken, 600)
        broker.kill()
        values += take(source, woken, 400)  # what was fetched before is still there
        broker.start()
        produce(broker, topic, range(1000, 1500))
        values += take(source, woken, 500)
        assert values == [b"%d" % number for number in range(1500)]
        assert source.take(10) is None
    finally:
        source.close()


def test_a_source_that_starts_before_its_broker_reads_when_it_comes(broker: Cluster, topic: str) -> None:
    produce(broker, topic, range(10))
    broker.kill()
    woken = threading.Event()
    source = KafkaSource(options(broker, topic) | {"properties.sync.call.timeout": "500ms"})
    source.start({}, woken.set)
    try:
        assert source.take(10) is None
        broker.start()
        assert take(source, woken, 10) == [b"%d" % number for number in range(10)]
    finally:
        source.close()


def test_a_sink_delivers_each_epoch_once_across_kills_of_the_broker(broker: Cluster, topic: str) -> None:
    sink = KafkaSink(uuid.uuid4(), options(broker, topic), [("id", VARCHAR)])
    sink.open()
    kills = threading.Thread(target=kill_and_start, args=(broker, 3))
    kills.start()
    deadline = time.monotonic() + DEADLINE_SECONDS
    epoch, failed = 0, 0
    while kills.is_alive() or epoch < 20:
        rows = pa.table({"id": [f"{epoch + 1}-{i}" for i in range(20)], "_op": pa.array([1] * 20, pa.int8())})
        try:
            sink.deliver(epoch + 1, rows)
            epoch += 1
        except UnavailableError:
            failed += 1
        assert time.monotonic() < deadline, f"epoch {epoch}, {failed} failures"
    kills.join()
    assert sink.open() == epoch
    sink.close()
    woken = threading.Event()
    source = KafkaSource(options(broker, topic))
    source.start({}, woken.set)
    try:
        values = take(source, woken, 20 * epoch)
        assert [json.loads(value)["id"] for value in values] == [f"{e}-{i}" for e in range(1, epoch + 1) for i in range(20)]
        assert source.take(10) is None
    finally:
        source.close()


def kill_and_start(broker: Cluster, times: int) -> None:
    for _ in range(times):
        time.sleep(0.4)  # lets some deliveries happen between the kills
        broker.kill()
        broker.start()
