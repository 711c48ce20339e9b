"""Rewrites a group of data files into fewer, and knows afterwards where each row has come to lie.

    a.parquet  0 1 2 3        sorted,           x.parquet  a1 b0 a3       where:  a1 -> (x, 0)  b0 -> (x, 1)
    b.parquet  0 1            dead left out     y.parquet  a0 ...                 a0 -> (y, 0)  a2 -> none, it was dead

So when rows of `a` die while `x` is being written, the same rows can be marked as dead in `x`: a compaction need not be done
again because somebody has deleted, and cannot bring back what was deleted.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from pyiceberg.expressions import AlwaysTrue
from pyiceberg.io import FileIO
from pyiceberg.io.pyarrow import ArrowScan, pyarrow_to_schema, schema_to_pyarrow, write_file
from pyiceberg.manifest import DataFile
from pyiceberg.table import FileScanTask, Table, WriteTask

from iceberg.appends import WrittenRows, remove_files
from iceberg.compaction_plan import Group
from iceberg.live_files import LiveFiles
from iceberg.positions import DeadRows, KnownPartition, type_positions
from iceberg.rows import sort_indices


@dataclass(frozen=True)
class Rewritten:
    """A group and the files that hold its live rows; no snapshot refers to them yet.

    Attributes:
        group: what was rewritten.
        files: the new data files; none where no row was alive.
        starts: the number of the first row of each new file, and the number of all rows.
        row_of: for each old file the new number of each of its rows; -1 for a row that was dead.
        schema_id: the schema that the files were written for.
    """

    group: Group
    files: tuple[DataFile, ...]
    starts: type_positions
    row_of: Mapping[str, type_positions]
    schema_id: int

    @property
    def written(self) -> WrittenRows:
        return WrittenRows(self.files, self.schema_id, self.group.spec_id)

    def died_meanwhile(
        self, files: LiveFiles, dead: DeadRows, io: FileIO, *, gone_is_dead: bool
    ) -> dict[str, type_positions] | None:
        """The rows of the new files that are dead in the old ones by now, by new file.

        Args:
            gone_is_dead: an old file that has left the table did so because its last row died, and for no other reason.

        Returns:
            None where an old file has left for another reason, or half of the rows are dead: the new files are of no use.
        """
        found = []
        for path, row_of in self.row_of.items():
            live = files.data.get(path)
            if live is None and not gone_is_dead:
                return None
            rows = row_of if live is None else row_of[dead.of(live, files, io)]
            found.append(rows[rows >= 0])
        rows = np.sort(np.concatenate(found))
        if len(rows) > self.starts[-1] / 2:
            return None
        places = np.searchsorted(self.starts, rows, side="right") - 1
        return {
            self.files[place].file_path: rows[places == place] - self.starts[place] for place in np.unique(places) if len(rows)
        }

    def remove(self, io: FileIO) -> None:
        """Remove the new files, which never came into the table."""
        remove_files(io, [file.file_path for file in self.files])


def rewrite(table: Table, group: Group, files: LiveFiles, dead: DeadRows, target_bytes: int) -> Rewritten:
    """Write the live rows of a group, sorted as the table asks for, to files of about the target size."""
    metadata = table.metadata
    scan = ArrowScan(metadata, table.io, table.schema(), AlwaysTrue())
    schema = schema_to_pyarrow(table.schema(), include_field_ids=False)
    parts, alive = [], []
    for candidate in group.files:
        rows = scan.to_table([FileScanTask(candidate.live.file)]).cast(schema)
        keep = np.setdiff1d(np.arange(rows.num_rows), dead.of(candidate.live, files, table.io), assume_unique=True)
        parts.append(rows if len(keep) == rows.num_rows else rows.take(pa.array(keep)))
        alive.append(keep)
    joined = pa.concat_tables(parts)
    order = sort_indices(table, joined)
    if order is not None:
        joined = joined.take(order)
    # The number that each live row has got, in the order in which they were read.
    new_number = np.arange(joined.num_rows)
    if order is not None:
        new_number = np.empty(joined.num_rows, np.int64)
        new_number[order.to_numpy()] = np.arange(joined.num_rows)
    row_of, begin = {}, 0
    for candidate, keep in zip(group.files, alive, strict=True):
        numbers = np.full(candidate.live.file.record_count, -1, np.int64)
        numbers[keep] = new_number[begin : begin + len(keep)]
        row_of[candidate.live.path] = numbers
        begin += len(keep)
    count = min(group.files_after(target_bytes), joined.num_rows)
    starts = np.linspace(0, joined.num_rows, count + 1).astype(np.int64) if count else np.zeros(1, np.int64)
    made = tuple(write_file(table.io, metadata, _tasks(table, group, joined, starts)))
    for file in made:
        file.spec_id = group.spec_id
    return Rewritten(group, made, starts, row_of, metadata.current_schema_id)


def _tasks(table: Table, group: Group, rows: pa.Table, starts: type_positions) -> Iterator[WriteTask]:
    metadata = table.metadata
    schema = pyarrow_to_schema(rows.schema, name_mapping=metadata.schema().name_mapping, format_version=metadata.format_version)
    key = KnownPartition(metadata, group.spec_id, group.partition) if len(group.partition) else None
    write = uuid.uuid4()
    for number, (begin, end) in enumerate(itertools.pairwise(starts)):
        batches = rows.slice(begin, end - begin).to_batches()
        yield WriteTask(write_uuid=write, task_id=number, schema=schema, record_batches=batches, partition_key=key)
