"""Erases a subject of a data folder's lake, and checks certificates again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from core.errors import NotFoundError
from core.settings import Settings
from headrace.erasure_places import look_outside
from headrace.run_file import LOCK_FILE, is_held
from iceberg.catalog import open_lake, warehouse_location
from iceberg.erasure import certificate
from iceberg.erasure.eraser import IN_FLIGHT, Eraser
from iceberg.erasure.journal import CERTIFICATE, unfinished_subjects
from iceberg.erasure.needles import Needles
from iceberg.erasure.scan.scanner import scan_warehouse
from iceberg.erasure.scan.traces import Whose
from iceberg.erasure.selection import Subject
from iceberg.erasure.verdict import judge
from iceberg.loading import must_load, table_names
from iceberg.predicates import equals
from iceberg.storage import Storage, no_progress, type_progress
from iceberg.subjects import TENANT, columns_of

FOLDER = "erasures"


def build_eraser(settings: Settings, *, in_flight: timedelta = IN_FLIGHT, progress: type_progress = no_progress) -> Eraser:
    """An eraser for the lake that the settings name; certificates go to `DATA_DIR/erasures`."""
    return Eraser(
        open_lake(settings),
        settings.resolved_warehouse,
        settings.data_dir / FOLDER,
        in_flight=in_flight,
        outside=lambda needles, whose: look_outside(settings, needles, whose),
        progress=progress,
    )


def in_flight_of(settings: Settings) -> timedelta:
    """How long unreferenced files are left to writers: not at all where the lake is embedded and its platform does not run."""
    if settings.catalog_type != "jdbc" or "://" in settings.resolved_warehouse:
        return IN_FLIGHT
    locks = (settings.data_dir / LOCK_FILE, settings.data_dir / "engine" / "engine.lock")
    return IN_FLIGHT if any(is_held(lock) for lock in locks) else timedelta(0)


def find_subject(settings: Settings, name: str, tenant: str | None) -> Subject:
    """The subject that a name means.

    Args:
        tenant: None means every tenant's subject of that name, or the one whose erasure was cut off.

    Raises:
        NotFoundError: no tenant is known to have, or have had, a subject of that name.
    """
    folder = settings.data_dir / FOLDER
    if tenant is None and (unfinished := [each for each in unfinished_subjects(folder) if each.name == name]):
        return unfinished[0]  # its rows may be gone already, its bytes not
    if tenant is None and not tenants_of(settings, name) and not _certified(folder, name):
        raise NotFoundError(
            f"no tenant has rows about `{name}`",
            where="lake",
            fix="Check the spelling; to search for it all the same, in free text say, give --tenant NAME.",
        )
    return Subject(tenant, name)


def verify(settings: Settings, path: Path, *, progress: type_progress = no_progress) -> dict[str, Any]:
    """Check a certificate, and search the warehouse again for what it says is gone.

    Returns:
        `certificate`: intact or altered, with `problems`; `warehouse`: clean or dirty; `traces`, `arrived_later`, `unread`; `outside`.

    Raises:
        NotFoundError, CorruptDataError: there is no such certificate.
    """
    document = certificate.load(path)
    problems = certificate.check(document, path.parent.parent)
    subject = document["subject"]
    needles = Needles(subject["name"], frozenset(document["derived_ids"]))
    whose = Whose(subject["tenant"])
    catalog = open_lake(settings)
    root = warehouse_location(settings.resolved_warehouse)
    scan = scan_warehouse(
        Storage(catalog.properties), root, needles, whose, progress=lambda done, all_: progress("search", done, all_)
    )
    verdict = judge(catalog, scan, document["tables"], datetime.fromisoformat(document["finished_at"]), timedelta(0))
    return {
        "certificate": "altered" if problems else "intact",
        "problems": problems,
        "erasure_id": document["erasure_id"],
        "subject": subject,
        "finished_at": document["finished_at"],
        "warehouse": "clean" if verdict["clean"] else "dirty",
        "scanned_files": len(scan.files),
        "scanned_bytes": scan.bytes,
        "traces": verdict["traces"],
        "arrived_later": verdict["arrived_later"],
        "unread": verdict["unread"],
        "outside": list(look_outside(settings, needles, whose)),
        "ok": not problems and verdict["clean"],
    }


def summary(document: Mapping[str, Any], path: Path) -> Iterator[str]:
    """A certificate in some lines."""
    subject, after = document["subject"], document["after"]
    whose = f"tenant `{subject['tenant']}`" if subject["tenant"] is not None else "every tenant"
    yield f"erased `{subject['name']}` of {whose}: {'clean' if document['clean'] else 'NOT CLEAN'}"
    for name, note in document["tables"].items():
        if note["rows_deleted"] or note["rows_pseudonymised"] or note["snapshots_expired"]:
            yield (
                f"  {name}: {note['rows_deleted']} rows deleted, {note['rows_pseudonymised']} pseudonymised, "
                f"{len(note['snapshots_expired'])} snapshots expired, as of {note['as_of']}"
            )
    yield f"  {len(document['files_deleted'])} files deleted, {document['bytes_deleted']} bytes"
    yield f"  searched afterwards: {after['files']} files, {after['bytes']} bytes; traces in {len(after['traces'])}"
    for entry in after["traces"]:
        yield f"  ! {entry['path']}: {', '.join(f'{part} {hits}' for part, hits in entry['traces'].items())}"
    for file, parts in after["unread"].items():
        yield f"  ? {file}: {'; '.join(f'{part}: {reason}' for part, reason in parts.items())}"
    if after["arrived_later"]:
        yield f"  {len(after['arrived_later'])} files with rows that arrived meanwhile: for the next erasure"
    for each in document["affected"]["models_to_retrain"]:
        yield f"  retrain {each['model']}@{each['version']}: {each['reason']}"
    for place in document["outside"]:
        yield f"  {place['place']}: {place['status']} ({place['scope']})"
    yield f"certificate: {path}"


def tenants_of(settings: Settings, name: str) -> set[str]:
    """Tenants with rows about a subject of that name, in the present of any table."""
    catalog = open_lake(settings)
    found: set[str] = set()
    for identifier in table_names(catalog):
        table = must_load(catalog, identifier)
        columns = columns_of(identifier, table.metadata)
        if columns.keep_rows:
            continue
        has_tenant = TENANT in table.schema().column_names
        for column in columns.names:
            fields = (TENANT,) if has_tenant else (column,)
            rows: pa.Table = table.scan(row_filter=equals(column, name), selected_fields=fields).to_arrow()
            found.update(str(value) if has_tenant else "" for value in pc.unique(rows.column(fields[0])).to_pylist())
    return found


def erased_subjects(settings: Settings) -> list[Subject]:
    """Whose erasure was begun or is certified in the data folder."""
    folder = settings.data_dir / FOLDER
    done = [certificate.load(path)["subject"] for path in sorted(folder.glob(f"*/{CERTIFICATE}"))]
    return [*unfinished_subjects(folder), *(Subject(each["tenant"], each["name"]) for each in done)]


def _certified(folder: Path, name: str) -> bool:
    documents = (certificate.load(path) for path in folder.glob(f"*/{CERTIFICATE}"))
    return any(document["subject"]["name"] == name for document in documents)
