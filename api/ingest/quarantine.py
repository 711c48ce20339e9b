"""Refused rows are kept: topic `quarantine.<stream>`, one JSON record each, with the original bytes.

Keys of a record: `stream`, `row` (index in its request), `code`, `reason`, `tenant_id`, `received_at`, `payload` (the
row's bytes, base64: SQL's `decode(payload, 'base64')`).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from datetime import datetime

from api.ingest.verdicts import Record, Refusal
from core.ids import TenantId


def quarantine_records(refused: Iterable[Refusal], *, stream: str, tenant: TenantId, received_at: datetime) -> list[Record]:
    """The records that keep the refused rows of one request."""
    received = received_at.isoformat()
    key = tenant.encode()
    return [
        Record(
            key,
            json.dumps(
                {
                    "stream": stream,
                    "row": refusal.row,
                    "code": refusal.code,
                    "reason": refusal.message,
                    "tenant_id": tenant,
                    "received_at": received,
                    "payload": base64.b64encode(refusal.raw).decode(),
                }
            ).encode(),
        )
        for refusal in refused
    ]
