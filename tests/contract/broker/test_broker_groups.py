"""Consumer groups with confluent-kafka, the same on our broker and on Apache Kafka."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from tests.contract.broker.clients import consumer, create_topic, eventually, producer
from tests.services.kafka import Cluster

PARTITIONS = 4


def member(bootstrap: str, group: str, topic: str, **config: str) -> Consumer:
    client = consumer(
        bootstrap, group, auto_offset_reset="earliest", session_timeout_ms=6000, heartbeat_interval_ms=200, **config
    )
    client.subscribe([topic])
    return client


def fill(bootstrap: str, topic: str, first: int, count: int) -> None:
    client = producer(bootstrap)
    for number in range(first, first + count):
        client.produce(topic, b"%d" % number, partition=number % PARTITIONS)
    assert client.flush(30) == 0


def poll_all(clients: list[Consumer], seen: Counter[int], done: Callable[[], bool], what: str) -> None:
    """Poll the members in turn, committing what they read, until it is done."""

    def step() -> bool:
        for client in clients:
            message = client.poll(0.02)
            if message is not None and message.error() is None:
                seen[int(message.value())] += 1
                client.commit(message, asynchronous=False)
        return done()

    eventually(step, what, 60)


def shares(clients: list[Consumer]) -> list[int]:
    return sorted(len(client.assignment()) for client in clients)


def test_members_share_the_partitions_and_take_over_what_a_leaver_had(bootstrap: str, topic: str) -> None:
    create_topic(bootstrap, topic, partitions=PARTITIONS)
    group, seen = f"g-{topic}", Counter[int]()
    first = member(bootstrap, group, topic)
    poll_all([first], seen, lambda: shares([first]) == [4], "the only member has everything")
    second = member(bootstrap, group, topic)
    poll_all([first, second], seen, lambda: shares([first, second]) == [2, 2], "two members share")
    fill(bootstrap, topic, 0, 40)
    poll_all([first, second], seen, lambda: sum(seen.values()) >= 40, "all is read")
    first.close()
    poll_all([second], seen, lambda: shares([second]) == [4], "the other takes over")
    fill(bootstrap, topic, 40, 20)
    poll_all([second], seen, lambda: sum(seen.values()) >= 60, "the rest is read")
    second.close()
    assert seen == Counter(range(60)), "each record is read once"


def test_a_group_goes_on_where_it_committed(bootstrap: str, topic: str) -> None:
    create_topic(bootstrap, topic, partitions=PARTITIONS)
    group = f"g-{topic}"
    fill(bootstrap, topic, 0, 20)
    for first in (0, 20, 40):
        seen = Counter[int]()
        client = member(bootstrap, group, topic)
        poll_all([client], seen, lambda seen=seen: sum(seen.values()) >= 20, "the part of this run")
        client.close()
        assert seen == Counter(range(first, first + 20))
        fill(bootstrap, topic, first + 20, 20)


def test_a_stranger_cannot_commit_for_a_group_with_members(bootstrap: str, topic: str) -> None:
    create_topic(bootstrap, topic, partitions=PARTITIONS)
    group = f"g-{topic}"
    client = member(bootstrap, group, topic)
    poll_all([client], Counter(), lambda: shares([client]) == [4], "the member has its share")
    stranger = consumer(bootstrap, group)
    stranger.assign([TopicPartition(topic, 0, 0)])
    with pytest.raises(KafkaException) as refused:
        stranger.commit(offsets=[TopicPartition(topic, 0, 3)], asynchronous=False)
    assert refused.value.args[0].code() == KafkaError.UNKNOWN_MEMBER_ID
    stranger.close()
    client.close()


def test_cooperative_members_keep_what_they_have(bootstrap: str, topic: str) -> None:
    create_topic(bootstrap, topic, partitions=PARTITIONS)
    group, seen = f"g-{topic}", Counter[int]()
    config = {"partition_assignment_strategy": "cooperative-sticky"}
    first = member(bootstrap, group, topic, **config)
    poll_all([first], seen, lambda: shares([first]) == [4], "the only member has everything")
    before = {part.partition for part in first.assignment()}
    second = member(bootstrap, group, topic, **config)
    poll_all([first, second], seen, lambda: shares([first, second]) == [2, 2], "two members share")
    assert {part.partition for part in first.assignment()} < before
    first.close()
    second.close()


def test_administrators_see_describe_and_delete_a_group(bootstrap: str, topic: str) -> None:
    create_topic(bootstrap, topic, partitions=PARTITIONS)
    group, seen = f"g-{topic}", Counter[int]()
    fill(bootstrap, topic, 0, 4)
    client = member(bootstrap, group, topic, client_id="someone")
    poll_all([client], seen, lambda: sum(seen.values()) >= 4, "all is read")
    admin = AdminClient({"bootstrap.servers": bootstrap})
    found = admin.describe_consumer_groups([group])[group].result(10)
    assert [(item.client_id, len(item.assignment.topic_partitions)) for item in found.members] == [("someone", 4)]
    assert group in {item.group_id for item in admin.list_consumer_groups().result(10).valid}
    client.close()

    def deleted() -> bool:
        try:
            admin.delete_consumer_groups([group])[group].result(10)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.NON_EMPTY_GROUP:
                raise
            return False
        return True

    eventually(deleted, "the group is deleted")
    again = consumer(bootstrap, group)
    assert again.committed([TopicPartition(topic, 0)], 10)[0].offset == -1001
    again.close()


def test_members_come_back_after_the_broker_was_killed(embedded: Cluster, topic: str) -> None:
    create_topic(embedded.bootstrap, topic, partitions=PARTITIONS)
    seen = Counter[int]()
    clients = [member(embedded.bootstrap, "g", topic) for _ in range(2)]
    poll_all(clients, seen, lambda: shares(clients) == [2, 2], "two members share")
    fill(embedded.bootstrap, topic, 0, 20)
    poll_all(clients, seen, lambda: sum(seen.values()) >= 20, "all is read")
    embedded.kill()
    embedded.start()
    fill(embedded.bootstrap, topic, 20, 20)
    poll_all(clients, seen, lambda: len(seen) >= 40, "reading goes on")
    for client in clients:
        client.close()
    assert seen == Counter(range(40)), "what was committed is not read again"
