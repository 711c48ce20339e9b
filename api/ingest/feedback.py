"""Judges labels that come back: rows `{prediction_id, label, labelled_at?, source?}` for topic `feedback`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime

from api.ingest.columns import check_instant, check_text
from api.ingest.rows import ParsedRow
from api.ingest.verdicts import Judgement, Record, Refusal
from core.ids import TenantId

FEEDBACK = "feedback"
_KEYS = frozenset({"tenant_id", "prediction_id", "label", "labelled_at", "source"})


def judge_feedback(rows: Iterable[ParsedRow], tenant: TenantId, received_at: datetime) -> Judgement:
    """Sort labels into records and refusals. A label without `labelled_at` is given the time of its receipt."""
    judgement = Judgement()
    for row in rows:
        if row.value is None:
            judgement.refused.append(Refusal(row.number, row.code or "malformed_json", row.error or "", row.raw))
            continue
        complaint = _complaint(row.value, tenant)
        if complaint:
            judgement.refused.append(Refusal(row.number, *complaint, row.raw))
            continue
        label = row.value["label"]
        record = {
            "tenant_id": tenant,
            "prediction_id": row.value["prediction_id"],
            "label": label if isinstance(label, str) else json.dumps(label),
            "labelled_at": row.value.get("labelled_at") or received_at.isoformat(),
            "source": row.value.get("source") or "api",
        }
        judgement.accepted.append(Record(record["prediction_id"].encode(), json.dumps(record).encode()))
    return judgement


def _complaint(value: dict[str, object], tenant: TenantId) -> tuple[str, str] | None:
    for name in ("prediction_id", "label"):
        if value.get(name) in (None, ""):
            return "missing_key", f"`{name}` is missing"
    if not isinstance(value["label"], str | int):
        return "wrong_type", "`label`: expected a text, a whole number, true or false"
    for name in ("prediction_id", "label", "source"):
        cell = value.get(name)
        wrong = check_text(cell) if cell is not None and not (name == "label" and isinstance(cell, int)) else None
        if wrong:
            return "wrong_type", f"`{name}`: {wrong}"
    if value.get("labelled_at") is not None:
        wrong = check_instant(value["labelled_at"])
        if wrong:
            return "wrong_type", f"`labelled_at`: {wrong}"
    if value.get("tenant_id", tenant) != tenant:
        return "tenant_mismatch", "`tenant_id` is not the caller's tenant"
    unknown = sorted(value.keys() - _KEYS)
    return ("unknown_key", f"{unknown[0]!a} is no key of a label") if unknown else None
