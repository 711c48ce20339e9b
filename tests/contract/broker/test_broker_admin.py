"""What administrators do, the same on our broker and on Apache Kafka."""

from __future__ import annotations

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, ResourceType

from tests.contract.broker.clients import consumer, create_topic, eventually, produce, producer, read, read_to_end
from tests.services.kafka import Cluster


def config_of(admin: AdminClient, topic: str) -> dict[str, str]:
    resource = ConfigResource(ResourceType.TOPIC, topic)
    return {name: entry.value for name, entry in admin.describe_configs([resource])[resource].result(10).items()}


def change(admin: AdminClient, topic: str, name: str, value: str | None) -> None:
    kind = AlterConfigOpType.DELETE if value is None else AlterConfigOpType.SET
    entry = ConfigEntry(name, value, incremental_operation=kind)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    admin.incremental_alter_configs([resource])[resource].result(10)


def test_a_topics_configuration_is_shown_and_changed(bootstrap: str, topic: str) -> None:
    create_topic(bootstrap, topic, retention_ms="123456")
    admin = AdminClient({"bootstrap.servers": bootstrap})
    found = config_of(admin, topic)
    assert (found["retention.ms"], found["message.timestamp.type"], found["cleanup.policy"]) == (
        "123456",
        "CreateTime",
        "delete",
    )
    change(admin, topic, "message.timestamp.type", "LogAppendTime")
    eventually(lambda: config_of(admin, topic)["message.timestamp.type"] == "LogAppendTime", "the change")
    client = producer(bootstrap)
    client.produce(topic, b"x", timestamp=1000)
    assert client.flush(30) == 0
    (message,) = read(bootstrap, topic, 1)
    assert message.timestamp()[1] > 1_700_000_000_000
    change(admin, topic, "message.timestamp.type", None)
    eventually(lambda: config_of(admin, topic)["message.timestamp.type"] == "CreateTime", "the default")
    with pytest.raises(KafkaException) as refused:
        change(admin, topic, "message.timestamp.type", "Never")
    assert refused.value.args[0].code() == KafkaError.INVALID_CONFIG


def test_records_are_deleted_from_the_front(bootstrap: str, topic: str) -> None:
    create_topic(bootstrap, topic)
    produce(bootstrap, topic, [b"%d" % number for number in range(10)])
    admin = AdminClient({"bootstrap.servers": bootstrap})
    place = TopicPartition(topic, 0, 4)
    assert admin.delete_records([place])[place].result(30).low_watermark == 4
    assert read_to_end(bootstrap, topic) == [b"%d" % number for number in range(4, 10)]
    client = consumer(bootstrap)
    assert client.get_watermark_offsets(TopicPartition(topic, 0), 10) == (4, 10)
    client.close()
    behind = TopicPartition(topic, 0, 11)
    with pytest.raises(KafkaException) as refused:
        admin.delete_records([behind])[behind].result(30)
    assert refused.value.args[0].code() == KafkaError.OFFSET_OUT_OF_RANGE


def test_partitions_are_added(bootstrap: str, topic: str) -> None:
    create_topic(bootstrap, topic)
    produce(bootstrap, topic, [b"old"])
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_partitions([NewPartitions(topic, 3)])[topic].result(30)
    eventually(lambda: len(admin.list_topics(topic, 10).topics[topic].partitions) == 3, "three partitions")
    client = producer(bootstrap)
    client.produce(topic, b"new", partition=2)
    assert client.flush(30) == 0
    assert read_to_end(bootstrap, topic, partition=2) == [b"new"]
    assert read_to_end(bootstrap, topic) == [b"old"]
    with pytest.raises(KafkaException) as refused:
        admin.create_partitions([NewPartitions(topic, 2)])[topic].result(30)
    assert refused.value.args[0].code() == KafkaError.INVALID_PARTITIONS


def test_the_cluster_describes_itself(kafka_cluster: Cluster) -> None:
    admin = AdminClient({"bootstrap.servers": kafka_cluster.bootstrap})
    found = admin.describe_cluster().result(10)
    assert [(node.host, node.port) for node in found.nodes] == [("127.0.0.1", kafka_cluster.port)]
    assert found.cluster_id
