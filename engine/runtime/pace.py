"""When the next epoch may begin.

The interval of the settings is the longest distance between two epochs while there is input. An engine that has little to do
goes on sooner: rows become visible early, and since an epoch costs about the same for one row as for a thousand, the distance
follows what the last one took. Where many rows come the whole interval gathers them, so that they share that cost.

    last epoch     |####|                     next one if there is input
    distance       |<-- 1.1 x its time, 25 ms at least, the interval at most -->|
"""

from __future__ import annotations

_LEAST_SECONDS = 0.025  # nobody sees a row 25 ms late; closer epochs only burn the processor
_SHARE = 1.1  # rows are 2.1 epochs late at most; a longer rest is felt at once, and readers have threads of their own
_LIGHT = 4  # an epoch of less than a quarter of the row cap is light


class Pace:
    """Args:
    interval_seconds: the longest distance.
    max_rows: the row cap of an epoch.
    """

    def __init__(self, interval_seconds: float, max_rows: int) -> None:
        self._interval = interval_seconds
        self._max_rows = max_rows
        self._began = self._distance = float("-inf")

    def rest(self, now: float, *, for_input: bool) -> float:
        """Seconds until the next epoch may begin, 0 or less if it may now.

        Args:
            now: monotonic seconds.
            for_input: rows are waiting; an epoch for time alone (a filter on now()) keeps the whole interval.
        """
        return self._began + (self._distance if for_input else self._interval) - now

    def ran(self, began: float, ended: float, rows: int) -> None:
        """Note an epoch: its monotonic times, and the rows that it took."""
        self._began = began
        soon = max(_LEAST_SECONDS, _SHARE * (ended - began))
        self._distance = min(self._interval, soon) if rows * _LIGHT < self._max_rows else self._interval
