"""Exactly once with confluent-kafka's transactional producer, the same on our broker and on Apache Kafka."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from tests.contract.broker.clients import consumer, create_topic, eventually, produce, read, read_to_end

COMMITTED = {"isolation_level": "read_committed"}
UNCOMMITTED = {"isolation_level": "read_uncommitted"}


def transactional(bootstrap: str, transactional_id: str, **config: Any) -> Producer:
    client = Producer(
        {
            "bootstrap.servers": bootstrap,
            "transactional.id": transactional_id,
            "linger.ms": 0,
            "transaction.timeout.ms": 60_000,
            **config,
        }
    )
    client.init_transactions(30)
    return client


def committed_offset(bootstrap: str, group: str, topic: str) -> int:
    client = consumer(bootstrap, group)
    try:
        return int(client.committed([TopicPartition(topic, 0)], 10)[0].offset)
    finally:
        client.close()


def group_reader(bootstrap: str, group: str, topic: str) -> Consumer:
    client = consumer(bootstrap, group)
    client.assign([TopicPartition(topic, 0, 0)])
    return client


def test_only_what_was_committed_is_read(bootstrap: str, topic: str) -> None:
    create_topic(bootstrap, topic)
    client = transactional(bootstrap, f"x-{topic}")
    for value, commit in [(b"1", True), (b"2", False), (b"3", True), (b"4", False), (b"5", True)]:
        client.begin_transaction()
        client.produce(topic, value)
        client.flush(30)
        if commit:
            client.commit_transaction(30)
        else:
            client.abort_transaction(30)
    assert read_to_end(bootstrap, topic, **COMMITTED) == [b"1", b"3", b"5"]
    assert read_to_end(bootstrap, topic, **UNCOMMITTED) == [b"1", b"2", b"3", b"4", b"5"]


def test_an_open_transaction_holds_back_what_comes_behind_it(bootstrap: str, topic: str) -> None:
    create_topic(bootstrap, topic)
    produce(bootstrap, topic, [b"before"])
    client = transactional(bootstrap, f"x-{topic}")
    client.begin_transaction()
    client.produce(topic, b"open")
    client.flush(30)
    produce(bootstrap, topic, [b"behind"])
    assert read_to_end(bootstrap, topic, **COMMITTED) == [b"before"]
    assert read_to_end(bootstrap, topic, **UNCOMMITTED) == [b"before", b"open", b"behind"]
    client.commit_transaction(30)
    assert [m.value() for m in read(bootstrap, topic, 3, **COMMITTED)] == [b"before", b"open", b"behind"]


def test_a_transaction_over_several_topics_ends_everywhere(bootstrap: str, topic: str) -> None:
    topics = [f"{topic}-{number}" for number in range(3)]
    for name in topics:
        create_topic(bootstrap, name)
    client = transactional(bootstrap, f"x-{topic}")
    client.begin_transaction()
    for name in topics:
        client.produce(name, b"yes")
    client.commit_transaction(30)
    client.begin_transaction()
    for name in topics:
        client.produce(name, b"no")
    client.flush(30)
    client.abort_transaction(30)
    for name in topics:
        assert read_to_end(bootstrap, name, **COMMITTED) == [b"yes"]


def test_offsets_move_with_the_commit_and_not_with_the_abort(bootstrap: str, topic: str) -> None:
    create_topic(bootstrap, topic)
    produce(bootstrap, topic, [b"in"] * 10)
    group = f"g-{topic}"
    reader = group_reader(bootstrap, group, topic)
    client = transactional(bootstrap, f"x-{topic}")
    for offset, commit, expected in [(4, True, 4), (7, False, 4), (9, True, 9)]:
        client.begin_transaction()
        client.send_offsets_to_transaction([TopicPartition(topic, 0, offset)], reader.consumer_group_metadata(), 30)
        if commit:
            client.commit_transaction(30)
        else:
            client.abort_transaction(30)
        assert committed_offset(bootstrap, group, topic) == expected
    reader.close()


def test_consume_transform_produce_is_exactly_once(bootstrap: str, topic: str) -> None:
    out = f"{topic}-out"
    create_topic(bootstrap, topic)
    create_topic(bootstrap, out)
    produce(bootstrap, topic, [str(number).encode() for number in range(100)])
    group = f"g-{topic}"
    for attempt in range(10):
        # Every other attempt dies before its commit; the next one fences it and begins where the group stands.
        client = transactional(bootstrap, f"x-{topic}")
        start = max(committed_offset(bootstrap, group, topic), 0)
        messages = read(bootstrap, topic, 20, offset=start)
        reader = group_reader(bootstrap, group, topic)
        client.begin_transaction()
        for message in messages:
            client.produce(out, message.value() + b"!")
        client.send_offsets_to_transaction([TopicPartition(topic, 0, start + 20)], reader.consumer_group_metadata(), 30)
        client.flush(30)
        if attempt % 2:
            client.commit_transaction(30)
        reader.close()
    assert read_to_end(bootstrap, out, **COMMITTED) == [f"{number}!".encode() for number in range(100)]


def test_a_zombie_is_fenced(bootstrap: str, topic: str) -> None:
    create_topic(bootstrap, topic)
    zombie = transactional(bootstrap, f"x-{topic}")
    zombie.begin_transaction()
    zombie.produce(topic, b"zombie")
    zombie.flush(30)
    heir = transactional(bootstrap, f"x-{topic}")
    zombie.produce(topic, b"zombie again")
    with pytest.raises(KafkaException) as fenced:
        zombie.commit_transaction(30)
    assert fenced.value.args[0].code() in (KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH)
    heir.begin_transaction()
    heir.produce(topic, b"heir")
    heir.commit_transaction(30)
    assert read_to_end(bootstrap, topic, **COMMITTED) == [b"heir"]


def test_a_transaction_that_takes_too_long_is_aborted(bootstrap: str, topic: str) -> None:
    create_topic(bootstrap, topic)
    slow = transactional(bootstrap, f"x-{topic}", **{"transaction.timeout.ms": 1000, "socket.timeout.ms": 1000})
    slow.begin_transaction()
    slow.produce(topic, b"slow")
    slow.flush(30)
    produce(bootstrap, topic, [b"behind"])
    eventually(lambda: read_to_end(bootstrap, topic, **COMMITTED) == [b"behind"], "the abort of the slow transaction")
    with pytest.raises(KafkaException):
        slow.commit_transaction(30)


def test_a_simple_consumer_commits_and_finds_its_offsets(bootstrap: str, topic: str) -> None:
    create_topic(bootstrap, topic)
    produce(bootstrap, topic, [b"x"] * 5)
    group = f"g-{topic}"
    assert committed_offset(bootstrap, group, topic) == -1001, "nothing is committed yet"
    client = group_reader(bootstrap, group, topic)
    client.commit(offsets=[TopicPartition(topic, 0, 3, "note")], asynchronous=False)
    (found,) = client.committed([TopicPartition(topic, 0)], 10)
    assert (found.offset, found.metadata) == (3, "note")
    client.close()
    assert committed_offset(bootstrap, group, topic) == 3
    assert committed_offset(bootstrap, f"{group}-other", topic) == -1001
