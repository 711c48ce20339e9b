"""ListOffsets: earliest, latest, of the greatest time, or by time."""

from __future__ import annotations

from typing import Any

from kio.schema.errors import ErrorCode

from broker.log.partition import PartitionLog
from broker.log.segment import CorruptRangeError
from broker.node import Node
from broker.refusal import Refusal
from broker.wire import Fields, Request

_LATEST, _EARLIEST, _MAX_TIMESTAMP = -1, -2, -3
_READ_COMMITTED = 1


async def handle(node: Node, request: Request) -> Fields:
    committed = getattr(request.body, "isolation_level", 0) == _READ_COMMITTED
    return {
        "topics": [
            {
                "name": topic.name,
                "partitions": [_partition(node, topic.name, part, committed=committed) for part in topic.partitions],
            }
            for topic in request.body.topics
        ]
    }


def _partition(node: Node, topic: str, part: Any, *, committed: bool) -> dict[str, Any]:
    code, found = ErrorCode.none, None
    try:
        found = _find(node.topics.must_get_partition(topic, part.partition_index), part.timestamp, committed=committed)
    except Refusal as refusal:
        code = refusal.code
    except CorruptRangeError:
        code = ErrorCode.corrupt_message
    timestamp, offset = found or (-1, -1)
    return {
        "partition_index": part.partition_index,
        "error_code": code,
        "timestamp": timestamp,
        "offset": offset,
        "leader_epoch": 0 if found else -1,
    }


def _find(log: PartitionLog, timestamp: int, *, committed: bool) -> tuple[int, int] | None:
    if timestamp == _LATEST:
        return -1, log.last_stable_offset if committed else log.high_watermark
    if timestamp == _EARLIEST:
        return -1, log.start_offset
    if timestamp == _MAX_TIMESTAMP:
        return log.latest_time()
    if timestamp < 0:
        raise Refusal(ErrorCode.unsupported_version, f"timestamp `{timestamp}` has no meaning here")
    return log.offset_at(timestamp, committed=committed)
