"""Labels, also called the spine: which entities, at which times. From CSV, Parquet, an Iceberg table, or Arrow."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa
from pyiceberg.catalog import Catalog

from core.errors import InvalidInputError, NotFoundError
from features import lake
from features.lake import Pin, quote
from features.point_in_time import ROW

SPINE = "labels"


@dataclass(frozen=True)
class Labels:
    """Where labels came from.

    Attributes:
        source: the file's path or the table's name; empty for Arrow.
        sha256: of a file's bytes.
        pin: of a table.
    """

    source: str = ""
    sha256: str | None = None
    pin: Pin | None = None


def load(
    connection: duckdb.DuckDBPyConnection,
    source: str | pa.Table,
    time: str,
    keys: Sequence[str],
    *,
    catalog: Catalog | None = None,
    pinned: Pin | None = None,
) -> Labels:
    """Make the table `labels` with the columns of the source and `_row`, the number of the label.

    A time without zone is taken as UTC.

    Args:
        source: `FILE.csv`, `FILE.parquet`, a table of the lake as `lake.NAME`, or Arrow.
        time: the column with the label's time.
        keys: columns that must be there.
        pinned: the snapshot of a table; by default the current one.

    Raises:
        InvalidInputError: the source lacks a column, a time is no time or NULL, or the file cannot be read.
        NotFoundError: there is no such file or table.
    """
    told, relation = _relation(connection, source, catalog, pinned)
    shown = told.source or "labels"
    described = {name: kind for name, kind, *_ in connection.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall()}
    for needed in (*keys, time):
        if needed not in described:
            raise InvalidInputError(
                f"the labels have no column `{needed}`", where=shown, fix=f"They have {', '.join(described)}; see --time."
            )
    if ROW in described:
        raise InvalidInputError(f"the labels have a column `{ROW}`, which is ours", where=shown, fix="Rename it.")
    if not described[time].startswith("TIMESTAMP"):
        raise InvalidInputError(
            f"column `{time}` is {described[time]}, not a time", where=shown, fix="Write 2026-01-31T08:00:00Z."
        )
    other = [
        f"{quote(name)}::TIMESTAMPTZ AS {quote(name)}" if name == time
        else f"{quote(name)}::VARCHAR AS {quote(name)}" if name in keys and kind in ("BIGINT", "INTEGER", "HUGEINT")
        else quote(name)
        for name, kind in described.items()
    ]  # fmt: skip
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE {SPINE} AS SELECT row_number() OVER () AS {ROW}, {', '.join(other)} FROM {relation}"
    )
    ((empty,),) = connection.execute(f"SELECT min({ROW}) FROM {SPINE} WHERE {quote(time)} IS NULL").fetchall()
    if empty is not None:
        raise InvalidInputError(f"label {empty} has no `{time}`", where=shown, fix="Each label needs its time.")
    return told


# -- below: called by the above


def _relation(
    connection: duckdb.DuckDBPyConnection, source: str | pa.Table, catalog: Catalog | None, pinned: Pin | None
) -> tuple[Labels, str]:
    if isinstance(source, pa.Table):
        connection.register("labels_given", source)
        return Labels(), "labels_given"
    if source.startswith("lake."):
        if catalog is None:
            raise InvalidInputError("no catalog is given", where=source)
        pin = pinned or lake.pin(catalog, source)
        lake.register(connection, "labels_given", catalog, pin, lake.columns(catalog, pin))
        return Labels(source, pin=pin), "labels_given"
    file = Path(source)
    if not file.is_file():
        raise NotFoundError(f"there is no file `{source}`", fix="Labels are a CSV or Parquet file, or a table `lake.NAME`.")
    readers = {".csv": "read_csv", ".parquet": "read_parquet"}
    if file.suffix not in readers:
        raise InvalidInputError(f"`{file.suffix}` is no kind of labels", where=source, fix="Use .csv or .parquet.")
    told = Labels(source, hashlib.sha256(file.read_bytes()).hexdigest())
    path = "'" + str(file).replace("'", "''") + "'"
    relation = f"{readers[file.suffix]}({path})"
    try:
        connection.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall()
    except duckdb.Error as error:
        raise InvalidInputError(f"the labels cannot be read: {str(error).splitlines()[0]}", where=source) from error
    return told, relation
