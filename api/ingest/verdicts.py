"""What is told about each row."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from pydantic import BaseModel, Field


class Refusal(NamedTuple):
    """One refused row: where it stood in the request, why, and its bytes as they came."""

    row: int
    code: str
    message: str
    raw: bytes


class Record(NamedTuple):
    """One record for the log."""

    key: bytes
    value: bytes


@dataclass
class Judgement:
    """The rows of one request, sorted into those that go to the log and those that go to the quarantine."""

    accepted: list[Record] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)


class RejectedRow(BaseModel):
    """Why a row was refused."""

    row: int = Field(description="Index of the row in the request, from 0.")
    code: str = Field(description="For programs, e.g. `missing_key`, `wrong_type`, `tenant_mismatch`, `malformed_json`.")
    message: str = Field(description="For people.")


class IngestAnswer(BaseModel):
    """The verdict about a request's rows. Accepted means durable in the log."""

    stream: str
    accepted: int
    rejected: list[RejectedRow]
    validated: bool = Field(description="False when the stream's columns could not be read and only the envelope was checked.")
    quarantine: str | None = Field(None, description="The topic that keeps the refused rows with their original bytes.")
