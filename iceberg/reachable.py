"""What a table needs: every file that its metadata reaches, and by which way.

    metadata file -+- older metadata files (the log)
                   +- statistics of snapshots
                   '- snapshot -- manifest list -- manifest -+- data file
                                                             '- delete file

Snapshots share manifests and manifests share files, so each manifest is read once. What a manifest marks as deleted is not
reached by it: only an older snapshot's manifest may still need it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile, DataFileContent, ManifestFile
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Snapshot

from iceberg.storage import canonical


class Kind(StrEnum):
    """What a file is to its table."""

    METADATA = "metadata"
    STATISTICS = "statistics"
    MANIFEST_LIST = "manifest list"
    MANIFEST = "manifest"
    DATA = "data"
    DELETES = "deletes"


@dataclass(frozen=True)
class Reached:
    """Files by canonical location, and what manifests say of the data and delete files among them."""

    kinds: Mapping[str, Kind]
    content: Mapping[str, DataFile]

    def of(self, *kinds: Kind) -> frozenset[str]:
        """The files of some kinds."""
        return frozenset(location for location, kind in self.kinds.items() if kind in kinds)

    def __contains__(self, location: str) -> bool:
        return location in self.kinds


@dataclass
class Manifests:
    """Reads each manifest once, over any number of walks through a table's snapshots."""

    io: FileIO
    _entries: dict[str, tuple[DataFile, ...]] = field(default_factory=dict)

    def live(self, manifest: ManifestFile) -> tuple[DataFile, ...]:
        """The files that a manifest adds or keeps."""
        found = self._entries.get(manifest.manifest_path)
        if found is None:
            entries = manifest.fetch_manifest_entry(self.io, discard_deleted=True)
            found = self._entries[manifest.manifest_path] = tuple(entry.data_file for entry in entries)
        return found


def reach_snapshots(snapshots: Iterable[Snapshot], manifests: Manifests) -> Reached:
    """The manifest lists, manifests, data and delete files of some snapshots.

    Raises:
        OSError, ValueError: a file on the way is missing or unreadable.
    """
    kinds: dict[str, Kind] = {}
    content: dict[str, DataFile] = {}
    for snapshot in snapshots:
        kinds[canonical(snapshot.manifest_list)] = Kind.MANIFEST_LIST
        for manifest in snapshot.manifests(manifests.io):
            location = canonical(manifest.manifest_path)
            if location in kinds:
                continue
            kinds[location] = Kind.MANIFEST
            for file in manifests.live(manifest):
                place = canonical(file.file_path)
                kinds[place] = Kind.DATA if file.content == DataFileContent.DATA else Kind.DELETES
                content[place] = file
    return Reached(kinds, content)


def reach_metadata(metadata: TableMetadata, metadata_location: str) -> Reached:
    """The metadata files and statistics that a table's metadata names; nothing is read for it."""
    kinds = {canonical(metadata_location): Kind.METADATA}
    kinds |= {canonical(entry.metadata_file): Kind.METADATA for entry in metadata.metadata_log}
    kinds |= {canonical(file.statistics_path): Kind.STATISTICS for file in metadata.statistics}
    kinds |= {canonical(file.statistics_path): Kind.STATISTICS for file in metadata.partition_statistics}
    return Reached(kinds, {})


def reach(table: Table, manifests: Manifests | None = None) -> Reached:
    """Everything that a table needs, for its current state and for time travel.

    Raises:
        OSError, ValueError: a file on the way is missing or unreadable.
    """
    named = reach_metadata(table.metadata, table.metadata_location)
    walked = reach_snapshots(table.metadata.snapshots, manifests or Manifests(table.io))
    return Reached({**named.kinds, **walked.kinds}, walked.content)
