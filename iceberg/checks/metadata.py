"""Is a table's metadata there, whole, the table's own, and consistent in itself?"""

from __future__ import annotations

from collections.abc import Iterator

from pyiceberg.catalog import Catalog
from pyiceberg.io import load_file_io
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata, TableMetadataUtil

from iceberg.checks.findings import Finding
from iceberg.orphans import is_later
from iceberg.reachable import Kind, reach_metadata
from iceberg.sqlite_catalog import SqliteCatalog
from iceberg.storage import Storage, canonical
from iceberg.warehouse import FoundTable, parse_json

_REPLICA = "Restore it from a replica of the warehouse"


def check_metadata(catalog: Catalog, name: str, pointer: str | None, storage: Storage, found: list[Finding]) -> Table | None:
    """Check the metadata that the catalog points to; returns the table, or None when there is nothing to go on with."""
    if pointer is None:
        found.append(Finding(name, "pointer-missing", "catalog", "the catalog has no metadata for it", _way_back(name, None)))
        return None
    location = canonical(pointer)
    others = list(_other_metadata(catalog, name, storage, location))
    metadata = _parsed(name, storage, location, others, found)
    if metadata is None:
        return None
    identifier = Catalog.identifier_to_tuple(name)
    io = load_file_io({**catalog.properties, **metadata.properties}, location)
    table = Table(identifier, metadata, pointer, io, catalog)
    found.extend(_neighbours(name, table, others))
    found.extend(_consistent(name, metadata))
    found.extend(
        Finding(name, "statistics-missing", file, "the statistics file does not exist", _REPLICA + ".")
        for file in sorted(reach_metadata(metadata, location).of(Kind.STATISTICS))
        if storage.size_bytes(file) is None
    )
    return table


def _parsed(name: str, storage: Storage, location: str, others: list[FoundTable], found: list[Finding]) -> TableMetadata | None:
    def wrong(problem: str, what: str) -> None:
        found.append(Finding(name, problem, location, what, _way_back(name, _newest(others))))

    try:
        content = storage.read(location)
    except FileNotFoundError:
        wrong("metadata-missing", "the metadata file that the catalog points to does not exist")
        return None
    except OSError as error:
        wrong("metadata-unreadable", f"the metadata file cannot be read: {error}")
        return None
    raw = parse_json(storage, location)
    if raw is None:
        wrong("metadata-not-json", f"the metadata file is no JSON object: cut off or overwritten ({len(content)} bytes)")
        return None
    try:
        metadata = TableMetadataUtil.parse_obj(raw)
    except ValueError as error:
        wrong("metadata-invalid", f"the metadata file is no Iceberg metadata: {str(error).splitlines()[0]}")
        return None
    uuids = {other.table_uuid for other in others if canonical(other.location) in _logged(metadata)}
    if uuids and str(metadata.table_uuid) not in uuids:
        wrong("metadata-of-another-table", f"its table is `{metadata.table_uuid}`, by its own history `{uuids.pop()}`")
        return None
    if not location.startswith(canonical(metadata.location) + "/") and "write.metadata.path" not in metadata.properties:
        wrong("metadata-of-another-place", f"it is written for `{metadata.location}`: the folder was moved or copied")
        return None
    return metadata


def _neighbours(name: str, table: Table, others: list[FoundTable]) -> Iterator[Finding]:
    """Metadata files at the table's place that it does not know."""
    for other in others:
        if other.location in _logged(table.metadata):
            continue
        if other.table_uuid != str(table.metadata.table_uuid):
            yield Finding(
                name,
                "two-catalogs",
                other.location,
                f"another table (`{other.table_uuid}`) lies at the same place",
                "Two catalogs share this warehouse: give one another folder. Orphans are not removed here until then.",
            )
        elif is_later(other.metadata, table):
            yield Finding(
                name,
                "catalog-behind",
                other.location,
                "it is a later state of the table than the one that the catalog points to",
                f"Was the catalog restored from a backup? `headrace tables register {name} {other.location} --replace` goes on "
                "from there.",
            )


def _consistent(name: str, metadata: TableMetadata) -> Iterator[Finding]:
    """What the parts of the metadata say of each other."""
    ids = {snapshot.snapshot_id for snapshot in metadata.snapshots}

    def wrong(where: str, what: str) -> Finding:
        return Finding(name, "metadata-inconsistent", where, what, _way_back(name, None))

    if metadata.current_snapshot_id is not None and metadata.current_snapshot_id not in ids:
        yield wrong("current-snapshot-id", f"snapshot `{metadata.current_snapshot_id}` is not in the table")
    for ref, target in metadata.refs.items():
        if target.snapshot_id not in ids:
            yield wrong(f"ref {ref}", f"snapshot `{target.snapshot_id}` is not in the table")
    schemas = {schema.schema_id for schema in metadata.schemas}
    if metadata.current_schema_id not in schemas:
        yield wrong("current-schema-id", f"schema `{metadata.current_schema_id}` is not in the table")
    if metadata.default_spec_id not in {spec.spec_id for spec in metadata.partition_specs}:
        yield wrong("default-spec-id", f"partition spec `{metadata.default_spec_id}` is not in the table")
    numbers = set()
    last = getattr(metadata, "last_sequence_number", 0)  # format 1 has none, and its snapshots have no numbers
    for snapshot in metadata.snapshots:
        where = f"snapshot {snapshot.snapshot_id}"
        if snapshot.schema_id is not None and snapshot.schema_id not in schemas:
            yield wrong(where, f"its schema `{snapshot.schema_id}` is not in the table")
        if (snapshot.sequence_number or 0) > last:
            yield wrong(where, f"its number {snapshot.sequence_number} is beyond the last, {last}")
        if snapshot.sequence_number and snapshot.sequence_number in numbers:
            yield wrong(where, f"its number {snapshot.sequence_number} was given twice")
        numbers.add(snapshot.sequence_number)


def _other_metadata(catalog: Catalog, name: str, storage: Storage, location: str) -> Iterator[FoundTable]:
    """The other whole metadata files that lie beside one, and the one before it."""
    folder = location.rpartition("/")[0]
    beside = {file.location for file in storage.files(folder) if file.location.endswith(".metadata.json")}
    if isinstance(catalog, SqliteCatalog):
        before = catalog.pointer(Catalog.identifier_to_tuple(name))[1]
        beside |= {canonical(before)} if before else set()
    for place in sorted(beside - {location}):
        raw = parse_json(storage, place)
        if raw is not None and {"table-uuid", "location", "last-updated-ms"} <= raw.keys():
            yield FoundTable(place, canonical(raw["location"]), raw["table-uuid"], raw["last-updated-ms"], raw)


def _newest(others: list[FoundTable]) -> FoundTable | None:
    return max(others, key=lambda other: other.last_updated_ms, default=None)


def _logged(metadata: TableMetadata) -> set[str]:
    return {canonical(entry.metadata_file) for entry in metadata.metadata_log}


def _way_back(name: str, newest: FoundTable | None) -> str:
    if newest is None:
        return f"{_REPLICA}; no other whole metadata file lies beside it."
    return (
        f"{_REPLICA}; or go back to the newest whole state, {len(newest.metadata.get('snapshots', ()))} snapshots, by "
        f"`headrace tables register {name} {newest.location} --replace` (what was committed since is then lost to the table; its "
        "files stay)."
    )
