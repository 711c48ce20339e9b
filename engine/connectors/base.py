"""What the runtime asks of a source and of a sink, in its own words.

Exactly once needs two promises. A **source** can be read again from a position that we keep. A **sink** tells, when it is
opened, the last epoch that it has whole, and from then on nobody else can write in its name; a delivery is all or nothing.
The runtime keeps undelivered rows in an outbox (in the transaction of their epoch) and delivers them in order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import pyarrow as pa

RAW_SCHEMA = pa.schema(
    [
        ("partition", pa.int32()),
        ("offset", pa.int64()),
        ("timestamp", pa.timestamp("us")),  # the broker's append (or the producer's create) time, UTC
        ("key", pa.binary()),
        ("value", pa.binary()),  # null is a tombstone
        ("headers", pa.list_(pa.struct([("key", pa.string()), ("value", pa.binary())]))),
    ]
)

Positions = Mapping[int, int]
"""Partition to the offset of the next record to be read."""


class SourceReader(Protocol):
    """Reads an external log in the background into a bounded buffer. Methods are called from one thread of the runtime."""

    def start(self, positions: Positions, wake: Callable[[], None]) -> None:
        """Begin at `positions` (partitions not named start where the source's startup mode says); call `wake` when rows arrive."""
        ...

    def take(self, max_rows: int) -> pa.Table | None:
        """Take up to `max_rows` buffered rows (RAW_SCHEMA, in offset order within a partition) without waiting; None if there are none."""
        ...

    def starts(self) -> Positions:
        """Where each partition began that `positions` did not name, once known."""
        ...

    def lag(self) -> Mapping[int, int]:
        """Records in each partition that were not taken yet, as far as known."""
        ...

    def close(self) -> None: ...


class SinkWriter(Protocol):
    """Delivers the outbox of one sink. Called from one thread of its own; may block; raises `UnavailableError` to be retried."""

    def open(self) -> int:
        """Fence off earlier writers of this sink and return the last epoch that was delivered whole (0 if none)."""
        ...

    def deliver(self, epoch: int, rows: pa.Table) -> None:
        """Deliver all rows up to and including `epoch`, atomically, and remember `epoch`.

        Args:
            epoch: greater than what `open` returned and than every epoch delivered since.
            rows: the sink's visible columns, then `_op` int8 (1 insert, 2 delete, 3 update-delete, 4 update-insert) and `_epoch`
                int64, the epoch that made the change, in order. A delivery may hold many epochs.
        """
        ...

    def close(self) -> None: ...
