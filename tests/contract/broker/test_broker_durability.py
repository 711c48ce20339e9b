"""What is acknowledged is there, in order and once: after kills, torn tails and damaged files. Our broker only."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from core.settings import BrokerSettings
from tests.contract.broker.clients import (
    RawClient,
    batch,
    consumer,
    create_topic,
    eventually,
    produce,
    produce_raw,
    producer,
    read,
    read_to_end,
)
from tests.contract.broker.test_broker_protocol import new_producer
from tests.services.kafka import Cluster, ServiceUnavailableError, start_embedded

COMMITTED = {"isolation_level": "read_committed"}
TOPIC = "log"
# With its default, librdkafka 2.16 drops the only broker it knows when it is down, and send_offsets_to_transaction then
# waits for ever on the dropped handle; the same happens with Apache Kafka.
STAY = {"metadata.recovery.strategy": "none"}


@pytest.fixture
def small_segments(tmp_path: Path) -> Iterator[Cluster]:
    cluster = start_embedded(tmp_path, BrokerSettings(segment_bytes=100_000))
    yield cluster
    cluster.stop()


def segments(cluster: Cluster, topic: str = TOPIC) -> list[Path]:
    return sorted((cluster.folder / "topics" / topic / "0").glob("*.log"))


def test_acknowledged_records_survive_kills_in_order_and_once(small_segments: Cluster) -> None:
    """One idempotent producer sends on while its broker is killed again and again, segments rolling all the time."""
    embedded = small_segments
    create_topic(embedded.bootstrap, TOPIC)
    client = producer(embedded.bootstrap, enable_idempotence=True, message_timeout_ms=60_000)
    acknowledged: list[int] = []
    failed: list[KafkaError] = []
    sent, stop = 0, Event()

    def send() -> None:
        nonlocal sent
        while not stop.is_set():
            number = sent
            try:
                client.produce(
                    TOPIC,
                    b"%012d" % number,
                    partition=0,
                    on_delivery=lambda error, _, number=number: failed.append(error) if error else acknowledged.append(number),
                )
                sent += 1
            except BufferError:
                client.poll(0.01)
            client.poll(0)
        client.flush(60)

    sending = Thread(target=send)
    sending.start()
    try:
        for _ in range(4):
            before = len(acknowledged)
            eventually(lambda before=before: len(acknowledged) > before + 2000, "progress between two kills")
            embedded.kill()
            embedded.start()
    finally:
        stop.set()
        sending.join(90)
    assert failed == []
    assert len(acknowledged) == sent
    found = [int(value) for value in read_to_end(embedded.bootstrap, TOPIC)]
    assert found == list(range(sent))
    assert len(segments(embedded)) > 3


def test_transactions_are_whole_whenever_the_broker_is_killed(small_segments: Cluster) -> None:
    """A loop of transactions over two topics and an offset; SIGKILL at any moment; the heir goes on at the offset."""
    embedded, stop = small_segments, Event()
    for name in ("a", "b"):
        create_topic(embedded.bootstrap, name)
    produce(embedded.bootstrap, TOPIC, [b"in"])
    place = TopicPartition(TOPIC, 0)

    def work() -> None:
        while not stop.is_set():
            client = Producer(
                {
                    "bootstrap.servers": embedded.bootstrap,
                    "transactional.id": "x",
                    "linger.ms": 0,
                    "message.timeout.ms": 5000,
                    **STAY,
                }
            )
            reader = consumer(embedded.bootstrap, "g", **{key.replace(".", "_"): value for key, value in STAY.items()})
            try:
                client.init_transactions(20)
                done = max(reader.committed([place], 20)[0].offset, 0)
                while not stop.is_set():
                    client.begin_transaction()
                    for name in ("a", "b"):
                        client.produce(name, b"%d" % done)
                    moved = TopicPartition(TOPIC, 0, done + 1)
                    client.send_offsets_to_transaction([moved], reader.consumer_group_metadata(), 5)
                    client.commit_transaction(5)
                    done += 1
                    progress.append(done)
            except KafkaException:
                pass  # its outcome is unknown; the heir asks the broker
            finally:
                reader.close()

    progress: list[int] = []
    working = Thread(target=work)
    working.start()
    generator = random.Random(11)
    try:
        for _ in range(5):
            before = len(progress)
            eventually(lambda before=before: len(progress) > before + 5, "transactions between two kills", 60)
            time.sleep(generator.random() * 0.05)  # not for a result: the kill shall hit any step of a transaction
            embedded.kill()
            embedded.start()
    finally:
        stop.set()
        working.join(90)
    # The last producer may have left a transaction open; an heir settles it.
    heir = Producer({"bootstrap.servers": embedded.bootstrap, "transactional.id": "x"})
    heir.init_transactions(30)
    final = consumer(embedded.bootstrap, "g")
    count = final.committed([place], 20)[0].offset
    final.close()
    assert count >= max(progress)
    for name in ("a", "b"):
        assert [int(value) for value in read_to_end(embedded.bootstrap, name, **COMMITTED)] == list(range(count))


def test_a_clean_stop_and_start_keeps_everything(embedded: Cluster) -> None:
    create_topic(embedded.bootstrap, TOPIC, partitions=2, message_timestamp_type="LogAppendTime")
    produce(embedded.bootstrap, TOPIC, [b"1", b"2"])
    stamps = [message.timestamp() for message in read(embedded.bootstrap, TOPIC, 2)]
    assert embedded.stop() == 0
    embedded.start()
    produce(embedded.bootstrap, TOPIC, [b"3"])
    assert [message.timestamp() for message in read(embedded.bootstrap, TOPIC, 3)][:2] == stamps
    assert read_to_end(embedded.bootstrap, TOPIC) == [b"1", b"2", b"3"]
    assert read_to_end(embedded.bootstrap, TOPIC, partition=1) == []


def test_repetitions_are_recognised_after_a_kill(embedded: Cluster) -> None:
    create_topic(embedded.bootstrap, TOPIC)
    with RawClient(embedded.bootstrap) as client:
        producer_id = new_producer(client)
        first = batch([b"a", b"b"], producer_id=producer_id, epoch=0, sequence=0)
        assert produce_raw(client, TOPIC, first).base_offset == 0
    embedded.kill()
    embedded.start()
    with RawClient(embedded.bootstrap) as client:
        assert produce_raw(client, TOPIC, first).base_offset == 0
        assert produce_raw(client, TOPIC, batch([b"c"], producer_id=producer_id, epoch=0, sequence=2)).base_offset == 2
        assert new_producer(client) > producer_id, "an id is never given twice"
    assert read_to_end(embedded.bootstrap, TOPIC) == [b"a", b"b", b"c"]


@pytest.mark.parametrize("damage", ["truncate", "garbage", "zeros", "flip"])
def test_a_torn_tail_is_cut_at_the_last_valid_batch(embedded: Cluster, damage: str) -> None:
    create_topic(embedded.bootstrap, TOPIC)
    for number in range(5):
        produce(embedded.bootstrap, TOPIC, [b"%d" % number * 100])
    embedded.kill()
    path = segments(embedded)[-1]
    data = path.read_bytes()
    if damage == "truncate":
        path.write_bytes(data[:-7])
    elif damage == "garbage":
        path.write_bytes(data + random.Random(7).randbytes(333))
    elif damage == "zeros":
        path.write_bytes(data + bytes(500))
    else:
        path.write_bytes(data[:-20] + bytes([data[-20] ^ 1]) + data[-19:])
    kept = 5 if damage in ("garbage", "zeros") else 4
    embedded.start()
    assert "tail is torn" in embedded.log()
    assert read_to_end(embedded.bootstrap, TOPIC) == [b"%d" % number * 100 for number in range(kept)]
    (message,) = produce(embedded.bootstrap, TOPIC, [b"next"])
    assert message.offset() == kept
    assert read_to_end(embedded.bootstrap, TOPIC)[-1] == b"next"


@pytest.mark.parametrize("stopped_by", ["kill", "stop"])
def test_a_damaged_batch_in_the_middle_costs_only_its_own_range(embedded: Cluster, stopped_by: str) -> None:
    create_topic(embedded.bootstrap, TOPIC)
    for number in range(5):
        produce(embedded.bootstrap, TOPIC, [b"%d" % number * 100, b"%d" % number * 100])
    getattr(embedded, stopped_by)()
    path = segments(embedded)[0]
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle - 4 : middle + 4] = b"\xde\xad\xbe\xef\xde\xad\xbe\xef"
    path.write_bytes(data)
    embedded.start()
    assert [message.value()[:1] for message in read(embedded.bootstrap, TOPIC, 4)] == [b"0", b"0", b"1", b"1"]
    assert [message.value()[:1] for message in read(embedded.bootstrap, TOPIC, 4, offset=6)] == [b"3", b"3", b"4", b"4"]
    client = consumer(embedded.bootstrap)
    client.assign([TopicPartition(TOPIC, 0, 4)])
    errors: list[int] = []

    def refused() -> bool:
        message = client.poll(0.1)
        assert message is None or message.error() is not None, "damaged records were served"
        if message is not None:
            errors.append(message.error().code())
        return bool(errors)

    eventually(refused, "an error for the damaged range")
    client.close()
    (message,) = produce(embedded.bootstrap, TOPIC, [b"next"])
    assert message.offset() == 10


def test_segments_roll_and_old_ones_are_checked_when_they_are_read(tmp_path: Path) -> None:
    cluster = start_embedded(tmp_path, BrokerSettings(segment_bytes=20_000))
    try:
        create_topic(cluster.bootstrap, TOPIC)
        values = [b"%05d" % number * 40 for number in range(600)]
        for start in range(0, 600, 20):
            produce(cluster.bootstrap, TOPIC, values[start : start + 20], enable_idempotence=True)
        assert len(segments(cluster)) > 4
        assert read_to_end(cluster.bootstrap, TOPIC) == values
        cluster.kill()
        damaged = segments(cluster)[2]
        first, after = int(damaged.stem), int(segments(cluster)[3].stem)
        data = bytearray(damaged.read_bytes())
        data[100] ^= 0xFF
        damaged.write_bytes(data)
        cluster.start()
        assert [message.value() for message in read(cluster.bootstrap, TOPIC, first)] == values[:first]
        rest = [message.value() for message in read(cluster.bootstrap, TOPIC, 600 - after, offset=after)]
        assert rest == values[after:]
        within = read(cluster.bootstrap, TOPIC, 1, offset=after - 1)
        assert within[0].value() == values[after - 1], "the segment's undamaged batches are served"
        client = consumer(cluster.bootstrap)
        client.assign([TopicPartition(TOPIC, 0, first)])
        message = None
        deadline = time.monotonic() + 20
        while message is None and time.monotonic() < deadline:
            message = client.poll(0.2)
        assert message is not None
        assert message.error() is not None
        client.close()
    finally:
        cluster.stop()


def test_offsets_by_time_hold_over_a_restart(tmp_path: Path) -> None:
    cluster = start_embedded(tmp_path, BrokerSettings(segment_bytes=10_000))
    try:
        create_topic(cluster.bootstrap, TOPIC, message_timestamp_type="CreateTime")
        start = int(time.time() * 1000) - 1_000_000
        for first in range(0, 400, 20):
            client = producer(cluster.bootstrap, linger_ms=50)
            for number in range(first, first + 20):
                client.produce(TOPIC, b"x" * 100, partition=0, timestamp=start + number)
            assert client.flush(30) == 0
        cluster.kill()
        cluster.start()
        reader = consumer(cluster.bootstrap)
        for number in range(0, 400, 37):
            (found,) = reader.offsets_for_times([TopicPartition(TOPIC, 0, start + number)], 10)
            assert found.offset == number
        reader.close()
    finally:
        cluster.stop()


def test_a_folder_has_one_broker(embedded: Cluster, tmp_path: Path) -> None:
    with pytest.raises(ServiceUnavailableError, match=rf"is in use by the broker with process id `{embedded.pid}`"):
        start_embedded(tmp_path)


def test_a_transaction_goes_on_after_a_kill_between_produce_and_end(embedded: Cluster) -> None:
    create_topic(embedded.bootstrap, TOPIC)
    produce(embedded.bootstrap, TOPIC, [b"in"])
    client = Producer({"bootstrap.servers": embedded.bootstrap, "transactional.id": "x", "linger.ms": 0, **STAY})
    client.init_transactions(30)
    reader = consumer(embedded.bootstrap, "g")
    for commit in (True, False):
        client.begin_transaction()
        client.produce(TOPIC, b"kept" if commit else b"dropped")
        client.send_offsets_to_transaction([TopicPartition(TOPIC, 0, 1 if commit else 9)], reader.consumer_group_metadata(), 30)
        assert client.flush(30) == 0
        embedded.kill()
        embedded.start()
        assert b"kept" not in read_to_end(embedded.bootstrap, TOPIC, **COMMITTED) or not commit
        if commit:
            client.commit_transaction(60)
        else:
            client.abort_transaction(60)
    assert read_to_end(embedded.bootstrap, TOPIC, **COMMITTED) == [b"in", b"kept"]
    assert reader.committed([TopicPartition(TOPIC, 0)], 10)[0].offset == 1
    reader.close()


def test_decisions_survive_a_kill(embedded: Cluster) -> None:
    """Committed stays committed, aborted stays aborted, open is aborted by the heir; each round ends with SIGKILL."""
    create_topic(embedded.bootstrap, TOPIC)
    expected: list[bytes] = []
    for number in range(4):
        client = Producer({"bootstrap.servers": embedded.bootstrap, "transactional.id": "x", "linger.ms": 0})
        client.init_transactions(30)
        for name, end in ((b"commit", client.commit_transaction), (b"abort", client.abort_transaction), (b"open", None)):
            client.begin_transaction()
            client.produce(TOPIC, name + b"%d" % number)
            assert client.flush(30) == 0
            if end is not None:
                end(30)
        expected.append(b"commit%d" % number)
        embedded.kill()
        embedded.start()
        assert read_to_end(embedded.bootstrap, TOPIC, **COMMITTED) == expected


def test_a_zombie_from_before_a_kill_is_fenced(embedded: Cluster) -> None:
    create_topic(embedded.bootstrap, TOPIC)
    settings = {"bootstrap.servers": embedded.bootstrap, "transactional.id": "x", "linger.ms": 0}
    zombie = Producer(settings)
    zombie.init_transactions(30)
    zombie.begin_transaction()
    zombie.produce(TOPIC, b"zombie")
    assert zombie.flush(30) == 0
    embedded.kill()
    embedded.start()
    heir = Producer(settings)
    heir.init_transactions(30)
    with pytest.raises(KafkaException):
        zombie.commit_transaction(30)
    heir.begin_transaction()
    heir.produce(TOPIC, b"heir")
    heir.commit_transaction(30)
    assert read_to_end(embedded.bootstrap, TOPIC, **COMMITTED) == [b"heir"]


def test_committed_offsets_survive_a_kill(embedded: Cluster) -> None:
    create_topic(embedded.bootstrap, TOPIC)
    produce(embedded.bootstrap, TOPIC, [b"x"] * 5)
    client = consumer(embedded.bootstrap, "g")
    client.assign([TopicPartition(TOPIC, 0, 0)])
    client.commit(offsets=[TopicPartition(TOPIC, 0, 4)], asynchronous=False)
    client.close()
    embedded.kill()
    embedded.start()
    again = consumer(embedded.bootstrap, "g")
    assert again.committed([TopicPartition(TOPIC, 0)], 10)[0].offset == 4
    again.close()


def test_deleted_topics_stay_deleted_and_half_made_ones_disappear(embedded: Cluster) -> None:
    create_topic(embedded.bootstrap, TOPIC)
    create_topic(embedded.bootstrap, "other")
    admin = AdminClient({"bootstrap.servers": embedded.bootstrap})
    admin.delete_topics([TOPIC])[TOPIC].result(30)
    embedded.kill()
    (embedded.folder / "topics" / ".new-123" / "0").mkdir(parents=True)
    embedded.start()
    assert set(admin.list_topics(timeout=10).topics) == {"other"}
    assert {path.name for path in (embedded.folder / "topics").iterdir()} == {"other"}
