"""Metadata: who the broker is, which topics there are; a topic that is asked for may be created."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kio.schema.errors import ErrorCode

from broker.node import NODE_ID, Node
from broker.refusal import Refusal
from broker.topics import Topic
from broker.wire import Fields, Request


async def handle(node: Node, request: Request) -> Fields:
    return {
        "brokers": [{"node_id": NODE_ID, "host": node.host, "port": node.port}],
        "cluster_id": node.cluster_id,
        "controller_id": NODE_ID,
        "topics": list(_topics(node, request)),
    }


def _topics(node: Node, request: Request) -> Iterator[dict[str, Any]]:
    wanted = request.body.topics
    if wanted is None or (request.version == 0 and not wanted):
        yield from (_described(topic) for topic in node.topics)
        return
    may_create = node.settings.auto_create_topics and getattr(request.body, "allow_auto_topic_creation", True)
    for item in wanted:
        try:
            if item.name is None:
                yield _found_by_id(node, item)
            else:
                yield _described(_get_or_create(node, item.name, may_create=may_create))
        except Refusal as refusal:
            yield {"error_code": refusal.code, "name": item.name, "topic_id": None}


def _found_by_id(node: Node, item: Any) -> dict[str, Any]:
    topic = node.topics.get_by_id(item.topic_id)
    if topic is None:
        return {"error_code": ErrorCode.unknown_topic_id, "name": None, "topic_id": item.topic_id}
    return _described(topic)


def _get_or_create(node: Node, name: str, *, may_create: bool) -> Topic:
    topic = node.topics.get(name)
    if topic is None and may_create:
        topic = node.topics.create_automatically(name)
    if topic is None:
        raise Refusal(ErrorCode.unknown_topic_or_partition, f"topic `{name}` does not exist")
    return topic


def _described(topic: Topic) -> dict[str, Any]:
    return {
        "error_code": ErrorCode.none,
        "name": topic.name,
        "topic_id": topic.topic_id,
        "is_internal": False,
        "partitions": [
            {
                "error_code": ErrorCode.none,
                "partition_index": number,
                "leader_id": NODE_ID,
                "leader_epoch": 0,
                "replica_nodes": [NODE_ID],
                "isr_nodes": [NODE_ID],
            }
            for number in range(len(topic.partitions))
        ],
    }
