"""Two readers that know nothing of us: PyIceberg's own catalog and scan, and DuckDB on the files that the manifests name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.manifest import DataFileContent
from pyiceberg.table import Table


def plain_table(database: Path, identifier: str) -> Table:
    """The table as PyIceberg's own catalog has it."""
    return SqlCatalog("headrace", uri=f"sqlite:///{database}").load_table(identifier)


def read_by_pyiceberg(table: Table, columns: Sequence[str], snapshot_id: int | None = None) -> list[tuple[Any, ...]]:
    """All rows by PyIceberg's scan, sorted."""
    rows = table.scan(selected_fields=tuple(columns), snapshot_id=snapshot_id).to_arrow().select(columns).to_pylist()
    return sorted(tuple(row[name] for name in columns) for row in rows)


def read_by_duckdb(table: Table, columns: Sequence[str], snapshot_id: int | None = None) -> list[tuple[Any, ...]]:
    """All rows by DuckDB: the data files less the positions in the delete files, sorted."""
    data, deletes = files(table, snapshot_id)
    if not data:
        return []
    parameters: dict[str, object] = {"data": data}
    names = ", ".join(f'"{name}"' for name in columns)
    query = f"SELECT {names} FROM read_parquet($data, filename = true, file_row_number = true) AS d"
    if deletes:
        query += (
            " ANTI JOIN (SELECT replace(file_path, 'file://', '') AS file_path, pos FROM read_parquet($deletes)) AS x"
            " ON d.filename = x.file_path AND d.file_row_number = x.pos"
        )
        parameters["deletes"] = deletes
    return sorted(duckdb.execute(query, parameters).fetchall())


def files(table: Table, snapshot_id: int | None = None) -> tuple[list[str], list[str]]:
    """Paths of the data files and of the position delete files of a snapshot, by default of the head."""
    snapshot = table.snapshot_by_id(snapshot_id) if snapshot_id is not None else table.current_snapshot()
    data, deletes = [], []
    for manifest in snapshot.manifests(table.io) if snapshot is not None else ():
        for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True):
            into = data if entry.data_file.content == DataFileContent.DATA else deletes
            into.append(entry.data_file.file_path.removeprefix("file://"))
    return data, deletes
