"""Is each data and delete file there, of the size, rows and columns that its manifest says?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.conversions import from_bytes
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.types import DateType, IntegerType, LongType, PrimitiveType, TimestampType, TimestamptzType

from iceberg.checks.findings import Finding, Report
from iceberg.checks.manifests import type_content
from iceberg.storage import Storage, type_progress

_FIX = "Restore it from a replica of the warehouse; or set the table back to a snapshot that does not need it."
_AT_ONCE = 8
_FIELD_ID = b"PARQUET:field_id"

# The types whose statistics compare like their Arrow values.
_COMPARABLE = (DateType, IntegerType, LongType, TimestampType, TimestamptzType)

_ARROW_KINDS: Mapping[str, tuple[Any, ...]] = {  # what Parquet may hold for a type of the table, promotions included
    "boolean": (pa.types.is_boolean,),
    "int": (pa.types.is_int32,),
    "long": (pa.types.is_int64, pa.types.is_int32),
    "float": (pa.types.is_float32,),
    "double": (pa.types.is_float64, pa.types.is_float32),
    "date": (pa.types.is_date,),
    "time": (pa.types.is_time,),
    "timestamp": (pa.types.is_timestamp, pa.types.is_date),
    "timestamptz": (pa.types.is_timestamp,),
    "string": (pa.types.is_string, pa.types.is_large_string, pa.types.is_dictionary),
    "binary": (pa.types.is_binary, pa.types.is_large_binary),
}


def check_files(
    table: Table,
    name: str,
    content: type_content,
    listed: Mapping[str, int],
    storage: Storage,
    report: Report,
    progress: type_progress,
) -> Iterator[Finding]:
    """Check the files of all kept snapshots; with `report.deep`, read all their rows."""
    schema = _all_fields(table)

    def look(entry: tuple[str, DataFile]) -> tuple[list[Finding], int]:
        location, file = entry
        return _check(name, location, file, listed.get(location), schema, storage, deep=report.deep)

    entries = sorted(content.items())
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for done, (found, rows) in enumerate(pool.map(look, entries), start=1):
            report.files += 1
            report.rows += rows
            progress(f"files of {name}", done, len(entries))
            yield from found


def _check(
    name: str, location: str, file: DataFile, size: int | None, fields: Mapping[int, set[str]], storage: Storage, *, deep: bool
) -> tuple[list[Finding], int]:
    kind = "data" if file.content == DataFileContent.DATA else "delete"

    def wrong(problem: str, what: str) -> tuple[list[Finding], int]:
        return [Finding(name, f"{kind}-{problem}", location, what, _FIX)], 0

    size = storage.size_bytes(location) if size is None else size
    if size is None:
        return wrong("missing", f"the {kind} file does not exist")
    if size != file.file_size_in_bytes:
        return wrong("size", f"the {kind} file has {size} bytes, its manifest says {file.file_size_in_bytes}")
    if file.file_format != FileFormat.PARQUET:
        return [], file.record_count
    try:
        with storage.open(location) as stream, pq.ParquetFile(stream) as parquet:
            if parquet.metadata.num_rows != file.record_count:
                return wrong(
                    "rows", f"the {kind} file has {parquet.metadata.num_rows} rows, its manifest says {file.record_count}"
                )
            found = _columns(name, location, parquet.schema_arrow, fields) if kind == "data" else []
            if deep:
                found += _read(name, location, file, parquet, fields)
    except (pa.ArrowException, OSError, ValueError) as error:
        return wrong("unreadable", f"the {kind} file is damaged: {str(error).splitlines()[0]}")
    return found, file.record_count


def _columns(name: str, location: str, schema: pa.Schema, fields: Mapping[int, set[str]]) -> list[Finding]:
    """Columns are known by field id; each must have, or have had, the type that the file gives it."""
    found = []
    for field in schema:
        field_id = int((field.metadata or {}).get(_FIELD_ID, b"-1"))
        types = fields.get(field_id)
        if types is None:
            what = f"column `{field.name}` has the field id {field_id}, which the table never had"
        elif any(kind(field.type) for type_ in types for kind in _ARROW_KINDS.get(type_, (lambda _: True,))):
            continue
        else:
            what = f"column `{field.name}` is of type `{field.type}`, in the table it is or was {' or '.join(sorted(types))}"
        found.append(Finding(name, "data-schema", location, what, _FIX))
    return found


def _read(name: str, location: str, file: DataFile, parquet: pq.ParquetFile, fields: Mapping[int, set[str]]) -> list[Finding]:
    """Decode every page, count, and compare with the bounds by which readers skip files."""
    ids = {field.name: int((field.metadata or {}).get(_FIELD_ID, b"-1")) for field in parquet.schema_arrow}
    bounds = {column: _bounds(file, field_id, fields.get(field_id, set())) for column, field_id in ids.items()}
    rows, outside = 0, set()
    for batch in parquet.iter_batches():
        rows += batch.num_rows
        for column, (low, high) in bounds.items():
            if low is None and high is None:
                continue
            extremes = pc.min_max(batch.column(column))
            least, most = _plain(extremes["min"]), _plain(extremes["max"])
            if least is not None and ((low is not None and least < low) or (high is not None and most > high)):
                outside.add(column)
    found = [
        Finding(name, "data-bounds", location, f"column `{column}` has values outside of the bounds in its manifest", _FIX)
        for column in sorted(outside)
    ]
    if rows != file.record_count:
        found.append(
            Finding(name, "data-rows", location, f"{rows} rows were read, its manifest says {file.record_count}", _FIX)
        )
    return found


def _bounds(file: DataFile, field_id: int, types: set[str]) -> tuple[Any, Any]:
    if file.content != DataFileContent.DATA or len(types) != 1:
        return None, None
    type_ = next((kind() for kind in _COMPARABLE if str(kind()) in types), None)
    if type_ is None:
        return None, None
    low, high = (file.lower_bounds or {}).get(field_id), (file.upper_bounds or {}).get(field_id)
    return (from_bytes(type_, low) if low else None), (from_bytes(type_, high) if high else None)


def _plain(scalar: pa.Scalar) -> Any:
    """The value as Iceberg's statistics have it: times as numbers since the epoch."""
    if not scalar.is_valid:
        return None
    return scalar.value if hasattr(scalar, "value") else scalar.as_py()


def _all_fields(table: Table) -> dict[int, set[str]]:
    """Every top-level field id that the table has or had, with the types it has or had."""
    found: dict[int, set[str]] = {}
    schemas: list[Schema] = list(table.metadata.schemas)
    for schema in schemas:
        for field in schema.fields:
            kind = str(field.field_type) if isinstance(field.field_type, PrimitiveType) else "nested"
            found.setdefault(field.field_id, set()).add(kind)
    return found
