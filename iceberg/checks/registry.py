"""Has each model version its artifact, with the bytes that were sealed, and does each alias mean a version?"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterator

from pyiceberg.catalog import Catalog

from iceberg.checks.findings import Finding
from iceberg.loading import must_load
from iceberg.predicates import all_of
from iceberg.row_appends import scan_rows, type_rows
from iceberg.storage import Storage, canonical
from iceberg.tables import ALIASES, MODEL_VERSIONS

_FIX = "Restore it from a replica of the warehouse, or register the model again and move its routes to the new version."


def check_registry(catalog: Catalog, storage: Storage, warehouse: str, broken: Collection[str]) -> Iterator[Finding]:
    """Check versions, artifacts and aliases; tables that are broken themselves are left out."""
    if not catalog.table_exists(MODEL_VERSIONS.identifier) or MODEL_VERSIONS.identifier in broken:
        return
    versions = _rows(catalog, MODEL_VERSIONS.identifier)
    counted = Counter((row["name"], row["version"]) for row in versions)
    for (name, version), count in counted.items():
        if count > 1:
            yield Finding(
                "registry", "version-twice", f"{name}@{version}", f"it was registered {count} times", "Please report it."
            )
    checked: dict[tuple[str, str, int], tuple[str, str] | None] = {}
    for row in versions:
        key = (row["artifact"], row["artifact_sha256"], row["artifact_bytes"])
        if key not in checked:
            checked[key] = _artifact(storage, f"{canonical(warehouse)}/{row['artifact']}", row["artifact_sha256"])
        if (wrong := checked[key]) is not None:
            yield Finding("registry", wrong[0], f"{row['name']}@{row['version']}: {row['artifact']}", wrong[1], _FIX)
        if hashlib.sha256(row["signature"].encode()).hexdigest() != row["signature_hash"]:
            yield Finding(
                "registry",
                "signature-hash",
                f"{row['name']}@{row['version']}",
                "the signature is not the one that was sealed",
                _FIX,
            )
    if not catalog.table_exists(ALIASES.identifier) or ALIASES.identifier in broken:
        return
    newest: dict[tuple[str, str, str], int | None] = {}
    for row in sorted(_rows(catalog, ALIASES.identifier), key=lambda row: row["sequence"]):
        newest[row["name"], row["alias"], row["tenant_id"]] = row["version"]
    for (name, alias, tenant), meant in newest.items():
        if meant is not None and (name, meant) not in counted:
            where = f"{name}: {alias}" + (f" of {tenant}" if tenant else "")
            yield Finding("registry", "alias-dangling", where, f"version {meant} is not registered", "Set the alias anew.")


def _artifact(storage: Storage, location: str, sha256: str) -> tuple[str, str] | None:
    try:
        content = storage.read(location)
    except FileNotFoundError:
        return "artifact-missing", "the artifact does not exist"
    except OSError as error:
        return "artifact-unreadable", f"the artifact cannot be read: {error}"
    if hashlib.sha256(content).hexdigest() != sha256:
        return "artifact-hash", f"the artifact's {len(content)} bytes do not have the SHA-256 that was sealed"
    return None


def _rows(catalog: Catalog, identifier: str) -> type_rows:
    return scan_rows(must_load(catalog, identifier), all_of())
