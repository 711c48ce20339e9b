"""Makes a catalog know tables by their metadata files: after a catalog was lost, restored from an old backup, or set back.

Nothing of the warehouse is written or removed: only the catalog's pointer changes, so what is done here can be undone here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException, RESTError
from pyiceberg.table.metadata import TableMetadata, TableMetadataUtil

from core.errors import ConflictError, CorruptDataError, InvalidInputError, NotFoundError
from iceberg.catalog import ensure_namespace
from iceberg.sqlite_catalog import SqliteCatalog
from iceberg.storage import Storage, canonical
from iceberg.warehouse import FoundTable, catalog_id, find_tables, parse_json, write_mark

UNKNOWN = "unknown"
"""In place of a metadata file that a REST server points to but cannot read."""


@dataclass(frozen=True)
class Registered:
    """A table that the catalog now knows by this metadata file, or with `dry_run` would.

    Attributes:
        before: where the catalog pointed; None if it did not know the table, `unknown` where a REST server cannot say.
        lost: snapshots that `before` has and `metadata` has not; None where `before` cannot be read.
    """

    table: str
    metadata: str
    before: str | None
    snapshots: int
    lost: int | None


def register_table(
    catalog: Catalog, identifier: str, metadata_location: str, *, replace: bool = False, dry_run: bool = False
) -> Registered:
    """Let a catalog know a table by a metadata file, or point to another one.

    Args:
        metadata_location: a whole metadata file at its own place: its `location` is the folder that it lies in.
        replace: a table that the catalog knows already is pointed to this file. Later commits are then no more part of the
            table; their files stay until orphans are removed.
        dry_run: change nothing, only tell.

    Raises:
        NotFoundError: there is no such file.
        CorruptDataError: it is no metadata file.
        ConflictError: the table is known and `replace` is not given, or somebody committed meanwhile.
        InvalidInputError: the file is written for another place, or is another table's.
    """
    location = canonical(metadata_location)
    storage = Storage(catalog.properties)
    metadata = must_parse(storage, location)
    if not location.startswith(canonical(metadata.location) + "/"):
        raise InvalidInputError(
            f"the metadata is written for `{metadata.location}`, but lies at `{location}`",
            where=identifier,
            fix="The table was moved or copied: `headrace tables replicate TARGET --from FOLDER` rewrites its paths.",
        )
    try:
        before = current_pointer(catalog, identifier)
    except RESTError:  # a REST server cannot say where a table's metadata lies that it cannot read
        before = UNKNOWN
    lost: int | None = 0
    if before is not None:
        if not replace:
            raise ConflictError(f"the catalog knows the table already, by `{before}`", where=identifier, fix="Add `--replace`.")
        known = parse_json(storage, before) if before != UNKNOWN else None
        # A file beside the present one is the table's own, even when the present one is broken and says otherwise.
        beside = canonical(before).rpartition("/")[0] == location.rpartition("/")[0]
        if before != UNKNOWN and not beside and (known or {}).get("table-uuid") != str(metadata.table_uuid):
            raise InvalidInputError(
                f"the metadata is of table `{metadata.table_uuid}`, not of the one that the catalog knows", where=identifier
            )
        present = {snapshot.snapshot_id for snapshot in metadata.snapshots}
        lost = len({each["snapshot-id"] for each in known.get("snapshots", ())} - present) if known is not None else None
    if not dry_run and (before in (None, UNKNOWN) or canonical(before or "") != location):
        _point(catalog, identifier, before, location)
    return Registered(identifier, location, before, len(metadata.snapshots), lost)


def adopt_tables(catalog: Catalog, warehouse: str, *, dry_run: bool = False) -> Sequence[Registered]:
    """Register every table in a warehouse that the catalog does not know, and make the warehouse this catalog's.

    Args:
        catalog: opened with `claims=False`.
        warehouse: as `warehouse_location` gives it.

    Raises:
        InvalidInputError: a table is written for another place; nothing was changed.
    """
    storage = Storage(catalog.properties)
    found = [(name_of(each, warehouse), each) for each in find_tables(storage, warehouse)]
    done = []
    for dry in (True, False):
        if dry_run and not dry:
            break
        done = [
            register_table(catalog, name, each.location, dry_run=dry)
            for name, each in found
            if current_pointer(catalog, name) is None
        ]
    if not dry_run:
        write_mark(storage, warehouse, catalog_id(catalog))
    return done


def name_of(found: FoundTable, warehouse: str) -> str:
    """A table's name by its folder: `NAMESPACE/TABLE` below the warehouse; a final `.db` of the namespace is left out."""
    inner = found.folder.removeprefix(canonical(warehouse)).strip("/").split("/")
    return ".".join([*(part.removesuffix(".db") for part in inner[:-1]), inner[-1]])


def current_pointer(catalog: Catalog, identifier: str) -> str | None:
    """Where a catalog points for a table, also when that file cannot be read; None if it does not know the table."""
    if isinstance(catalog, SqliteCatalog):
        return catalog.pointer(Catalog.identifier_to_tuple(identifier))[0]
    return catalog.load_table(identifier).metadata_location if catalog.table_exists(identifier) else None


def must_parse(storage: Storage, location: str) -> TableMetadata:
    """Read a metadata file.

    Raises:
        NotFoundError: there is none.
        CorruptDataError: it is none.
    """
    if storage.size_bytes(location) is None:
        raise NotFoundError(f"metadata file `{location}` does not exist")
    raw = parse_json(storage, location)
    try:
        return TableMetadataUtil.parse_obj(raw or {})
    except ValueError as error:
        raise CorruptDataError(f"`{location}` is no metadata file: {str(error).splitlines()[0]}") from error


def _point(catalog: Catalog, identifier: str, before: str | None, location: str) -> None:
    name = Catalog.identifier_to_tuple(identifier)
    if before is None:
        ensure_namespace(catalog, ".".join(name[:-1]))
        catalog.register_table(name, location)
    elif isinstance(catalog, SqliteCatalog):
        try:
            catalog.set_pointer(name, before, location)
        except CommitFailedException as error:
            raise ConflictError(str(error), where=identifier, fix="Stop what writes to the table, and try again.") from error
    else:  # a REST catalog cannot be told to point elsewhere; dropping leaves the files
        catalog.drop_table(name)
        catalog.register_table(name, location)
