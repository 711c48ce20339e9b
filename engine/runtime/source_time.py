"""How far event time has come in a source: a watermark for each partition, and the one that the source tells to its readers.

Told is the least of the partitions' watermarks, so that what a closed window holds does not depend on which partition was read
first, nor on where epochs were cut. A partition without a readable row yet holds it back. One that has had nothing to read for a
while does not (an unused partition would keep every window open for ever); its next rows may be behind what was told, and are late
then. What was told is never taken back.

Source: RisingWave documentation, "Watermarks"; Akidau et al., "The Dataflow Model", PVLDB 8(12), 2015.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

IDLE_MS = 10_000
"""A partition with nothing to read for so long is not waited for; ten times what a producer's retry takes."""

TOLD = -1
"""The place of the told watermark among the stored partitions."""


@dataclass(frozen=True)
class SourceTime:
    """Attributes:
    moments: watermark by partition.
    told: the source's.
    """

    moments: Mapping[int, datetime] = field(default_factory=dict)
    told: datetime | None = None

    def advanced(self, marks: Mapping[int, datetime | None], awaited: Iterable[int]) -> SourceTime:
        """After rows with these greatest marks, while `awaited` partitions are waited for."""
        moments = dict(self.moments)
        for partition, mark in marks.items():
            if mark is not None and (partition not in moments or mark > moments[partition]):
                moments[partition] = mark
        needed = [moments.get(partition) for partition in awaited]
        known = [moment for moment in needed if moment is not None]
        told = self.told
        if known and len(known) == len(needed):
            told = min(known) if told is None else max(told, min(known))
        return SourceTime(moments, told)

    def stored(self) -> dict[int, datetime]:
        """By partition, the told one at `TOLD`."""
        return {**self.moments, **({TOLD: self.told} if self.told is not None else {})}


def load(rows: Iterable[tuple[int, datetime | None]]) -> SourceTime:
    """From what `stored` gave."""
    moments = {int(partition): moment for partition, moment in rows if moment is not None}
    told = moments.pop(TOLD, None)
    return SourceTime(moments, told)
