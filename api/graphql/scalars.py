"""Values as GraphQL sends them."""

from __future__ import annotations

import json
from typing import Any, NewType

import strawberry
from strawberry.schema.config import StrawberryConfig

Cursor = NewType("Cursor", str)
BigInt = NewType("BigInt", int)

CONFIG = StrawberryConfig(
    scalar_map={
        Cursor: strawberry.scalar(
            name="Cursor",
            description="An opaque place in a list or a stream; take it from an answer, never make one.",
            serialize=str,
            parse_value=str,
        ),
        BigInt: strawberry.scalar(
            name="BigInt", description="A whole number of up to 53 bits, as a JSON number.", serialize=int, parse_value=int
        ),
    }
)


def from_json(value: object) -> Any:  # Any: JSON
    """Read a JSON column, which comes parsed from the stream database and as text from the lakehouse."""
    return json.loads(value) if isinstance(value, str) else value
