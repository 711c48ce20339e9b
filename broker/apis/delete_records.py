"""DeleteRecords: let a partition begin later."""

from __future__ import annotations

import logging
from typing import Any

from kio.schema.errors import ErrorCode

from broker.node import Node
from broker.refusal import Refusal
from broker.wire import Fields, Request

logger = logging.getLogger(__name__)

_UP_TO_THE_END = -1


async def handle(node: Node, request: Request) -> Fields:
    return {
        "topics": [
            {"name": topic.name, "partitions": [_delete(node, topic.name, part) for part in topic.partitions]}
            for topic in request.body.topics
        ]
    }


def _delete(node: Node, topic: str, part: Any) -> dict[str, Any]:
    code, low_watermark = ErrorCode.none, -1
    try:
        log = node.topics.must_get_partition(topic, part.partition_index)
        log.delete_before(log.high_watermark if part.offset == _UP_TO_THE_END else part.offset)
        low_watermark = log.start_offset
    except Refusal as refusal:
        code = refusal.code
    except OSError as error:
        logger.error("records cannot be deleted", extra={"topic": topic, "error": str(error)})
        code = ErrorCode.kafka_storage_error
    return {"partition_index": part.partition_index, "low_watermark": low_watermark, "error_code": code}
