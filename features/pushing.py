"""Sends rows in batches: a batch goes when it is full **or** when its first row has waited long enough, so that the tail lands.

```
  add -> [row row row ...] --- size rows, or seconds after the first row, or close ---> send -> positions by partition
```
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Any

from core.clock import Clock

type_row = Mapping[str, Any]
type_send = Callable[[Sequence[type_row]], Mapping[int, int]]

BATCH_ROWS = 100
BATCH_AGE = timedelta(seconds=1)


class Pusher:
    """Collects rows and sends them; may be used by several threads, and sends from one at a time, in order.

    Args:
        send: delivers a batch and returns the last offset by partition; what it raises reaches the caller whose row or wait
            caused the sending, and the batch is kept and tried again with the next.
        clock: tells how long a row has waited.
        rows: a batch of so many goes at once.
        age: a row waits no longer than this.
    """

    def __init__(self, send: type_send, clock: Clock, *, rows: int = BATCH_ROWS, age: timedelta = BATCH_AGE) -> None:
        self._send = send
        self._clock = clock
        self._rows = rows
        self._age_seconds = age.total_seconds()
        self._waiting: list[type_row] = []
        self._oldest: float | None = None
        self._positions: dict[int, int] = {}
        self._lock = threading.Condition()
        self._closed = False
        self._problem: Exception | None = None
        self.batches = 0
        self._timer = threading.Thread(target=self._run, name="pusher", daemon=True)
        self._timer.start()

    def __enter__(self) -> Pusher:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @property
    def positions(self) -> dict[int, int]:
        """The last offset by partition of all that was sent: a read that waits for it sees every row so far sent."""
        with self._lock:
            return dict(self._positions)

    def add(self, row: type_row) -> None:
        """Take a row; sends when the batch is full.

        Raises:
            whatever `send` raised, now or when a row had waited too long.
        """
        with self._lock:
            if self._closed:
                raise ValueError("the pusher is closed")
            self._raise_problem()
            self._waiting.append(row)
            if self._oldest is None:
                self._oldest = self._clock.monotonic_seconds()
                self._lock.notify()
            if len(self._waiting) >= self._rows:
                self._flush()

    def flush_due(self) -> bool:
        """Send if a row has waited long enough; returns whether something was sent."""
        with self._lock:
            if self._oldest is None or self._clock.monotonic_seconds() - self._oldest < self._age_seconds:
                return False
            self._flush()
            return True

    def close(self) -> None:
        """Send what waits; nothing can be added afterwards.

        Raises:
            whatever `send` raises.
        """
        with self._lock:
            self._closed = True
            self._lock.notify()
            self._flush()
            self._problem = None

    # -- below: called by the above

    def _flush(self) -> None:
        if not self._waiting:
            return
        batch = tuple(self._waiting)
        self._positions.update(self._send(batch))
        self._waiting.clear()
        self._oldest = None
        self.batches += 1

    def _raise_problem(self) -> None:
        if self._problem is not None:
            problem, self._problem = self._problem, None
            raise problem

    def _run(self) -> None:
        """Wait for a first row, then for its age, then send."""
        while True:
            with self._lock:
                while self._oldest is None and not self._closed:
                    self._lock.wait()
                if self._closed:
                    return
                assert self._oldest is not None
                rest = self._age_seconds - (self._clock.monotonic_seconds() - self._oldest)
                if rest > 0:
                    self._lock.wait(rest)
                    continue
                try:
                    self._flush()
                except Exception as error:  # noqa: BLE001  last frame of a worker loop: told to the next caller
                    self._problem = error
                    self._lock.wait(self._age_seconds)
