"""Looks at the whole lake and says what is wrong, where, and what to do; changes nothing.

    catalog file   opens, is whole, has the layout, belongs to this warehouse          catalog.py
    table          pointer, metadata, snapshots, refs, specs, schemas                   metadata.py
    manifests      each list and manifest exists, reads, and counts what it holds       manifests.py
    files          each data and delete file: exists, size, footer, rows, columns       files.py
    sinks          no epoch twice, none beyond what the sink has recorded               sinks.py
    registry       each artifact has the bytes that were sealed, each alias a version   registry.py

What a broken part makes unreachable is not looked at, and not reported again: one cause, one finding.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pyiceberg.catalog import Catalog

from core.errors import HeadraceError
from iceberg.checks.catalog import check_catalog_file, check_mark
from iceberg.checks.files import check_files
from iceberg.checks.findings import Finding, Report
from iceberg.checks.manifests import check_manifests
from iceberg.checks.metadata import check_metadata
from iceberg.checks.registry import check_registry
from iceberg.checks.sinks import check_sinks
from iceberg.loading import table_names
from iceberg.registering import current_pointer
from iceberg.storage import Storage, no_progress, type_progress

_TRIES = 3

__all__ = ["Finding", "Report", "check_lake", "check_table"]


def check_lake(
    opening: Callable[[], Catalog],
    warehouse: str,
    *,
    catalog_file: Path | None = None,
    tables: tuple[str, ...] = (),
    deep: bool = False,
    progress: type_progress = no_progress,
) -> Report:
    """Check a catalog, its tables and the registry.

    Args:
        opening: opens the catalog without claiming the warehouse; not called when its file is broken.
        warehouse: as `warehouse_location` gives it.
        catalog_file: the catalog's SQLite file, where it has one.
        tables: only these; default: all, and the registry.
        deep: read all rows, not only the files' footers.
        progress: told of files that are looked at.
    """
    report = Report(deep=deep)
    if catalog_file is not None and not report.add(check_catalog_file(catalog_file)):
        return report
    try:
        catalog = opening()
        known = table_names(catalog)
    except HeadraceError as error:
        report.findings.append(Finding("catalog", "catalog-unreachable", error.where or "catalog", error.what, error.fix or ""))
        return report
    storage = Storage(catalog.properties)
    report.add(check_mark(catalog, storage, warehouse))
    for name in tables or known:
        check_table(catalog, name, storage, report, progress)
    broken = {finding.table for finding in report.findings}
    if not tables:
        report.add(check_registry(catalog, storage, warehouse, broken))
    return report


def check_table(catalog: Catalog, name: str, storage: Storage, report: Report, progress: type_progress = no_progress) -> None:
    """Check one table, and add to the report."""
    report.tables += 1
    for attempt in range(_TRIES):
        looked_at, part = _look(catalog, name, storage, report.deep, progress)
        if not part.findings or looked_at is None or attempt == _TRIES - 1 or current_pointer(catalog, name) == looked_at:
            break  # else a commit or maintenance came in between, and what it removed is no damage
    report.findings.extend(part.findings)
    report.snapshots += part.snapshots
    report.files += part.files
    report.rows += part.rows


def _look(catalog: Catalog, name: str, storage: Storage, deep: bool, progress: type_progress) -> tuple[str | None, Report]:
    """Where the catalog pointed, None where it cannot say, and what was found there."""
    found: list[Finding] = []
    report = Report(deep=deep)
    try:
        looked_at = current_pointer(catalog, name)
    except Exception as error:  # noqa: BLE001  # a REST server tells of broken metadata in any way it likes
        fix = "Restore its metadata from a replica of the warehouse."
        report.findings.append(Finding(name, "metadata-unreadable", name, f"the catalog cannot load it: {error}", fix))
        return None, report
    table = check_metadata(catalog, name, looked_at, storage, found)
    if table is not None:
        listed = {file.location: file.size_bytes for file in storage.files(table.location())}
        content = check_manifests(table, name, listed, storage, found)
        found.extend(check_files(table, name, content, listed, storage, report, progress))
        found.extend(check_sinks(table, name))
        report.snapshots += len(table.metadata.snapshots)
    report.findings.extend(found)
    return looked_at, report
