"""`POST /ingest/batch`: rows of numbers with labels, for topic `events.tabular`; a batch counts once, whoever repeats it."""

from __future__ import annotations

import hashlib
import json
import math
import uuid
from collections.abc import Sequence
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from api.http.problems import TooLargeError
from api.ingest.batch_log import BatchLog, Note
from api.ingest.events import record_key
from api.ingest.quarantine import quarantine_records
from api.ingest.service import MAX_ROWS, off_loop
from api.ingest.verdicts import Record, Refusal, RejectedRow
from core.clock import Clock
from core.errors import ConflictError, InvalidInputError
from core.ids import TenantId

STREAM = "tabular"
TOPIC = f"events.{STREAM}"
MAX_FEATURES = 10_000


class BatchInput(BaseModel):
    """A batch as it is sent."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {
        "features": [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], "labels": [0, 1], "batch_id": "batch_001"}})  # fmt: skip

    features: list[JsonValue] = Field(description=f"Rows of finite numbers, as many in each; at most {MAX_ROWS} rows.")
    labels: list[str | int | float | bool | None] | None = Field(
        None, description="One for each row; null where none is known."
    )
    batch_id: str | None = Field(
        None, min_length=1, max_length=256, description="A batch that is sent again under its id counts once."
    )


class BatchAnswer(BaseModel):
    """The verdict about a batch. Accepted means committed to the log."""

    batch_id: str
    accepted: int
    rejected: list[RejectedRow]
    duplicate: bool = Field(description="The batch was there already; this is what its sender was told then.")


class Batches:
    """Takes batches."""

    def __init__(self, log: BatchLog, clock: Clock) -> None:
        self._log = log
        self._clock = clock

    async def take(self, tenant: TenantId, body: bytes) -> BatchAnswer:
        """Commit the good rows of a batch, and the others to the quarantine, unless that was done before.

        Args:
            body: JSON of a `BatchInput`.

        Raises:
            RequestValidationError: it is none.
            InvalidInputError: as many labels as rows are needed.
            TooLargeError: there are too many rows.
            ConflictError: other rows were sent under this id.
            UnavailableError: the broker did not commit; send the same batch again.
        """
        mine, records, batch_id = await off_loop(lambda: self._prepare(tenant, body), len(body))
        note = await self._log.append(json.dumps([tenant, batch_id]), mine, records)
        if note.digest != mine.digest:
            raise ConflictError(f"other rows were sent as batch `{batch_id}`", fix="Give every batch an id of its own.")
        return BatchAnswer(**note.answer, duplicate=note is not mine)

    def _prepare(self, tenant: TenantId, body: bytes) -> tuple[Note, dict[str, list[Record]], str]:
        """What is to be committed, and the batch's id."""
        try:
            batch = BatchInput.model_validate_json(body)
        except ValidationError as problem:
            raise RequestValidationError([{**each, "loc": ("body", *each["loc"])} for each in problem.errors()]) from problem
        if len(batch.features) > MAX_ROWS:
            raise TooLargeError(
                f"there are {len(batch.features)} rows, at most {MAX_ROWS} are taken", fix="Send several batches."
            )
        if batch.labels is not None and len(batch.labels) != len(batch.features):
            raise InvalidInputError(
                f"there are {len(batch.labels)} labels for {len(batch.features)} rows", fix="Send one for each row, or null."
            )
        batch_id = batch.batch_id or uuid.uuid4().hex
        digest = hashlib.sha256(batch.model_dump_json(exclude={"batch_id"}).encode()).hexdigest()
        accepted, refused = self._judge(tenant, batch_id, batch)
        answer = {
            "batch_id": batch_id,
            "accepted": len(accepted),
            "rejected": [{"row": each.row, "code": each.code, "message": each.message} for each in refused],
        }
        kept = quarantine_records(refused, stream=STREAM, tenant=tenant, received_at=self._clock.now())
        return Note(digest, answer), {TOPIC: accepted, f"quarantine.{STREAM}": kept}, batch_id

    def _judge(self, tenant: TenantId, batch_id: str, batch: BatchInput) -> tuple[list[Record], list[Refusal]]:
        received = self._clock.now().isoformat()
        labels: Sequence[Any] = batch.labels or [None] * len(batch.features)  # Any: JSON
        width = next((len(row) for row in batch.features if isinstance(row, list)), 0)
        accepted, refused = [], []
        for number, (row, label) in enumerate(zip(batch.features, labels, strict=True)):
            complaint = _complaint(row, width)
            entity = f"{batch_id}/{number}"
            value = {
                "tenant_id": tenant,
                "entity_id": entity,
                "event_time": received,
                "batch_id": batch_id,
                "row_number": number,
                "features": row,
                "label": None if label is None else str(label),
            }
            if complaint is None:
                accepted.append(Record(record_key(tenant, entity), json.dumps(value).encode()))
            else:
                refused.append(Refusal(number, *complaint, json.dumps(row).encode()))
        return accepted, refused


def _complaint(row: JsonValue, width: int) -> tuple[str, str] | None:
    if not isinstance(row, list):
        return "wrong_type", "the row is no list of numbers"
    if len(row) != width or not row:
        return "wrong_length", f"the row has {len(row)} values, the first one has {width}"
    if len(row) > MAX_FEATURES:
        return "too_large", f"the row has {len(row)} values, at most {MAX_FEATURES} are taken"
    for at, value in enumerate(row):
        if isinstance(value, bool) or not isinstance(value, int | float):
            return "wrong_type", f"value {at} is no number"
        if not math.isfinite(value):
            return "non_finite_feature", f"value {at} is not finite"
    return None
