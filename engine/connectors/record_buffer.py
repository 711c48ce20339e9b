"""What a source read and nobody took yet, bounded by rows and bytes."""

from __future__ import annotations

import threading
from collections import deque

import pyarrow as pa


class RecordBuffer:
    """Batches of raw records in order: one thread puts, one takes.

    The putter asks for room first; a batch that is put may exceed the bounds, so they are bounds plus one batch.
    """

    def __init__(self, max_rows: int, max_bytes: int) -> None:
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self._batches: deque[pa.RecordBatch] = deque()
        self._bytes = 0
        self._room = threading.Condition()
        self._released = False
        self.rows = 0

    def wait_for_room(self, seconds: float) -> bool:
        """Whether there is room now or within `seconds`; False at once after `release`."""
        with self._room:
            return self._room.wait_for(lambda: self._released or self._has_room(), seconds) and not self._released

    def release(self) -> None:
        """Let a waiting putter go, for good."""
        with self._room:
            self._released = True
            self._room.notify_all()

    def put(self, batch: pa.RecordBatch) -> None:
        with self._room:
            self._batches.append(batch)
            self._bytes += batch.nbytes
            self.rows += batch.num_rows

    def take(self, max_rows: int) -> pa.Table | None:
        """The first `max_rows` rows, or fewer; None if there are none."""
        taken, wanted = [], max_rows
        with self._room:
            while self._batches and wanted > 0:
                batch = self._batches.popleft()
                self._bytes -= batch.nbytes
                if batch.num_rows > wanted:
                    rest = batch.slice(wanted)
                    self._batches.appendleft(rest)
                    self._bytes += rest.nbytes
                    batch = batch.slice(0, wanted)
                taken.append(batch)
                wanted -= batch.num_rows
                self.rows -= batch.num_rows
            if self._has_room():
                self._room.notify_all()
        return pa.Table.from_batches(taken) if taken else None

    def _has_room(self) -> bool:
        return self.rows < self._max_rows and self._bytes < self._max_bytes
