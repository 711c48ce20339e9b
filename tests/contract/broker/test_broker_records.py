"""Producing and reading with confluent-kafka, the same on our broker and on Apache Kafka."""

from __future__ import annotations

import time
from threading import Thread

import pytest
from confluent_kafka import OFFSET_BEGINNING, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

from tests.contract.broker.clients import consumer, create_topic, eventually, produce, producer, read

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
LOG_APPEND_TIME, CREATE_TIME = 2, 1


@pytest.mark.parametrize("codec", CODECS)
def test_every_codec_comes_back_whole_in_order_and_once(bootstrap: str, topic: str, codec: str) -> None:
    create_topic(bootstrap, topic)
    values = [f"{number:06d}".encode() * 20 for number in range(3000)]
    produce(bootstrap, topic, values, compression_type=codec, enable_idempotence=True)
    assert [message.value() for message in read(bootstrap, topic, len(values))] == values


def test_keys_headers_and_null_values_are_kept(bootstrap: str, topic: str) -> None:
    create_topic(bootstrap, topic)
    client = producer(bootstrap)
    client.produce(topic, None, key=b"k", headers=[("h", b"1"), ("h", None)])
    assert client.flush(30) == 0
    (message,) = read(bootstrap, topic, 1)
    assert (message.key(), message.value(), message.headers()) == (b"k", None, [("h", b"1"), ("h", None)])


def test_a_topic_is_created_by_the_first_record(bootstrap: str, topic: str) -> None:
    produce(bootstrap, topic, [b"first"])
    assert [message.value() for message in read(bootstrap, topic, 1)] == [b"first"]


def test_partitions_are_separate_logs(bootstrap: str, topic: str) -> None:
    create_topic(bootstrap, topic, partitions=3)
    client = producer(bootstrap)
    for number in range(30):
        client.produce(topic, str(number).encode(), partition=number % 3)
    assert client.flush(30) == 0
    for partition in range(3):
        values = [int(message.value()) for message in read(bootstrap, topic, 10, partition=partition)]
        assert values == list(range(partition, 30, 3))


def test_reading_starts_at_any_offset(bootstrap: str, topic: str) -> None:
    create_topic(bootstrap, topic)
    produce(bootstrap, topic, [str(number).encode() for number in range(2000)])
    for offset in (0, 1, 999, 1998, 1999):
        messages = read(bootstrap, topic, 2000 - offset, offset=offset)
        assert messages[0].offset() == offset
        assert messages[0].value() == str(offset).encode()


def test_watermarks_and_an_offset_behind_the_end(bootstrap: str, topic: str) -> None:
    create_topic(bootstrap, topic)
    produce(bootstrap, topic, [b"x"] * 7)
    client = consumer(bootstrap)
    assert client.get_watermark_offsets(TopicPartition(topic, 0), 10) == (0, 7)
    client.assign([TopicPartition(topic, 0, 100)])
    errors: list[int] = []

    def refused() -> bool:
        message = client.poll(0.1)
        if message is not None and message.error() is not None:
            errors.append(message.error().code())
        return bool(errors)

    eventually(refused, "an error about the offset")
    assert errors == [KafkaError._AUTO_OFFSET_RESET]
    client.close()


def test_a_waiting_reader_gets_a_record_as_soon_as_it_is_there(bootstrap: str, topic: str) -> None:
    create_topic(bootstrap, topic)
    client = consumer(bootstrap, fetch_wait_max_ms=20_000, socket_timeout_ms=60_000)
    client.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
    assert client.poll(1.0) is None
    arrived: list[float] = []

    def wait_for_it() -> None:
        if client.poll(15.0) is not None:
            arrived.append(time.monotonic())

    waiting = Thread(target=wait_for_it)
    waiting.start()
    produce(bootstrap, topic, [b"now"])
    acknowledged = time.monotonic()
    waiting.join(20)
    client.close()
    assert arrived, "the record did not come"
    assert arrived[0] - acknowledged < 2.0, "the reader waited for its time-out"


@pytest.mark.parametrize("codec", CODECS)
def test_offsets_by_time_are_exact_within_a_batch(bootstrap: str, topic: str, codec: str) -> None:
    create_topic(bootstrap, topic, message_timestamp_type="CreateTime")
    start = int(time.time() * 1000) - 1_000_000
    client = producer(bootstrap, linger_ms=200, compression_type=codec)
    for number in range(500):
        client.produce(topic, b"x" * 50, partition=0, timestamp=start + number * 10)
    assert client.flush(30) == 0
    reader = consumer(bootstrap)
    for wanted, expected in [(0, 0), (start, 0), (start + 1, 1), (start + 2345, 235), (start + 4990, 499)]:
        (found,) = reader.offsets_for_times([TopicPartition(topic, 0, wanted)], 10)
        assert found.offset == expected, f"{wanted - start} ms"
    (found,) = reader.offsets_for_times([TopicPartition(topic, 0, start + 5000)], 10)
    assert found.offset == -1, "behind the last record there is none"
    reader.close()


