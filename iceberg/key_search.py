"""Finds the rows of a table that have certain keys, by reading key columns only, and of each data file once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from pyiceberg.expressions import AlwaysTrue
from pyiceberg.io.pyarrow import ArrowScan
from pyiceberg.table import FileScanTask, Table

from iceberg.keys import KeySet
from iceberg.live_files import LiveFile, LiveFiles
from iceberg.positions import NO_POSITIONS, DeadRows, type_positions

# Some 100 MB of keys.
_ROWS_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class Hit:
    """Live rows of a data file that go, and for which reason."""

    positions: type_positions
    replaced: int
    deleted: int


class KeySearch:
    """Remembers of each data file which of its rows have our keys, dead or alive."""

    def __init__(self, table: Table, upserts: KeySet, deletes: KeySet) -> None:
        self.schema_id = table.metadata.current_schema_id
        self.files_read = 0
        self.files_left_out = 0
        self._sides = (upserts, deletes)
        self._found: dict[str, tuple[type_positions, type_positions]] = {}

    def look_into(self, table: Table, files: LiveFiles, dead: DeadRows) -> dict[str, Hit]:
        """Find the live rows of the head that have our keys, by data file."""
        specs = table.metadata.specs()
        wanted: list[tuple[LiveFile, Sequence[pa.Table]]] = []
        for path, live in files.data.items():
            if path in self._found:
                continue
            keys = [side.in_reach(live.file, specs[live.file.spec_id]) for side in self._sides]
            if any(each.num_rows for each in keys):
                wanted.append((live, keys))
            else:
                self.files_left_out += 1
                self._found[path] = NO_POSITIONS, NO_POSITIONS
        for some in _batches(wanted):
            self._read(table, some)
        touched = [files.data[path] for path, found in self._found.items() if path in files.data and any(map(len, found))]
        dead.read_ahead([delete for live in touched for delete in files.deletes_of(live)], table.io)
        hits = {}
        for live in touched:
            gone = dead.of(live, files, table.io)
            replaced, deleted = (np.setdiff1d(each, gone, assume_unique=True) for each in self._found[live.path])
            if len(replaced) or len(deleted):
                hits[live.path] = Hit(np.union1d(replaced, deleted), len(replaced), len(deleted))
        return hits

    def _read(self, table: Table, wanted: Sequence[tuple[LiveFile, Sequence[pa.Table]]]) -> None:
        """Read the key columns of some files side by side, and look for the keys that each may hold."""
        first = self._sides[0]
        scan = ArrowScan(table.metadata, table.io, first.schema, AlwaysTrue())
        rows = scan.to_table([FileScanTask(live.file) for live, _ in wanted]).cast(first.rows.schema)
        begin = 0
        for live, keys in wanted:  # rows come in the order of the files and within them
            part = rows.slice(begin, live.file.record_count)
            begin += live.file.record_count
            replaced, deleted = (
                side.find(part, each) if each.num_rows else NO_POSITIONS for side, each in zip(self._sides, keys, strict=True)
            )
            self._found[live.path] = replaced, deleted
        self.files_read += len(wanted)


def _batches(
    wanted: Sequence[tuple[LiveFile, Sequence[pa.Table]]],
) -> Iterator[Sequence[tuple[LiveFile, Sequence[pa.Table]]]]:
    """Cut at so many rows as may be in memory together."""
    begin, rows = 0, 0
    for end, (live, _) in enumerate(wanted):
        if rows and rows + live.file.record_count > _ROWS_AT_ONCE:
            yield wanted[begin:end]
            begin, rows = end, 0
        rows += live.file.record_count
    if begin < len(wanted):
        yield wanted[begin:]
