"""What a table takes on the storage: for its current state, for its history, and for nobody."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from pyiceberg.catalog import Catalog
from pyiceberg.manifest import DataFileContent
from pyiceberg.schema import Schema

from iceberg.loading import must_load, table_names
from iceberg.orphans import is_loose_artifact, named_hashes, own_files
from iceberg.reachable import Kind, Manifests, Reached, reach, reach_metadata, reach_snapshots
from iceberg.storage import Storage, canonical
from iceberg.warehouse import MARK


@dataclass(frozen=True)
class Share:
    """A number of files and their bytes."""

    files: int = 0
    size_bytes: int = 0


@dataclass(frozen=True)
class Usage:
    """One table; `live`, `historic` and `orphan` together are all that lies at its place.

    Attributes:
        live: what the current snapshot and the current metadata need.
        historic: what only earlier snapshots and earlier metadata need: time travel.
        orphan: what nobody needs, or a commit in flight will.
        missing: files that are needed and not there.
        rows: of the current snapshot, less those that position deletes name.
        columns: bytes of each column in the current data files, compressed; empty unless asked for.
    """

    table: str
    live: Share
    historic: Share
    orphan: Share
    missing: int
    rows: int
    data_files: int
    snapshots: int
    columns: Mapping[str, int] = field(default_factory=dict)


def measure_table(catalog: Catalog, identifier: str, *, columns: bool = False) -> Usage:
    """Measure a table.

    Raises:
        NotFoundError: it does not exist.
        OSError, ValueError: a manifest is missing or unreadable; `headrace tables check` tells which.
    """
    storage = Storage(catalog.properties)
    table = must_load(catalog, identifier)
    listed = {file.location: file.size_bytes for file in own_files(catalog, table, storage)}
    table.refresh()
    manifests = Manifests(table.io)
    current = table.current_snapshot()
    now = reach_snapshots([current] if current else [], manifests)
    named = reach_metadata(table.metadata, table.metadata_location)
    statistics = {
        canonical(file.statistics_path)
        for file in (*table.metadata.statistics, *table.metadata.partition_statistics)
        if current and file.snapshot_id == current.snapshot_id
    }
    live = {*now.kinds, *statistics, canonical(table.metadata_location)}
    needed = {*reach(table, manifests).kinds, *named.kinds}
    data = now.of(Kind.DATA)
    positions = [file for file in now.of(Kind.DELETES) if now.content[file].content == DataFileContent.POSITION_DELETES]
    return Usage(
        table=identifier,
        live=_share(live, listed),
        historic=_share(needed - live, listed),
        orphan=_share(listed.keys() - needed, listed),
        missing=len(needed - listed.keys()),
        rows=sum(now.content[file].record_count for file in data) - sum(now.content[file].record_count for file in positions),
        data_files=len(data),
        snapshots=len(table.metadata.snapshots),
        columns=_columns(now, table.schema()) if columns else {},
    )


@dataclass(frozen=True)
class Rest:
    """What lies in the warehouse outside of all tables."""

    artifacts: Share
    orphan_artifacts: Share
    unclaimed: Mapping[str, Share]
    """By folder: neither tables of this catalog nor artifacts, e.g. the files of tables that were dropped."""


def measure_rest(catalog: Catalog, warehouse: str) -> Rest:
    """Measure what does not belong to a table of the catalog.

    Raises:
        CorruptDataError: a table of the registry cannot be read, so it is not certain which artifacts are needed.
    """
    storage, root = Storage(catalog.properties), canonical(warehouse)
    tables = tuple(canonical(must_load(catalog, name).location()) + "/" for name in table_names(catalog))
    outside = {file.location: file.size_bytes for file in storage.files(root) if not file.location.startswith(tables)}
    artifacts = {location for location in outside if location.startswith(f"{root}/artifacts/")}
    named = named_hashes(catalog)
    loose = {location for location in artifacts if is_loose_artifact(location, named)}
    folders: dict[str, set[str]] = defaultdict(set)
    for location in outside.keys() - artifacts - {f"{root}/{MARK}"}:
        folders["/".join(location.removeprefix(f"{root}/").split("/")[:-1][:2])].add(location)
    return Rest(
        _share(artifacts - loose, outside),
        _share(loose, outside),
        {folder: _share(files, outside) for folder, files in sorted(folders.items())},
    )


def _share(locations: set[str], listed: Mapping[str, int]) -> Share:
    present = [listed[location] for location in locations if location in listed]
    return Share(len(present), sum(present))


def _columns(now: Reached, schema: Schema) -> Mapping[str, int]:
    sizes: dict[str, int] = defaultdict(int)
    for file in now.of(Kind.DATA):
        for field_id, size in (now.content[file].column_sizes or {}).items():
            sizes[schema.find_column_name(field_id) or f"dropped column {field_id}"] += size
    return dict(sorted(sizes.items(), key=lambda entry: -entry[1]))
