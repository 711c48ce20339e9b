"""A source that makes its rows itself: typed columns, a pure function of split and offset, at a bounded rate.

So a restart at an offset gives exactly the rows that would have come without it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence

import pyarrow as pa

from core.errors import HeadraceError
from engine.connectors.base import Positions
from engine.connectors.record_buffer import RecordBuffer

logger = logging.getLogger(__name__)

_BATCH_ROWS = 10_000
_WAIT_SECONDS = 0.1  # how long a stop request may wait
_CLOSE_SECONDS = 10.0

Make = Callable[[int, int, int], pa.Table]
"""The typed columns of rows `first` up to `first + count` of a split: (split, first, count)."""


class GeneratedSource:
    """A `SourceReader` of typed columns (`typed` is true): partition, offset, timestamp, then the columns by name.

    Args:
        make: what makes the rows.
        lengths: rows in each split; None for a split without end.
        rows_per_second: of all splits together; None for as fast as they are taken.
        batch_rows: rows made at once.
    """

    typed = True

    def __init__(
        self, make: Make, lengths: Sequence[int | None], rows_per_second: float | None, batch_rows: int = _BATCH_ROWS
    ) -> None:
        self._make = make
        self._lengths = lengths
        self._rate = rows_per_second
        self._batch_rows = batch_rows
        self._buffer = RecordBuffer(max_rows=4 * max(batch_rows, _BATCH_ROWS), max_bytes=64 << 20)
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._next: dict[int, int] = {}
        self._starts: dict[int, int] = {}
        self._failure: HeadraceError | None = None

    def start(self, positions: Positions, wake: Callable[[], None]) -> None:
        """See `SourceReader.start`."""
        assert self._thread is None, "a source is started once"
        self._starts = {split: 0 for split in range(len(self._lengths)) if split not in positions}
        self._next = {split: positions.get(split, 0) for split in range(len(self._lengths))}
        self._thread = threading.Thread(target=self._run, args=(wake,), name="generated-source", daemon=True)
        self._thread.start()

    def take(self, max_rows: int) -> pa.Table | None:
        """See `SourceReader.take`; the columns are typed."""
        if self._failure is not None:
            raise self._failure
        return self._buffer.take(max_rows)

    def starts(self) -> Positions:
        return dict(self._starts)

    def lag(self) -> Mapping[int, int]:
        """Rows of each split that are still to come; 0 for a split without end."""
        return {
            split: max(0, length - self._next.get(split, 0)) if length is not None else 0
            for split, length in enumerate(self._lengths)
        }

    def close(self) -> None:
        self._stopping.set()
        self._buffer.release()
        if self._thread is not None:
            self._thread.join(_CLOSE_SECONDS)

    def _run(self, wake: Callable[[], None]) -> None:
        began, made = time.monotonic(), 0
        try:
            while not self._stopping.is_set():
                open_splits = [s for s, length in enumerate(self._lengths) if length is None or self._next[s] < length]
                if not open_splits:
                    return
                for split in open_splits:
                    made += self._put(split, len(open_splits))
                wake()
                if self._rate is not None:
                    self._stopping.wait(max(0.0, began + made / self._rate - time.monotonic()))
        except HeadraceError as error:
            logger.exception("generated source stopped")
            self._failure = error
            wake()

    def _put(self, split: int, sharing: int) -> int:
        while not self._buffer.wait_for_room(_WAIT_SECONDS):
            if self._stopping.is_set():
                return 0
        count = self._batch_rows
        if self._rate is not None:
            count = min(count, max(1, int(self._rate * _WAIT_SECONDS / sharing)))
        first, length = self._next[split], self._lengths[split]
        if length is not None:
            count = min(count, length - first)
        table = self._make(split, first, count)
        now = time.time_ns() // 1000
        positions = {
            "partition": pa.repeat(pa.scalar(split, pa.int32()), count),
            "offset": pa.array(range(first, first + count), pa.int64()),
            "timestamp": pa.repeat(pa.scalar(now, pa.int64()), count).cast(pa.timestamp("us")),
        }
        columns = {**positions, **{name: table[name] for name in table.column_names}}
        (batch,) = pa.table(columns).combine_chunks().to_batches()
        self._next[split] = first + count
        self._buffer.put(batch)
        return count
