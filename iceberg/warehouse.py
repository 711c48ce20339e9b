"""One warehouse, one catalog: the mark that says whose warehouse a folder is, and the tables that lie in one.

Two catalogs on one folder would write their tables to the same places, and maintenance of the one would take the files of the
other for orphans. So a catalog has an identity, which lies in the catalog itself (a property of namespace `lake`, so that a
REST server before a file and the file are the same catalog), and the warehouse bears it:

    catalog    lake: headrace.catalog-id = 6f1c...        WAREHOUSE/headrace-warehouse.json: {"catalog_id": "6f1c..."}

A catalog that is new, or was lost and made anew, is thus refused at a warehouse that has an owner, instead of beginning empty.
"""

from __future__ import annotations

import gzip
import json
import logging
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import RESTError

from core.errors import ConflictError
from iceberg.sqlite_catalog import SqliteCatalog
from iceberg.storage import Storage, canonical

logger = logging.getLogger(__name__)

MARK = "headrace-warehouse.json"
ID_PROPERTY = "headrace.catalog-id"
HOME = "lake"
"""The namespace that bears the identity."""

_VERSION = re.compile(r"/metadata/v?(\d+)[^/]*\.metadata\.json$|/metadata/v(\d+)\.gz\.metadata\.json$")


@dataclass(frozen=True)
class FoundTable:
    """A table as its newest metadata file in a warehouse tells of it.

    Attributes:
        location: where the metadata file lies, canonical.
        written_for: the table's own location as the metadata has it; elsewhere when the folder was moved or copied.
    """

    location: str
    written_for: str
    table_uuid: str
    last_updated_ms: int
    metadata: dict[str, Any]

    @property
    def folder(self) -> str:
        """Where the table's files lie now."""
        return self.location.rpartition("/metadata/")[0]


def catalog_id(catalog: Catalog) -> str:
    """The identity of a catalog, given to it when it has none."""
    known = catalog.load_namespace_properties(HOME).get(ID_PROPERTY)
    if known:
        return str(known)
    made = str(uuid.uuid4())
    if isinstance(catalog, SqliteCatalog):
        return catalog.set_namespace_property_once(HOME, ID_PROPERTY, made)
    catalog.update_namespace_properties(HOME, updates={ID_PROPERTY: made})
    return str(catalog.load_namespace_properties(HOME)[ID_PROPERTY])


def read_mark(storage: Storage, warehouse: str) -> str | None:
    """The identity of the catalog that a warehouse belongs to; None if it bears none."""
    found = parse_json(storage, f"{canonical(warehouse)}/{MARK}")
    return str(found["catalog_id"]) if found and "catalog_id" in found else None


def write_mark(storage: Storage, warehouse: str, identity: str) -> None:
    """Make a warehouse a catalog's, whoever's it was."""
    text = json.dumps(
        {"catalog_id": identity, "note": "Belongs to the catalog with this id. See docs/how-to/check-the-lake.md."}
    )
    storage.write(f"{canonical(warehouse)}/{MARK}", text.encode())


def claim(catalog: Catalog, warehouse: str) -> None:
    """Make sure that a warehouse belongs to a catalog; one that belongs to nobody does afterwards.

    Raises:
        ConflictError: it belongs to another catalog.
    """
    storage = Storage(catalog.properties)
    try:
        identity = catalog_id(catalog)
        owner = read_mark(storage, warehouse)
        if owner is None:
            write_mark(storage, warehouse, identity)
            owner = read_mark(storage, warehouse)
    except (OSError, RESTError, NotImplementedError):
        # Read-only, away, or a server that lets nobody set properties: whoever writes will be told; reading must go on.
        logger.warning("warehouse not marked", extra={"warehouse": warehouse}, exc_info=True)
        return
    if owner != identity:
        raise ConflictError(
            f"warehouse `{warehouse}` belongs to another catalog (`{owner}`, this one is `{identity}`)",
            where="warehouse",
            fix="Open its catalog, or use another folder. If its catalog is lost, `headrace tables adopt` puts the tables that "
            "lie there into this one.",
        )


def find_tables(storage: Storage, warehouse: str) -> Iterator[FoundTable]:
    """The tables in a warehouse, each by its newest whole metadata file; nothing but the bytes is asked."""
    candidates: dict[str, list[tuple[int, str]]] = {}
    for file in storage.files(warehouse):
        match = _VERSION.search(file.location)
        if match:
            folder = file.location.rpartition("/metadata/")[0]
            candidates.setdefault(folder, []).append((int(match.group(1) or match.group(2)), file.location))
    for _, files in sorted(candidates.items()):
        newest: FoundTable | None = None
        best = -1
        for version, location in sorted(files, reverse=True):
            if newest is not None and version < best:
                break
            found = _found(storage, location)
            if found is not None and (newest is None or found.last_updated_ms > newest.last_updated_ms):
                newest, best = found, version
        if newest is not None:
            yield newest


def parse_json(storage: Storage, location: str) -> dict[str, Any] | None:
    """The JSON object in a file, unpacked if need be; None if it is gone or broken."""
    try:
        content = storage.read(location)
        found = json.loads(gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content)
    except (FileNotFoundError, ValueError, EOFError, gzip.BadGzipFile):
        return None
    return found if isinstance(found, dict) else None


def _found(storage: Storage, location: str) -> FoundTable | None:
    metadata = parse_json(storage, location)
    if metadata is None or not {"table-uuid", "location", "last-updated-ms"} <= metadata.keys():
        return None
    return FoundTable(location, canonical(metadata["location"]), metadata["table-uuid"], metadata["last-updated-ms"], metadata)
