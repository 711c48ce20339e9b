"""Judges the rows of an event stream: the envelope, the tenant, the types of the columns."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from api.ingest.rows import ParsedRow
from api.ingest.streams import ENVELOPE, StreamSchema
from api.ingest.verdicts import Judgement, Record, Refusal
from core.ids import TenantId

MAX_ROW_BYTES = 900_000  # below the million that Kafka takes by default, with room for the record's header


def judge_events(rows: Iterable[ParsedRow], schema: StreamSchema, tenant: TenantId) -> Judgement:
    """Sort rows into records for the log and refusals.

    A row keeps its bytes as they came; only a missing `tenant_id` is put in front. A declared column that is not in the
    row is NULL, as in the stream database; keys that no column has are passed on and ignored there.
    """
    judgement = Judgement()
    prefix = b'{"tenant_id":' + json.dumps(tenant).encode() + b","
    for row in rows:
        if row.value is None:
            judgement.refused.append(Refusal(row.number, row.code or "malformed_json", row.error or "", row.raw))
            continue
        complaint = _complaint(row, row.value, schema, tenant)
        if complaint:
            judgement.refused.append(Refusal(row.number, *complaint, row.raw))
            continue
        raw = row.raw if "tenant_id" in row.value else prefix + row.raw.lstrip()[1:]
        judgement.accepted.append(Record(record_key(tenant, row.value["entity_id"]), raw))
    return judgement


def record_key(tenant: TenantId, entity: str) -> bytes:
    """Events of one entity share a partition, so they keep their order."""
    return f"{tenant}/{entity}".encode()


def _complaint(row: ParsedRow, value: dict[str, Any], schema: StreamSchema, tenant: TenantId) -> tuple[str, str] | None:
    if len(row.raw) > MAX_ROW_BYTES:
        return "too_large", f"the row has {len(row.raw)} bytes, at most {MAX_ROW_BYTES} are taken"
    for name in ENVELOPE:
        if value.get(name) is None and (name != "tenant_id" or name in value):
            return "missing_key", f"`{name}` is missing" if name not in value else f"`{name}` is null"
    for name, check in schema.checks.items():
        cell = value.get(name)
        if cell is None:
            continue
        wrong = check(cell)
        if wrong:
            return "wrong_type", f"`{name}`: {wrong}"
    if value.get("tenant_id", tenant) != tenant:
        return "tenant_mismatch", "`tenant_id` is not the caller's tenant"
    if not value["entity_id"]:
        return "missing_key", "`entity_id` is empty"
    return None