def test_offsets_by_time_over_many_batches_out_of_order(bootstrap: str, topic: str) -> None:
    create_topic(bootstrap, topic, message_timestamp_type="CreateTime")
    start = int(time.time() * 1000) - 1_000_000
    deltas = [0, 50, 20, 70, 60, 10, 90, 80, 100]
    for delta in deltas:
        client = producer(bootstrap, linger_ms=0)
        client.produce(topic, b"x", partition=0, timestamp=start + delta)
        assert client.flush(30) == 0
    reader = consumer(bootstrap)
    for wanted in range(0, 101, 5):
        (found,) = reader.offsets_for_times([TopicPartition(topic, 0, start + wanted)], 10)
        assert found.offset == next(number for number, delta in enumerate(deltas) if delta >= wanted)
    reader.close()


def test_append_time_is_the_brokers_clock(bootstrap: str, topic: str) -> None:
    create_topic(bootstrap, topic, message_timestamp_type="LogAppendTime")
    before = int(time.time() * 1000)
    client = producer(bootstrap)
    for codec_free in range(10):
        client.produce(topic, str(codec_free).encode(), timestamp=1_000)
    assert client.flush(30) == 0
    after = int(time.time() * 1000)
    for message in read(bootstrap, topic, 10, check_crcs=True):
        kind, timestamp = message.timestamp()
        assert kind == LOG_APPEND_TIME
        assert before - 1 <= timestamp <= after + 1


def test_create_time_is_the_default_of_topics_created_on_purpose(bootstrap: str, topic: str) -> None:
    create_topic(bootstrap, topic)
    stamp = int(time.time() * 1000) - 5000
    client = producer(bootstrap)
    client.produce(topic, b"x", timestamp=stamp)
    assert client.flush(30) == 0
    (message,) = read(bootstrap, topic, 1)
    assert message.timestamp() == (CREATE_TIME, stamp)


def test_the_greatest_time_has_an_offset(bootstrap: str, topic: str) -> None:
    create_topic(bootstrap, topic, message_timestamp_type="CreateTime")
    start = int(time.time() * 1000) - 100_000
    client = producer(bootstrap, linger_ms=100)
    for delta in (5, 9, 3, 7):
        client.produce(topic, b"x", partition=0, timestamp=start + delta)
    assert client.flush(30) == 0
    admin = AdminClient({"bootstrap.servers": bootstrap})
    place = TopicPartition(topic, 0)
    found = admin.list_offsets({place: OffsetSpec.max_timestamp()})[place].result(10)
    assert (found.offset, found.timestamp) == (1, start + 9)


def test_topics_are_created_listed_and_deleted(bootstrap: str, topic: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    create_topic(bootstrap, topic, partitions=2)
    assert set(admin.list_topics(topic, 10).topics[topic].partitions) == {0, 1}
    with pytest.raises(KafkaException) as refused:
        create_topic(bootstrap, topic)
    assert refused.value.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS
    admin.delete_topics([topic])[topic].result(30)
    eventually(lambda: topic not in admin.list_topics(timeout=10).topics, "the topic is gone")
    with pytest.raises(KafkaException) as missing:
        admin.delete_topics([topic])[topic].result(30)
    assert missing.value.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART


def test_a_topic_created_again_is_empty(bootstrap: str, topic: str) -> None:
    create_topic(bootstrap, topic)
    produce(bootstrap, topic, [b"old"] * 3)
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.delete_topics([topic])[topic].result(30)
    eventually(lambda: topic not in admin.list_topics(timeout=10).topics, "the topic is gone")
    create_topic(bootstrap, topic)
    produce(bootstrap, topic, [b"new"])
    assert [message.value() for message in read(bootstrap, topic, 1)] == [b"new"]


@pytest.mark.parametrize(
    ("name", "partitions", "replicas", "config", "code"),
    [
        ("no spaces", 1, 1, {}, KafkaError.TOPIC_EXCEPTION),
        ("..", 1, 1, {}, KafkaError.TOPIC_EXCEPTION),
        ("zero", 0, 1, {}, KafkaError.INVALID_PARTITIONS),
        ("three", 1, 3, {}, KafkaError.INVALID_REPLICATION_FACTOR),
        ("odd", 1, 1, {"message.timestamp.type": "Never"}, KafkaError.INVALID_CONFIG),
        ("unknown", 1, 1, {"no.such.thing": "1"}, KafkaError.INVALID_CONFIG),
    ],
)
def test_a_wrong_topic_is_refused_with_kafkas_code(
    bootstrap: str, name: str, partitions: int, replicas: int, config: dict[str, str], code: int
) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    with pytest.raises(KafkaException) as refused:
        admin.create_topics([NewTopic(name, partitions, replicas, config=config)])[name].result(10)
    assert refused.value.args[0].code() == code


def test_a_record_larger_than_the_topic_allows_is_refused(bootstrap: str, topic: str) -> None:
    create_topic(bootstrap, topic, max_message_bytes="2000")
    errors: list[KafkaError | None] = []
    client = producer(bootstrap)
    client.produce(topic, b"x" * 10_000, on_delivery=lambda error, _: errors.append(error))
    client.produce(topic, b"small", on_delivery=lambda error, _: errors.append(error))
    client.flush(30)
    assert [error.code() if error else None for error in errors].count(KafkaError.MSG_SIZE_TOO_LARGE) >= 1
    produce(bootstrap, topic, [b"small again"])
    assert read(bootstrap, topic, 1)[0].value() in (b"small", b"small again")
