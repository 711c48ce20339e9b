"""An external log that a test fills and serves bit by bit, in place of a Kafka topic."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from engine.connectors.base import RAW_SCHEMA, Positions


@dataclass(frozen=True)
class Record:
    """One record of a partition; `arrived` is the broker's append time."""

    value: bytes | None
    arrived: dt.datetime


@dataclass
class FakeLog:
    """Records by partition; only the first `served[p]` of them can be read yet."""

    partitions: dict[int, list[Record]]
    served: dict[int, int] = field(default_factory=dict)
    latest: bool = False
    readers: list[FakeReader] = field(default_factory=list)

    def reader(self, *_arguments: object) -> FakeReader:
        """What `build_source` would return."""
        made = FakeReader(self)
        self.readers.append(made)
        return made

    def serve(self, counts: Mapping[int, int]) -> None:
        """Let more be read."""
        for partition, count in counts.items():
            self.served[partition] = max(count, self.served.get(partition, 0))
        for reader in self.readers:
            reader.wake()

    def serve_all(self) -> None:
        self.serve({p: len(records) for p, records in self.partitions.items()})


class FakeReader:
    """A `SourceReader` on a `FakeLog`; `taken` counts the records that it gave."""

    def __init__(self, log: FakeLog) -> None:
        self._log = log
        self._next: dict[int, int] = {}
        self._starts: dict[int, int] = {}
        self.taken = 0
        self.wake: Callable[[], None] = lambda: None

    def start(self, positions: Positions, wake: Callable[[], None]) -> None:
        self.wake = wake
        for partition in self._log.partitions:
            first = self._log.served.get(partition, 0) if self._log.latest else 0
            if partition not in positions:
                self._starts[partition] = first
            self._next[partition] = positions.get(partition, first)

    def take(self, max_rows: int) -> pa.Table | None:
        rows: list[tuple[int, int, Record]] = []
        for partition, records in sorted(self._log.partitions.items()):
            end = min(self._log.served.get(partition, 0), self._next[partition] + max_rows - len(rows))
            rows += [(partition, offset, records[offset]) for offset in range(self._next[partition], end)]
            self._next[partition] = max(self._next[partition], end)
        self.taken += len(rows)
        return raw_table(rows) if rows else None

    def starts(self) -> Positions:
        return self._starts

    def lag(self) -> Mapping[int, int]:
        return {p: max(0, self._log.served.get(p, 0) - n) for p, n in self._next.items()}

    def close(self) -> None:
        self.wake = lambda: None


def raw_table(rows: Sequence[tuple[int, int, Record]]) -> pa.Table:
    """Records as a reader gives them."""
    columns = {
        "partition": [p for p, _, _ in rows],
        "offset": [o for _, o, _ in rows],
        "timestamp": [r.arrived for _, _, r in rows],
        "key": [None] * len(rows),
        "value": [r.value for _, _, r in rows],
        "headers": [None] * len(rows),
    }
    return pa.table(columns, schema=RAW_SCHEMA)
