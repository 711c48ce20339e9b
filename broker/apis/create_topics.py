"""CreateTopics, CreatePartitions and DeleteTopics."""

from __future__ import annotations

from typing import Any

from kio.schema.errors import ErrorCode

from broker.node import Node
from broker.refusal import Refusal
from broker.wire import Fields, Request

_DEFAULT = -1


async def create_topics(node: Node, request: Request) -> Fields:
    return {"topics": [_create(node, item, validate_only=request.body.validate_only) for item in request.body.topics]}


def _create(node: Node, item: Any, *, validate_only: bool) -> dict[str, Any]:
    config = {entry.name: entry.value for entry in item.configs if entry.value is not None}
    partitions = item.num_partitions
    try:
        if item.assignments:
            if partitions != _DEFAULT or item.replication_factor != _DEFAULT:
                raise Refusal(ErrorCode.invalid_request, "give either a number of partitions or their assignment")
            partitions = len(item.assignments)
        elif partitions == _DEFAULT:
            partitions = node.settings.default_partitions
        if item.replication_factor not in (_DEFAULT, 1):
            raise Refusal(
                ErrorCode.invalid_replication_factor,
                f"replication factor `{item.replication_factor}` is more than the one broker there is",
                fix="Use 1, or Apache Kafka where copies are needed.",
            )
        if validate_only:
            node.topics.check_new(item.name, partitions, config)
            topic_id = None
        else:
            topic_id = node.topics.create(item.name, partitions, config).topic_id
    except Refusal as refusal:
        return {"name": item.name, "topic_id": None, "error_code": refusal.code, "error_message": str(refusal)}
    return {
        "name": item.name,
        "topic_id": topic_id,
        "error_code": ErrorCode.none,
        "num_partitions": partitions,
        "replication_factor": 1,
        "configs": [
            {"name": name, "value": value, "read_only": False, "config_source": 1, "is_sensitive": False}
            for name, value in config.items()
        ],
    }


async def create_partitions(node: Node, request: Request) -> Fields:
    results = []
    for item in request.body.topics:
        code, text = ErrorCode.none, None
        try:
            if not request.body.validate_only:
                node.topics.grow(item.name, item.count)
        except Refusal as refusal:
            code, text = refusal.code, str(refusal)
        results.append({"name": item.name, "error_code": code, "error_message": text})
    return {"results": results}


async def delete_topics(node: Node, request: Request) -> Fields:
    body = request.body
    wanted = (
        [(item.name, item.topic_id) for item in body.topics]
        if hasattr(body, "topics")
        else [(name, None) for name in body.topic_names]
    )
    responses = []
    for name, topic_id in wanted:
        topic = node.topics.get(name) if name is not None else node.topics.get_by_id(topic_id)
        known_name = topic.name if topic is not None else name
        code, text = ErrorCode.none, None
        try:
            if topic is None:
                code = ErrorCode.unknown_topic_or_partition if name is not None else ErrorCode.unknown_topic_id
            else:
                topic_id = topic.topic_id
                await node.topics.delete(topic.name)
                await node.offsets.forget_topic(topic.name)
        except Refusal as refusal:
            code, text = refusal.code, str(refusal)
        responses.append({"name": known_name, "topic_id": topic_id, "error_code": code, "error_message": text})
    return {"responses": responses}
