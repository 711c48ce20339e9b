"""Looks for an erased subject where an erasure of the lake does not reach, and says honestly what that proves.

    clean          decoded whole; nothing was found
    dirty          found
    not provable   nothing was found in what can be read, but a part cannot be read
    absent         there is no such place here

Nothing here is changed: the stream database's state, the broker's segments and the logs have lives of their own. What to do about
each is said with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from core.settings import Settings
from iceberg.catalog import sqlite_path
from iceberg.erasure.needles import Needles
from iceberg.erasure.scan.parquet_files import joined
from iceberg.erasure.scan.scanner import Scan, scan_files
from iceberg.erasure.scan.traces import Whose


@dataclass(frozen=True)
class Place:
    """What was found at one place.

    Attributes:
        traces: path and part -> hits.
        next: what takes traces away from here.
    """

    place: str
    status: str
    scope: str
    files: int
    bytes: int
    traces: Mapping[str, int]
    detail: str
    next: str


def look_outside(settings: Settings, needles: Needles, whose: Whose) -> Sequence[dict[str, object]]:
    """Look into everything in the data folder that is not the warehouse."""
    data_dir = settings.data_dir
    looks: tuple[Callable[[Needles, Whose], Place], ...] = (
        partial(_engine, data_dir / "engine"),
        partial(_segments, data_dir / "broker"),
        partial(_catalog, settings),
        partial(_logs, data_dir / "logs"),
        partial(_rest, settings),
    )
    return [asdict(look(needles, whose)) for look in looks]


def _engine(folder: Path, needles: Needles, whose: Whose) -> Place:
    """DuckDB packs text by dictionaries and FSST, so raw bytes prove nothing; live rows are read when nobody has the file open."""
    scan = scan_files(_below(folder), needles, whose)
    database = folder / "engine.duckdb"
    traces = _traces(scan)
    detail = "raw bytes of the file with its free blocks, and of the write-ahead log"
    if database.exists():
        rows, said = _live_rows(database, needles, whose)
        traces |= rows
        detail += f"; live rows, the quarantine (`r1`) among them: {said}"
    return Place(
        "engine state and quarantine",
        "absent" if not scan.files else "dirty" if traces else "not provable",
        "out of scope of this erasure",
        len(scan.files),
        scan.bytes,
        traces,
        detail + "; text in free blocks may be packed so that it cannot be found",
        "State goes with its windows and retention; at once by removing the folder `engine` of a stopped platform after the topics were "
        "purged: sources are then read again from the topics.",
    )


def _live_rows(database: Path, needles: Needles, whose: Whose) -> tuple[dict[str, int], str]:
    found: dict[str, int] = {}
    try:
        with duckdb.connect(str(database), read_only=True) as connection:
            tables = connection.execute(
                "SELECT schema_name, table_name FROM duckdb_tables() WHERE NOT internal ORDER BY ALL"
            ).fetchall()
            for schema, table in tables:
                quoted = ".".join('"' + part.replace('"', '""') + '"' for part in (schema, table))
                hits = sum(_hits(batch.column(0), needles, whose) for batch in _row_texts(connection, quoted))
                if hits:
                    found[f"{schema}.{table}"] = hits
    except duckdb.Error as error:
        return {}, f"not read ({str(error).splitlines()[0]})"
    return found, "read"


def _row_texts(connection: duckdb.DuckDBPyConnection, table: str) -> Iterable[pa.RecordBatch]:
    """Each row as one text, all columns."""
    reader: pa.RecordBatchReader = connection.sql(f"SELECT t::VARCHAR FROM {table} AS t").to_arrow_reader(50_000)
    yield from reader


def _hits(rows: pa.Array, needles: Needles, whose: Whose) -> int:
    """Hits in rows; of the name only in those that name the tenant."""
    offsets, content = joined(rows)
    tenant, count = (whose.tenant or "").encode(), 0
    for hit in needles.in_text(content):
        row = int(np.searchsorted(offsets, hit.offset, side="right")) - 1
        end = int(offsets[row + 1]) if row + 1 < len(offsets) else len(content)
        count += hit.needle != needles.name_bytes or tenant in content[int(offsets[row]) : end]
    return count


def _segments(folder: Path, needles: Needles, whose: Whose) -> Place:
    scan = scan_files(_below(folder), needles, whose)
    return Place(
        "broker segments",
        _status(scan),
        "out of scope of this erasure",
        len(scan.files),
        scan.bytes,
        _traces(scan),
        "every segment, record batches of any codec unpacked; topics `quarantine.*` are among them",
        "Records go with their topic's retention; at once by DeleteRecords up to the last record of the subject, or by a tombstone where "
        "the topic is compacted.",
    )


def _catalog(settings: Settings, needles: Needles, whose: Whose) -> Place:
    if settings.catalog_type != "jdbc":
        return Place(
            "catalog",
            "not provable",
            "out of scope of this erasure",
            0,
            0,
            {},
            "a REST catalog keeps its own database",
            "Ask its operator.",
        )
    path = sqlite_path(settings.resolved_catalog_uri)
    scan = scan_files([path] if path.exists() else [], needles, whose)
    return Place(
        "catalog file",
        _status(scan),
        "searched",
        len(scan.files),
        scan.bytes,
        _traces(scan),
        "rows, and all bytes of the file, its free pages and its write-ahead log",
        "It holds names of tables and paths of metadata. `VACUUM` and a checkpoint of the log clear free pages.",
    )


def _logs(folder: Path, needles: Needles, whose: Whose) -> Place:
    scan = scan_files(_below(folder), needles, whose)
    return Place(
        "logs",
        _status(scan),
        "out of scope of this erasure",
        len(scan.files),
        scan.bytes,
        _traces(scan),
        "log files of the processes",
        "Logs go with their rotation; remove the files that are named.",
    )


def _rest(settings: Settings, needles: Needles, whose: Whose) -> Place:
    data_dir = settings.data_dir
    known = [data_dir / name for name in ("engine", "broker", "logs", "erasures")]
    if settings.catalog_type == "jdbc":
        known.append(sqlite_path(settings.resolved_catalog_uri))
    known.append(Path(settings.resolved_warehouse))
    files = [
        path
        for path in _below(data_dir)
        if not any(path == each or each in path.parents or path.name.startswith(f"{each.name}-") for each in known)
    ]
    scan = scan_files(files, needles, whose)
    return Place(
        "other files in the data folder",
        _status(scan),
        "out of scope of this erasure",
        len(scan.files),
        scan.bytes,
        _traces(scan),
        "reports, settings; journals and certificates of erasures hold the name on purpose and are left out",
        "Remove the files that are named.",
    )


def _below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file()) if folder.exists() else []


def _status(scan: Scan) -> str:
    if not scan.files:
        return "absent"
    return "dirty" if scan.traced else "not provable" if scan.unread else "clean"


def _traces(scan: Scan) -> dict[str, int]:
    return {f"{path}: {part}": hits for path, looked in scan.traced.items() for part, hits in looked.findings.traces.items()}
