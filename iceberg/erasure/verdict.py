"""What a search says: in figures, file by file, and whether what was found was left behind or came later."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from pyiceberg.catalog import Catalog

from iceberg.erasure.reach import Reach
from iceberg.erasure.scan.scanner import Looked, Scan
from iceberg.loading import must_load, table_names


def judge(
    catalog: Catalog,
    scan: Scan,
    notes: Mapping[str, Mapping[str, Any]],
    started_at: datetime,
    in_flight: timedelta,
) -> dict[str, Any]:
    """Tell traces that are left from those that came later, by the snapshots that brought them."""
    reach = Reach()
    newer: set[str] = set()
    known: set[str] = set()
    for name in table_names(catalog):
        table = must_load(catalog, name)
        known |= reach.everything(table)
        newer |= reach.newer_files(table, int(notes[name]["sequence_number"]) if name in notes else 0)
    left: list[dict[str, Any]] = []
    later: list[dict[str, Any]] = []
    young = started_at - in_flight
    for path, looked in scan.traced.items():
        is_later = path in newer or (path not in known and is_a_writers(looked) and looked.changed_at > young)
        (later if is_later else left).append(entry_of(looked))
    unread = {path: looked.findings.unread for path, looked in scan.unread.items()}
    return {"clean": not left and not unread, "traces": left, "arrived_later": later, "unread": unread}


def is_a_writers(looked: Looked) -> bool:
    """Whether a file is of a kind that writers of tables leave unreferenced before their commit; a note or an archive is not."""
    return looked.kind in ("parquet", "avro", "puffin") or looked.path.endswith(".metadata.json")


def summarise(scan: Scan) -> dict[str, Any]:
    """Figures of a search."""
    kinds: dict[str, int] = {}
    layers: set[str] = set()
    for looked in scan.files.values():
        kinds[looked.kind] = kinds.get(looked.kind, 0) + 1
        layers |= looked.findings.layers
    return {
        "files": len(scan.files),
        "bytes": scan.bytes,
        "kinds": kinds,
        "decoded": sorted(layers),
        "files_with_traces": len(scan.traced),
        "hits": sum(looked.findings.traces.total() for looked in scan.traced.values()),
        "hits_of_other_tenants": sum(looked.findings.others.total() for looked in scan.files.values()),
    }


def entry_of(looked: Looked) -> dict[str, Any]:
    """A file as certificates name it."""
    return {
        "path": looked.path,
        "kind": looked.kind,
        "bytes": looked.size,
        "sha256": looked.sha256,
        "traces": dict(looked.findings.traces),
    }
