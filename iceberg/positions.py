"""Position deletes: which rows of a data file are dead, by their number in the file.

Each data file has at most one delete file of ours. When more of its rows die, a new delete file with the old and the new
positions takes the old one's place, as format version 3 demands of its deletion vectors; so what a scan pays for deletes is
bounded by the number of data files, not by the number of merges. Delete files of other engines may name rows of many data
files; they are read, and left in place.

Source: Iceberg table specification, "Position Delete Files".
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.io import FileIO
from pyiceberg.io.pyarrow import _read_deletes
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.partitioning import PartitionKey
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.typedef import Record
from pyiceberg.utils.concurrent import ExecutorFactory

from iceberg.live_files import LiveFile, LiveFiles

type_positions = npt.NDArray[np.int64]

NO_POSITIONS: type_positions = np.empty(0, np.int64)

# Reserved by the specification.
_PATH_ID, _POSITION_ID = 2147483546, 2147483545
_SCHEMA = pa.schema(
    [
        pa.field("file_path", pa.string(), nullable=False, metadata={"PARQUET:field_id": str(_PATH_ID)}),
        pa.field("pos", pa.int64(), nullable=False, metadata={"PARQUET:field_id": str(_POSITION_ID)}),
    ]
)


class DeadRows:
    """Knows the dead rows of data files. Delete files are immutable, so each is read once."""

    def __init__(self) -> None:
        self._known: dict[str, Mapping[str, type_positions]] = {}

    def of(self, data: LiveFile, files: LiveFiles, io: FileIO) -> type_positions:
        """The positions in a data file that are dead, ascending."""
        found = [self._read(delete.file, io).get(data.path, NO_POSITIONS) for delete in files.deletes_of(data)]
        return np.unique(np.concatenate(found)) if found else NO_POSITIONS

    def read_ahead(self, deletes: Sequence[LiveFile], io: FileIO) -> None:
        """Read delete files side by side that will be asked for."""
        missing = [delete.file for delete in deletes if delete.path not in self._known]
        list(ExecutorFactory.get_or_create().map(lambda file: self._read(file, io), missing))

    def _read(self, delete: DataFile, io: FileIO) -> Mapping[str, type_positions]:
        if delete.file_path not in self._known:
            by_path = _read_deletes(io, delete)
            self._known[delete.file_path] = {
                path: np.asarray(positions.to_numpy(), np.int64) for path, positions in by_path.items()
            }
        return self._known[delete.file_path]


def is_of_one_file(delete: DataFile) -> bool:
    """Whether a delete file names rows of a single data file, as ours do."""
    lower, upper = (delete.lower_bounds or {}).get(_PATH_ID), (delete.upper_bounds or {}).get(_PATH_ID)
    return lower is not None and lower == upper


def write_positions(table: Table, dead: Mapping[str, tuple[DataFile, type_positions]]) -> list[DataFile]:
    """Write one delete file for each data file, side by side.

    Args:
        table: gives location, codec and partitioning.
        dead: data file and all its dead positions, ascending and not empty, by the file's path.
    """
    write = _Writer(table)
    return list(ExecutorFactory.get_or_create().map(lambda each: write(*each), dead.values()))


class KnownPartition(PartitionKey):
    """A partition whose values are known already, as PyIceberg's writer wants it."""

    def __init__(self, metadata: TableMetadata, spec_id: int, partition: Record) -> None:
        super().__init__([], metadata.specs()[spec_id], metadata.schema())
        # The base is frozen and works the values out once, into the same place.
        self.__dict__["partition"] = partition


class _Writer:
    def __init__(self, table: Table) -> None:
        self._metadata = table.metadata
        self._io = table.io
        self._provider = table.location_provider()
        codec = table.metadata.properties.get("write.parquet.compression-codec", "zstd")
        self._codec = "none" if codec == "uncompressed" else codec

    def __call__(self, data: DataFile, positions: type_positions) -> DataFile:
        key = KnownPartition(self._metadata, data.spec_id, data.partition) if len(data.partition) else None
        path = self._provider.new_data_location(f"{uuid.uuid4()}-deletes.parquet", key)
        rows = pa.table([pa.repeat(pa.scalar(data.file_path), len(positions)), pa.array(positions)], schema=_SCHEMA)
        output = self._io.new_output(path)
        with output.create() as stream:
            pq.write_table(rows, stream, compression=self._codec)
        name = data.file_path.encode()
        low, high = (int(position).to_bytes(8, "little", signed=True) for position in (positions[0], positions[-1]))
        return _delete_file(
            data, path, len(positions), len(output), {_PATH_ID: name, _POSITION_ID: low}, {_PATH_ID: name, _POSITION_ID: high}
        )


def _delete_file(
    data: DataFile, path: str, rows: int, size_bytes: int, lower: Mapping[int, bytes], upper: Mapping[int, bytes]
) -> DataFile:
    file = DataFile.from_args(
        content=DataFileContent.POSITION_DELETES,
        file_path=path,
        file_format=FileFormat.PARQUET,
        partition=data.partition,
        record_count=rows,
        file_size_in_bytes=size_bytes,
        column_sizes={},
        value_counts={_PATH_ID: rows, _POSITION_ID: rows},
        null_value_counts={_PATH_ID: 0, _POSITION_ID: 0},
        nan_value_counts={},
        lower_bounds=dict(lower),
        upper_bounds=dict(upper),
        split_offsets=None,
        equality_ids=None,
        sort_order_id=None,
        key_metadata=None,
    )
    file.spec_id = data.spec_id
    return file
