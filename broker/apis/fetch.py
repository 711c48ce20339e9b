"""Fetch: read from logs, and wait until there is enough to read."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from kio.schema.errors import ErrorCode

from broker.log.partition import PartitionLog
from broker.log.segment import CorruptRangeError
from broker.node import Node
from broker.refusal import Refusal
from broker.topics import Topic
from broker.wire import Fields, Request

logger = logging.getLogger(__name__)

_READ_COMMITTED = 1


async def handle(node: Node, request: Request) -> Fields:
    """Answer as soon as `min_bytes` are there, something is wrong, or `max_wait` is over.

    No fetch sessions: id 0 tells the client to name its partitions every time.
    """
    body = request.body
    loop = asyncio.get_running_loop()
    deadline = loop.time() + body.max_wait.total_seconds()
    answer = _Answer(node, body)
    wake = asyncio.Event()
    try:
        while True:
            wake.clear()
            answer.collect()
            remaining = deadline - loop.time()
            if answer.complete or remaining <= 0:
                return answer.fields()
            answer.watch(wake)
            try:
                async with asyncio.timeout(remaining):
                    await wake.wait()
            except TimeoutError:
                return answer.fields()
    finally:
        answer.unwatch(wake)


class _Answer:
    """The response while it is being gathered."""

    def __init__(self, node: Node, body: Any) -> None:
        self._node = node
        self._body = body
        self._committed = body.isolation_level == _READ_COMMITTED
        self._max_bytes = getattr(body, "max_bytes", 2**31 - 1)
        self._logs: dict[PartitionLog, None] = {}
        self._size = 0
        self._failed = False
        self._responses: list[dict[str, Any]] = []

    @property
    def complete(self) -> bool:
        return self._failed or self._size >= self._body.min_bytes or not self._logs

    def fields(self) -> Fields:
        return {"error_code": ErrorCode.none, "session_id": 0, "responses": self._responses}

    def watch(self, wake: asyncio.Event) -> None:
        for log in self._logs:
            log.watch(wake.set)

    def unwatch(self, wake: asyncio.Event) -> None:
        for log in self._logs:
            log.unwatch(wake.set)

    def collect(self) -> None:
        self._size, self._failed, self._responses = 0, False, []
        for wanted in self._body.topics:
            topic = self._topic(wanted)
            self._responses.append(
                {
                    "topic": getattr(wanted, "topic", ""),
                    "topic_id": getattr(wanted, "topic_id", None),
                    "partitions": [self._partition(topic, wanted, part) for part in wanted.partitions],
                }
            )

    def _topic(self, wanted: Any) -> Topic | None:
        if hasattr(wanted, "topic_id"):
            return self._node.topics.get_by_id(wanted.topic_id)
        return self._node.topics.get(wanted.topic)

    def _partition(self, topic: Topic | None, wanted: Any, part: Any) -> dict[str, Any]:
        if topic is None or not 0 <= part.partition < len(topic.partitions):
            by_id = topic is None and hasattr(wanted, "topic_id")
            return self._refused(part, ErrorCode.unknown_topic_id if by_id else ErrorCode.unknown_topic_or_partition)
        log = topic.partitions[part.partition]
        self._logs[log] = None
        room = min(part.partition_max_bytes, self._max_bytes - self._size)
        try:
            # Without room left an empty answer still carries the watermarks.
            found = log.read(part.fetch_offset if room > 0 else log.high_watermark, room, committed=self._committed)
        except Refusal as refusal:
            return self._refused(part, refusal.code, log)
        except CorruptRangeError as error:
            logger.error(
                "fetch of damaged offsets refused",
                extra={"topic": topic.name, "partition": part.partition, "offset": part.fetch_offset, "error": str(error)},
            )
            return self._refused(part, ErrorCode.corrupt_message, log)
        self._size += len(found.records)
        return {
            "partition_index": part.partition,
            "error_code": ErrorCode.none,
            "high_watermark": found.high_watermark,
            "last_stable_offset": found.last_stable_offset,
            "log_start_offset": found.start_offset,
            "aborted_transactions": [item._asdict() for item in found.aborted] if self._committed else None,
            "records": found.records,
        }

    def _refused(self, part: Any, code: ErrorCode, log: PartitionLog | None = None) -> dict[str, Any]:
        self._failed = True
        return {
            "partition_index": part.partition,
            "error_code": code,
            "high_watermark": log.high_watermark if log else -1,
            "last_stable_offset": log.last_stable_offset if log else -1,
            "log_start_offset": log.start_offset if log else -1,
            "records": b"",
        }
