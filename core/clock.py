"""Time as an input: whoever needs the time is given a clock."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Tells the wall-clock time in UTC and a monotonic time in seconds. Adapters: `SystemClock`, `core.fakes.ManualClock`."""

    def now(self) -> datetime: ...

    def monotonic_seconds(self) -> float: ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic_seconds(self) -> float:
        return time.monotonic()
