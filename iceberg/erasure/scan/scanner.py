"""Looks into every file below a warehouse, reachable or not, and says what of a subject is in there.

Parquet comes first: it tells whose a name is, row by row, and by that the bounds in manifests are judged. What a file is,
its first bytes tell, not its name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from iceberg.erasure.needles import Needles
from iceberg.erasure.scan import avro_files, other_files, parquet_files
from iceberg.erasure.scan.avro_files import Neighbour
from iceberg.erasure.scan.traces import Findings, Whose
from iceberg.storage import Storage, StoredFile


@dataclass(frozen=True)
class Looked:
    """A file that was looked into."""

    path: str
    kind: str
    size: int
    sha256: str
    changed_at: datetime
    findings: Findings


@dataclass
class Scan:
    """All files of a place; `vanished` were deleted by somebody while we looked."""

    files: dict[str, Looked] = field(default_factory=dict)
    vanished: list[str] = field(default_factory=list)

    @property
    def traced(self) -> dict[str, Looked]:
        return {path: looked for path, looked in self.files.items() if looked.findings.traces}

    @property
    def unread(self) -> dict[str, Looked]:
        return {path: looked for path, looked in self.files.items() if looked.findings.unread}

    @property
    def bytes(self) -> int:
        return sum(looked.size for looked in self.files.values())


def scan_warehouse(
    storage: Storage,
    root: str,
    needles: Needles,
    whose: Whose,
    *,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> Scan:
    """Look into every file below the warehouse.

    Args:
        root: the warehouse's location.
        progress: called with files looked into and files in all.
    """
    scan = Scan()
    neighbours: dict[str, Neighbour] = {}
    ordered = sorted(_with_heads(storage, root, scan), key=lambda each: each[1] != parquet_files.MAGIC)
    for done, (file, _) in enumerate(ordered, start=1):
        try:
            data = storage.read(file.location)
        except FileNotFoundError:
            scan.vanished.append(file.location)
            continue
        kind, findings = look(data, needles, whose, neighbours)
        scan.files[file.location] = Looked(
            file.location, kind, len(data), hashlib.sha256(data).hexdigest(), file.modified_at, findings
        )
        if kind == "parquet":
            same_name = any(part.startswith("values of") for part in findings.others)
            neighbours[file.location] = Neighbour(same_name, max(findings.shared.values(), default=0), frozenset(findings.cuts))
        progress(done, len(ordered))
    return scan


def look(data: bytes, needles: Needles, whose: Whose, neighbours: dict[str, Neighbour]) -> tuple[str, Findings]:
    """Look into one file: its kind, and what was found."""
    if data.startswith(parquet_files.MAGIC):
        return "parquet", parquet_files.look(data, needles, whose)
    if data.startswith(avro_files.MAGIC):
        return "avro", avro_files.look(data, needles, neighbours)
    if data.startswith(other_files.PUFFIN):
        return "puffin", other_files.look_puffin(data, needles)
    if data.startswith(other_files.SQLITE):
        return "sqlite", other_files.look_sqlite_bytes(data, needles)
    findings = other_files.look_raw(data, needles)
    return "json" if any(layer.endswith("json") for layer in findings.layers) else "other", findings


def scan_files(paths: Iterable[Path], needles: Needles, whose: Whose) -> Scan:
    """Look into local files outside of the warehouse: logs, segments, databases."""
    scan = Scan()
    for path in paths:
        try:
            data = path.read_bytes()
            changed_at = datetime.fromtimestamp(path.stat().st_mtime, UTC)
        except OSError:
            scan.vanished.append(str(path))
            continue
        if data.startswith(other_files.SQLITE):
            kind, findings = "sqlite", other_files.look_sqlite(path, needles)
        elif path.suffix == ".log" and data[16:17] == b"\x02":
            kind, findings = "segment", other_files.look_segment(data, needles)
        else:
            kind, findings = look(data, needles, whose, {})
        scan.files[str(path)] = Looked(str(path), kind, len(data), hashlib.sha256(data).hexdigest(), changed_at, findings)
    return scan


def _with_heads(storage: Storage, root: str, scan: Scan) -> Iterator[tuple[StoredFile, bytes]]:
    for file in sorted(storage.files(root), key=lambda each: each.location):
        try:
            with storage.open(file.location) as stream:
                yield file, stream.read(4)
        except FileNotFoundError:
            scan.vanished.append(file.location)
