"""How long epochs took, as counts by limit: a histogram that Prometheus can add up over time and over engines."""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate

LIMITS_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class LatencyHistogram:
    """Observed by one thread, read by any."""

    def __init__(self) -> None:
        self._counts = [0] * (len(LIMITS_SECONDS) + 1)
        self.sum_seconds = 0.0

    def observe(self, seconds: float) -> None:
        self._counts[bisect_left(LIMITS_SECONDS, seconds)] += 1
        self.sum_seconds += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """Limit, and how many were not above it; the last is `+Inf`."""
        limits = [*map(str, LIMITS_SECONDS), "+Inf"]
        return list(zip(limits, map(float, accumulate(self._counts)), strict=True))
