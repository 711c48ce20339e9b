"""The files that a snapshot consists of, and which delete files apply to which data file.

Manifests are immutable, so each is read once and remembered by its path: a commit that lost a race reads only what the winner
added.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile, DataFileContent, ManifestContent, ManifestEntry, ManifestFile
from pyiceberg.table import Table
from pyiceberg.table.delete_file_index import DeleteFileIndex

from core.errors import InvalidInputError


class LiveFile(NamedTuple):
    """A file of a snapshot, and the manifest that names it."""

    manifest: ManifestFile
    entry: ManifestEntry

    @property
    def file(self) -> DataFile:
        return self.entry.data_file

    @property
    def path(self) -> str:
        return self.entry.data_file.file_path


@dataclass(frozen=True)
class LiveFiles:
    """All files of one snapshot, by path."""

    data: Mapping[str, LiveFile]
    deletes: Mapping[str, LiveFile]

    @cached_property
    def _index(self) -> DeleteFileIndex:
        index = DeleteFileIndex()
        for delete in self.deletes.values():
            index.add_delete_file(delete.entry, partition_key=delete.file.partition)
        return index

    def deletes_of(self, data: LiveFile) -> Sequence[LiveFile]:
        """The delete files that may name rows of a data file."""
        if not self.deletes:
            return ()
        found = self._index.for_data_file(data.entry.sequence_number or 0, data.file, partition_key=data.file.partition)
        return [self.deletes[delete.file_path] for delete in found]


class ManifestReader:
    """Reads the live files of one snapshot after the other. Not for two threads at once."""

    def __init__(self) -> None:
        self._known: dict[str, Sequence[ManifestEntry]] = {}

    def read(self, table: Table) -> LiveFiles:
        """The files of a table's head.

        Raises:
            InvalidInputError: the table has equality deletes, which neither PyIceberg nor we can read.
        """
        snapshot = table.metadata.current_snapshot()
        manifests = [] if snapshot is None else snapshot.manifests(table.io)
        self._known = {manifest.manifest_path: self._entries(manifest, table.io) for manifest in manifests}
        data: dict[str, LiveFile] = {}
        deletes: dict[str, LiveFile] = {}
        for manifest in manifests:
            into = data if manifest.content == ManifestContent.DATA else deletes
            for entry in self._known[manifest.manifest_path]:
                into[entry.data_file.file_path] = LiveFile(manifest, entry)
        _refuse_equality_deletes(table, deletes.values())
        return LiveFiles(data, deletes)

    def _entries(self, manifest: ManifestFile, io: FileIO) -> Sequence[ManifestEntry]:
        known = self._known.get(manifest.manifest_path)
        if known is not None:
            return known
        if not (manifest.has_added_files() or manifest.has_existing_files()):
            return ()
        return manifest.fetch_manifest_entry(io, discard_deleted=True)


def _refuse_equality_deletes(table: Table, deletes: Iterable[LiveFile]) -> None:
    for delete in deletes:
        if delete.file.content == DataFileContent.EQUALITY_DELETES:
            raise InvalidInputError(
                f"the table has equality deletes (`{delete.path}`)",
                where=".".join(table.name()),
                fix="Let the engine that wrote them compact the table; PyIceberg cannot read them either.",
            )
