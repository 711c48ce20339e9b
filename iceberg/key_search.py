"""Finds the rows of a table that have certain keys, by reading key columns only, and of each data file once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from pyiceberg.expressions import AlwaysTrue
from pyiceberg.io.pyarrow import ArrowScan
from pyiceberg.table import FileScanTask, Table

from iceberg.keys import KeySet
from iceberg.live_files import LiveFile, LiveFiles
from iceberg.positions import NO_POSITIONS, DeadRows, type_positions


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
        for path, live in files.data.items():
            if path not in self._found:
                wanted = tuple(keys.in_reach(live.file, specs[live.file.spec_id]) for keys in self._sides)
                self._found[path] = self._read(table, live, wanted)
        touched = [files.data[path] for path, found in self._found.items() if path in files.data and any(map(len, found))]
        dead.read_ahead([delete for live in touched for delete in files.deletes_of(live)], table.io)
        hits = {}
        for live in touched:
            gone = dead.of(live, files, table.io)
            replaced, deleted = (np.setdiff1d(each, gone, assume_unique=True) for each in self._found[live.path])
            if len(replaced) or len(deleted):
                hits[live.path] = Hit(np.union1d(replaced, deleted), len(replaced), len(deleted))
        return hits

    def _read(self, table: Table, live: LiveFile, wanted: Sequence[pa.Table]) -> tuple[type_positions, type_positions]:
        if not any(keys.num_rows for keys in wanted):
            self.files_left_out += 1
            return NO_POSITIONS, NO_POSITIONS
        self.files_read += 1
        side = self._sides[0]
        scan = ArrowScan(table.metadata, table.io, side.schema, AlwaysTrue())
        rows = scan.to_table([FileScanTask(live.file)]).cast(side.rows.schema)
        replaced, deleted = (
            keys.find(rows, each) if each.num_rows else NO_POSITIONS for keys, each in zip(self._sides, wanted, strict=True)
        )
        return replaced, deleted
