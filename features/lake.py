"""Tables of the lake as relations of DuckDB, pinned to a snapshot and pruned.

Where a snapshot's files are plain Parquet on this machine, DuckDB reads them itself, columns matched by Iceberg's field ids (so a
column that was added, renamed or widened since is read right). Otherwise (object store, row-level deletes) PyIceberg reads them
and DuckDB gets Arrow batches.

```
  catalog -> snapshot -> manifests: which files can hold rows of this time and tenant -> files, or Arrow -> a view in DuckDB
```
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import duckdb
import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.expressions import BooleanExpression
from pyiceberg.io.pyarrow import ArrowScan, schema_to_pyarrow
from pyiceberg.schema import Schema
from pyiceberg.table import FileScanTask, Table
from pyiceberg.types import (
    BooleanType,
    DateType,
    DoubleType,
    FloatType,
    IcebergType,
    IntegerType,
    LongType,
    StringType,
    TimestampType,
    TimestamptzType,
)

from core.errors import InvalidInputError, NotFoundError
from iceberg.history import resolve_snapshot
from iceberg.loading import must_load
from iceberg.predicates import all_of

_NATIVE: dict[type[IcebergType], str] = {
    BooleanType: "BOOLEAN",
    IntegerType: "INTEGER",
    LongType: "BIGINT",
    FloatType: "FLOAT",
    DoubleType: "DOUBLE",
    StringType: "VARCHAR",
    DateType: "DATE",
    TimestampType: "TIMESTAMP",
    TimestamptzType: "TIMESTAMPTZ",
}


@dataclass(frozen=True)
class Pin:
    """A table at one of its snapshots; None where it was still empty."""

    identifier: str
    snapshot_id: int | None


def connect() -> duckdb.DuckDBPyConnection:
    """A DuckDB in memory that keeps time in UTC."""
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    return connection


def pin(catalog: Catalog, identifier: str, *, at: datetime | None = None, snapshot_id: int | None = None) -> Pin:
    """The snapshot that is, or was, current.

    Raises:
        NotFoundError: there is no such table or snapshot, or the moment lies before the history that is kept.
    """
    return Pin(identifier, resolve_snapshot(catalog, identifier, as_of=at, snapshot_id=snapshot_id))


def columns(catalog: Catalog, pinned: Pin) -> list[str]:
    """The columns of a table as they were at the snapshot."""
    return [field.name for field in _schema(must_load(catalog, pinned.identifier), pinned).fields]


def register(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    catalog: Catalog,
    pinned: Pin,
    wanted: Sequence[str],
    *where: BooleanExpression,
) -> int:
    """Make the view `name` of some columns of a table.

    Args:
        where: leaves out files that cannot hold matching rows; the rows themselves are not filtered.

    Returns:
        How many rows the files hold that are left.

    Raises:
        InvalidInputError: there is no such column.
        NotFoundError: there is no such table or snapshot.
    """
    table = must_load(catalog, pinned.identifier)
    schema = _schema(table, pinned)
    missing = [each for each in wanted if each not in {field.name for field in schema.fields}]
    if missing:
        raise InvalidInputError(
            f"there is no column `{missing[0]}`",
            where=pinned.identifier,
            fix=f"It has {', '.join(field.name for field in schema.fields)}.",
        )
    selected = schema.select(*wanted)
    if pinned.snapshot_id is None:
        connection.register(name, schema_to_pyarrow(selected, include_field_ids=False).empty_table())
        return 0
    scan = table.scan(row_filter=all_of(*where), selected_fields=tuple(wanted), snapshot_id=pinned.snapshot_id)
    tasks = list(scan.plan_files())
    paths = _local_paths(tasks)
    if paths is None or any(type(field.field_type) not in _NATIVE for field in selected.fields):
        reader = ArrowScan(table.metadata, table.io, selected, all_of()).to_record_batches(tasks)
        arrow = schema_to_pyarrow(selected, include_field_ids=False)
        connection.register(name, pa.Table.from_batches([_cast(batch, arrow) for batch in reader], arrow))
    elif not paths:
        connection.register(name, schema_to_pyarrow(selected, include_field_ids=False).empty_table())
    else:
        fields = ", ".join(
            f"{field.field_id}: {{name: {_text(field.name)}, type: '{_NATIVE[type(field.field_type)]}', default_value: NULL}}"
            for field in selected.fields
        )
        files = ", ".join(_text(path) for path in paths)
        order = ", ".join(quote(each) for each in wanted)
        connection.execute(
            f"CREATE OR REPLACE TEMP VIEW {quote(name)} AS SELECT {order} FROM read_parquet([{files}], schema = MAP {{{fields}}})"
        )
    return sum(task.file.record_count for task in tasks)


def quote(name: str) -> str:
    """A name as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'


# -- below: called by the above


def _schema(table: Table, pinned: Pin) -> Schema:
    if pinned.snapshot_id is None:
        return table.schema()
    snapshot = table.snapshot_by_id(pinned.snapshot_id)
    if snapshot is None:
        raise NotFoundError(
            f"snapshot `{pinned.snapshot_id}` does not exist", where=pinned.identifier, fix="It may have expired."
        )
    return table.schemas()[snapshot.schema_id] if snapshot.schema_id is not None else table.schema()


def _local_paths(tasks: Sequence[FileScanTask]) -> list[str] | None:
    """The files, if all are plain Parquet on this machine."""
    paths = []
    for task in tasks:
        path = task.file.file_path.removeprefix("file://")  # written unquoted, see `iceberg.catalog.warehouse_location`
        if task.delete_files or "://" in path or task.file.file_format.value != "PARQUET":
            return None
        paths.append(path)
        if not Path(paths[-1]).is_file():
            return None  # PyIceberg's error says which file of which table is missing
    return paths


def _cast(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([batch.column(f.name).cast(f.type) for f in schema], schema=schema)


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
