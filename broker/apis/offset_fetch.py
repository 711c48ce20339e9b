"""OffsetFetch: where groups go on reading."""

from __future__ import annotations

from typing import Any

from kio.schema.errors import ErrorCode

from broker.coordinators.offsets import CommittedOffset
from broker.node import Node
from broker.wire import Fields, Request

_NOTHING = CommittedOffset(-1, -1, "")
_SEVERAL_GROUPS_FROM = 8


async def handle(node: Node, request: Request) -> Fields:
    body = request.body
    stable = getattr(body, "require_stable", False)
    if request.version >= _SEVERAL_GROUPS_FROM:
        return {
            "groups": [
                {"group_id": item.group_id, **_group(node, item.group_id, item.topics, stable=stable)} for item in body.groups
            ]
        }
    return _group(node, body.group_id, body.topics, stable=stable)


def _group(node: Node, group: str, topics: Any, *, stable: bool) -> dict[str, Any]:
    committed = node.offsets.committed(group)
    if topics is None:
        wanted: dict[str, list[int]] = {}
        for topic, number in sorted(committed):
            wanted.setdefault(topic, []).append(number)
    else:
        wanted = {topic.name: list(topic.partition_indexes) for topic in topics}
    return {
        "topics": [
            {"name": topic, "partitions": [_partition(node, group, topic, number, stable=stable) for number in numbers]}
            for topic, numbers in wanted.items()
        ],
        "error_code": ErrorCode.none,
    }


def _partition(node: Node, group: str, topic: str, number: int, *, stable: bool) -> dict[str, Any]:
    unstable = stable and node.offsets.is_unstable(group, (topic, number))
    found = _NOTHING if unstable else node.offsets.committed(group).get((topic, number), _NOTHING)
    return {
        "partition_index": number,
        "committed_offset": found.offset,
        "committed_leader_epoch": found.leader_epoch,
        "metadata": found.metadata or "",
        "error_code": ErrorCode.unstable_offset_commit if unstable else ErrorCode.none,
    }
