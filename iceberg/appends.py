"""Writes rows to data files that no snapshot refers to yet, and removes such files again.

rows --> data files (one a partition) --> `iceberg.staging`: manifest --> manifest list --> the catalog
"""

from __future__ import annotations

import contextlib
import logging
import uuid
from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa
from pyiceberg.io import FileIO
from pyiceberg.io.pyarrow import _dataframe_to_data_files
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class WrittenRows:
    """Data files that hold some rows, and the layout they were written for. No snapshot refers to them yet."""

    files: tuple[DataFile, ...]
    schema_id: int
    spec_id: int

    def fits(self, metadata: TableMetadata) -> bool:
        """Whether the table still has the schema and the partitioning that the files were written for."""
        return self.schema_id == metadata.current_schema_id and self.spec_id == metadata.default_spec_id

    @property
    def paths(self) -> tuple[str, ...]:
        return tuple(file.file_path for file in self.files)


NOTHING = WrittenRows((), -1, -1)
"""No rows."""


def write_rows(table: Table, rows: pa.Table) -> WrittenRows:
    """Write rows that have the table's schema to new data files; an error leaves no file that is known to us."""
    metadata = table.metadata
    files = tuple(_dataframe_to_data_files(metadata, rows, table.io, uuid.uuid4())) if rows.num_rows else ()
    for file in files:
        file.spec_id = metadata.default_spec_id
    return WrittenRows(files, metadata.current_schema_id, metadata.default_spec_id)


def remove_files(io: FileIO, paths: Iterable[str]) -> None:
    """Remove files that no snapshot refers to; what cannot be removed is left to maintenance."""
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            try:
                io.delete(path)
            except OSError:
                logger.warning("uncommitted file not removed", extra={"file": path}, exc_info=True)
