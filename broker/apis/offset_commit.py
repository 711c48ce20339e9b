"""OffsetCommit: keep where a group goes on reading."""

from __future__ import annotations

from typing import Any

from kio.schema.errors import ErrorCode

from broker.coordinators.offsets import CommittedOffset, Place
from broker.node import Node
from broker.refusal import Refusal
from broker.wire import Fields, Request
from core.errors import UnavailableError

MAX_METADATA_CHARACTERS = 4096  # Kafka's offset.metadata.max.bytes


async def handle(node: Node, request: Request) -> Fields:
    body = request.body
    offsets, errors = committed_offsets(node, body.topics)
    code = ErrorCode.none
    try:
        node.groups.check_commit(
            body.group_id, body.generation_id_or_member_epoch, body.member_id, getattr(body, "group_instance_id", None)
        )
        await node.offsets.commit(body.group_id, offsets)
    except Refusal as refusal:
        code = refusal.code
    except UnavailableError:
        code = ErrorCode.coordinator_not_available
    return {"topics": answers(body.topics, errors, code)}


def committed_offsets(node: Node, topics: Any) -> tuple[dict[Place, CommittedOffset], dict[Place, ErrorCode]]:
    """Sort the partitions of a request into those that can be committed and those that cannot."""
    offsets: dict[Place, CommittedOffset] = {}
    errors: dict[Place, ErrorCode] = {}
    for topic in topics:
        for part in topic.partitions:
            place = (topic.name, part.partition_index)
            metadata = part.committed_metadata
            if node.topics.partition(*place) is None:
                errors[place] = ErrorCode.unknown_topic_or_partition
            elif metadata is not None and len(metadata) > MAX_METADATA_CHARACTERS:
                errors[place] = ErrorCode.offset_metadata_too_large
            else:
                offsets[place] = CommittedOffset(part.committed_offset, getattr(part, "committed_leader_epoch", -1), metadata)
    return offsets, errors


def answers(topics: Any, errors: dict[tuple[str, int], ErrorCode], code: ErrorCode) -> list[dict[str, Any]]:
    """One error code a partition: its own, or that of the whole request."""
    return [
        {
            "name": topic.name,
            "partitions": [
                {"partition_index": part.partition_index, "error_code": errors.get((topic.name, part.partition_index), code)}
                for part in topic.partitions
            ],
        }
        for topic in topics
    ]
