"""Is the catalog's file whole, and is the warehouse its own?"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from pyiceberg.catalog import Catalog

from iceberg.checks.findings import Finding
from iceberg.sqlite_catalog import COLUMNS
from iceberg.storage import Storage
from iceberg.warehouse import catalog_id, find_tables, read_mark

_LOCK_SECONDS = 5.0
_RESTORE = "Restore it from a replica, or move it away and run `headrace tables adopt`: tables are found by their own metadata."


def check_catalog_file(path: Path) -> Iterator[Finding]:
    """Look at a SQLite file without changing it."""

    def found(problem: str, what: str, fix: str = _RESTORE) -> Finding:
        return Finding("catalog", problem, str(path), what, fix)

    if not path.is_file():
        yield found("catalog-missing", "the catalog's file does not exist")
        return
    try:
        with contextlib.closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=_LOCK_SECONDS)
        ) as file:
            wrong = [row[0] for row in file.execute("PRAGMA quick_check(5)") if row[0] != "ok"]
            if wrong:
                yield found("catalog-corrupt", f"SQLite finds it damaged: {'; '.join(wrong)}")
                return
            for table, columns in COLUMNS.items():
                missing = set(columns) - {row[1] for row in file.execute(f"PRAGMA table_info({table})")}
                if missing:
                    yield found(
                        "catalog-layout",
                        f"table `{table}` lacks the columns {', '.join(sorted(missing))}",
                        "It is no Iceberg catalog, or of an older layout, which opening it brings up to date.",
                    )
            file.execute("BEGIN IMMEDIATE")
            file.execute("ROLLBACK")
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            yield found("catalog-locked", "another process holds the file's write lock", "Stop that process, and try again.")
        else:
            yield found(
                "catalog-unreadable", f"it cannot be opened: {error}", "Look after the disk and the file's permissions."
            )
    except sqlite3.DatabaseError as error:
        yield found("catalog-corrupt", f"it is no SQLite file, or damaged: {error}")


def check_mark(catalog: Catalog, storage: Storage, warehouse: str) -> Iterator[Finding]:
    """Does the warehouse belong to the catalog?"""
    owner, identity = read_mark(storage, warehouse), catalog_id(catalog)
    if owner is None or owner == identity:
        return
    lying = sum(1 for _ in find_tables(storage, warehouse))
    yield Finding(
        "warehouse",
        "two-catalogs",
        warehouse,
        f"it belongs to another catalog (`{owner}`; this one is `{identity}`); {lying} tables lie there",
        "Open the catalog that it belongs to, or give this one another folder. If that catalog is lost, run "
        "`headrace tables adopt`.",
    )
