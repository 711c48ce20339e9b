"""InitProducerId: a number for an idempotent producer."""

from __future__ import annotations

from kio.schema.errors import ErrorCode

from broker.node import Node
from broker.wire import Fields, Request


async def handle(node: Node, request: Request) -> Fields:
    if request.body.transactional_id is not None:
        return {"error_code": ErrorCode.unsupported_version, "producer_id": -1, "producer_epoch": -1}
    return {"error_code": ErrorCode.none, "producer_id": await node.producer_ids.allocate(), "producer_epoch": 0}
