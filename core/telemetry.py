"""The page over the OpenTelemetry API that domain code calls; only `observability` knows the SDK.

Without an SDK configured every call is a no-op, so a library function may always open a span.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import trace

type_attribute = str | int | float | bool


@contextmanager
def span(name: str, **attributes: type_attribute) -> Iterator[trace.Span]:
    """Open a span around a unit of work that a person would wait for."""
    with trace.get_tracer("headrace").start_as_current_span(name, attributes=attributes) as current:
        yield current
