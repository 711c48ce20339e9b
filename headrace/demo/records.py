"""What a stream sends and what is known about it beforehand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple


class FeatureKey(NamedTuple):
    """What a prediction is about; the truth is known by it."""

    tenant_id: str
    entity_id: str
    feature_end: datetime


@dataclass(frozen=True)
class Record:
    """One message to be sent.

    Attributes:
        at_seconds: when it is sent, seconds since the replay began.
        tenant: whose it is, also if the value cannot be read.
        entity_id: what it is about.
        value: the bytes, good or bad: the value of a Kafka record, or the body of a request.
        uploaded_at: the event time of a raw payload that goes through the REST door; None for Kafka records.
    """

    at_seconds: float
    tenant: str
    entity_id: str
    value: bytes
    uploaded_at: datetime | None = None

    @property
    def key(self) -> str:
        """The Kafka key: records of one entity share a partition."""
        return f"{self.tenant}/{self.entity_id}"


@dataclass(frozen=True)
class Stream:
    """One replayed stream.

    Attributes:
        first: event time at the begin of the replay.
        pipeline: its name; events go to topic `events.<pipeline>`.
        records: in the order of sending.
        truth: what the label of each prediction should have been.
        speed: event-time seconds per second of replay.
        injected: kind of bad row to how many of it were sent.
    """

    pipeline: str
    tenants: tuple[str, ...]
    first: datetime
    records: tuple[Record, ...]
    truth: Mapping[FeatureKey, str]
    speed: float
    injected: Mapping[str, int]

    @property
    def topic(self) -> str:
        return f"events.{self.pipeline}"


def encode(event: Mapping[str, object]) -> bytes:
    """JSON with times as RFC 3339 in UTC."""
    return json.dumps(event, default=_text, separators=(",", ":")).encode()


def _text(value: object) -> str:
    assert isinstance(value, datetime)
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
