"""FindCoordinator: it is always us. Even clients that only assign ask, to learn what the broker can do."""

from __future__ import annotations

from typing import Any

from kio.schema.errors import ErrorCode

from broker.node import NODE_ID, Node
from broker.wire import Fields, Request

_KEY_TYPES = (0, 1)  # consumer group, transactional id


async def handle(node: Node, request: Request) -> Fields:
    body = request.body
    keys = body.coordinator_keys if hasattr(body, "coordinator_keys") else (body.key,)
    known = getattr(body, "key_type", 0) in _KEY_TYPES
    coordinators: list[dict[str, Any]] = [
        {
            "key": key,
            "node_id": NODE_ID if known else -1,
            "host": node.host if known else "",
            "port": node.port if known else -1,
            "error_code": ErrorCode.none if known else ErrorCode.invalid_request,
        }
        for key in keys
    ]
    return {"coordinators": coordinators, **(coordinators[0] if coordinators else {})}
