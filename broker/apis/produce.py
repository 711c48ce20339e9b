"""Produce: append at once, acknowledge when it is durable."""

from __future__ import annotations

from collections.abc import Awaitable
from functools import partial
from typing import Any

from kio.schema.errors import ErrorCode

from broker.log.partition import PartitionLog
from broker.node import Node
from broker.refusal import Refusal
from broker.wire import Fields, Request
from core.errors import UnavailableError

_ACKS = (-1, 0, 1)


def begin(node: Node, request: Request) -> Awaitable[Fields | None]:
    """Append what the request holds, in its order, before this returns; the awaitable is the acknowledgement.

    So a connection may take the next request while the disk is busy with this one. It resolves to None for acks=0.
    """
    body = request.body
    appended: list[PartitionLog] = []
    responses = [
        {
            "name": topic.name,
            "partition_responses": [_append(node, body, topic.name, part, appended) for part in topic.partition_data],
        }
        for topic in body.topic_data
    ]
    return _acknowledge(responses, appended, wanted=body.acks != 0)


async def _acknowledge(responses: list[dict[str, Any]], appended: list[PartitionLog], *, wanted: bool) -> Fields | None:
    if not wanted:
        return None
    try:
        for log in appended:
            await log.durable()
    except UnavailableError as error:
        _fail_all(responses, error)
    return {"responses": responses}


def _append(node: Node, body: Any, topic: str, part: Any, appended: list[PartitionLog]) -> dict[str, Any]:
    try:
        if body.acks not in _ACKS:
            raise Refusal(ErrorCode.invalid_required_acks, f"acks `{body.acks}` is none of -1, 0, 1")
        log = node.topics.must_get_partition(topic, part.index)
        result = log.append(part.records or b"", partial(node.transactions.admit, topic, part.index))
    except Refusal as refusal:
        return _refused(part.index, refusal.code, str(refusal))
    except UnavailableError as error:
        return _refused(part.index, ErrorCode.kafka_storage_error, str(error))
    appended.append(log)
    return {
        "index": part.index,
        "error_code": ErrorCode.none,
        "base_offset": result.base_offset,
        "log_append_time": result.append_time_ms,
        "log_start_offset": log.start_offset,
    }


def _refused(index: int, code: ErrorCode, text: str) -> dict[str, Any]:
    return {"index": index, "error_code": code, "base_offset": -1, "log_append_time": None, "error_message": text}


def _fail_all(responses: list[dict[str, Any]], error: UnavailableError) -> None:
    for topic in responses:
        topic["partition_responses"] = [
            _refused(part["index"], ErrorCode.kafka_storage_error, str(error)) for part in topic["partition_responses"]
        ]
