"""InitProducerId: a number for an idempotent producer, or the next epoch of a transactional one."""

from __future__ import annotations

from kio.schema.errors import ErrorCode

from broker.node import Node
from broker.refusal import Refusal
from broker.wire import Fields, Request

_KNOWS_FENCED_FROM = 4


async def handle(node: Node, request: Request) -> Fields:
    body = request.body
    if body.transactional_id is None:
        return {"error_code": ErrorCode.none, "producer_id": await node.producer_ids.allocate(), "producer_epoch": 0}
    producer_id = getattr(body, "producer_id", -1)
    expected = (producer_id, body.producer_epoch) if producer_id >= 0 else None
    timeout_ms = int(body.transaction_timeout.total_seconds() * 1000)
    try:
        producer_id, epoch = await node.transactions.begin_producer(body.transactional_id, timeout_ms, expected)
    except Refusal as refusal:
        code = refusal.code
        if code is ErrorCode.producer_fenced and request.version < _KNOWS_FENCED_FROM:
            code = ErrorCode.invalid_producer_epoch
        return {"error_code": code, "producer_id": -1, "producer_epoch": -1}
    return {"error_code": ErrorCode.none, "producer_id": producer_id, "producer_epoch": epoch}
