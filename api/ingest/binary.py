"""A raw binary payload (an image, a waveform) as an event: content-addressed by its SHA-256."""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import datetime

from api.ingest.rows import ParsedRow
from api.ingest.streams import StreamSchema


def binary_row(
    payload: bytes,
    *,
    schema: StreamSchema,
    entity_id: str | None,
    event_time: str | None,
    received_at: datetime,
    content_type: str,
) -> ParsedRow:
    """Wrap `payload` into the event that carries it; the event is then judged like any other.

    The text form of `payload` follows the stream's column: PostgreSQL's hexadecimal for `bytea`, else base64. The keys
    `sha256`, `size_bytes` and `content_type` stand beside it.
    """
    event: dict[str, str | int | None] = {
        "entity_id": entity_id,
        "event_time": event_time or received_at.isoformat(),
        "content_type": content_type,
        "sha256": hashlib.sha256(payload).hexdigest(),
        "size_bytes": len(payload),
        "payload": encode_payload(payload, schema.types.get("payload", "")),
    }
    present = {name: value for name, value in event.items() if value is not None}
    return ParsedRow(0, json.dumps(present).encode(), present)


def encode_payload(payload: bytes, sql_type: str) -> str:
    """`\\x..` for a bytea column (RisingWave reads JSON texts into bytea as PostgreSQL does), else base64."""
    return "\\x" + payload.hex() if sql_type.lower() == "bytea" else base64.b64encode(payload).decode()
