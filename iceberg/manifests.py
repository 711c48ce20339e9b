"""Keeps the list of manifests short while every append adds one.

A manifest list is written anew by each commit, so with one manifest an append the thousandth commit pays for a thousand (45 ms
in Python). Small manifests are therefore merged like the runs of a log-structured tree: 32 of one tier become one of the next.

    tier 0   32 manifests of 1 to 31 files       --> one of tier 1
    tier 1   32 manifests of 32 to 1,023 files   --> one of tier 2 ...

Each entry is written again once a tier, and the list holds at most some 32 manifests a tier.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Literal

from pyiceberg.io import FileIO
from pyiceberg.manifest import (
    DataFile,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestFile,
    ManifestWriter,
    ManifestWriterV2,
    write_manifest,
)
from pyiceberg.table.metadata import TableMetadata

from core.errors import InvalidInputError

FAN_IN = 32

# Avro's own compression is left out: these files are small, read often, and written in the critical part of a commit.
AVRO_CODEC: Literal["null"] = "null"


def write_added(
    metadata: TableMetadata,
    io: FileIO,
    path: str,
    files: Sequence[DataFile],
    snapshot_id: int,
    *,
    spec_id: int | None = None,
    content: ManifestContent = ManifestContent.DATA,
) -> ManifestFile:
    """Write a manifest of files that a snapshot adds, all of one content and one partitioning (by default the present one)."""
    with _writer(metadata, io, path, snapshot_id, metadata.default_spec_id if spec_id is None else spec_id, content) as writer:
        for file in files:
            writer.add(
                ManifestEntry.from_args(
                    status=ManifestEntryStatus.ADDED,
                    snapshot_id=snapshot_id,
                    sequence_number=None,
                    file_sequence_number=None,
                    data_file=file,
                )
            )
    return writer.to_manifest_file()


def full_tier(manifests: Sequence[ManifestFile]) -> Sequence[ManifestFile]:
    """The manifests of one tier that are due to be merged; none where no tier is full."""
    tiers: dict[tuple[int, ManifestContent, int], list[ManifestFile]] = defaultdict(list)
    for manifest in manifests:
        tiers[manifest.partition_spec_id, manifest.content, _tier(manifest)].append(manifest)
    return next((tier for tier in tiers.values() if len(tier) >= FAN_IN), [])


def write_merged(
    metadata: TableMetadata, io: FileIO, path: str, manifests: Sequence[ManifestFile], snapshot_id: int
) -> ManifestFile:
    """Write one manifest with the live files of several of one kind; ids and sequence numbers stay."""
    first = manifests[0]
    return write_without(metadata, io, path, manifests, (), snapshot_id, first.partition_spec_id, first.content)


def write_without(
    metadata: TableMetadata,
    io: FileIO,
    path: str,
    manifests: Sequence[ManifestFile],
    removed: Collection[str],
    snapshot_id: int,
    spec_id: int,
    content: ManifestContent,
    *,
    forgets: bool = False,
) -> ManifestFile:
    """Write one manifest with the live files of several of one kind, those of the paths in `removed` marked as deleted.

    Args:
        forgets: they are left out instead.
    """
    with _writer(metadata, io, path, snapshot_id, spec_id, content) as writer:
        for manifest in manifests:
            for entry in manifest.fetch_manifest_entry(io, discard_deleted=True):
                if entry.data_file.file_path not in removed:
                    writer.existing(entry)
                elif not forgets:
                    writer.delete(entry)
    return writer.to_manifest_file()


class DeletesWriter(ManifestWriterV2):
    """PyIceberg writes manifests of data only; one of delete files differs in its content."""

    def content(self) -> ManifestContent:
        return ManifestContent.DELETES

    @property
    def _meta(self) -> dict[str, str]:
        return {**super()._meta, "content": "deletes"}


def _writer(
    metadata: TableMetadata, io: FileIO, path: str, snapshot_id: int, spec_id: int, content: ManifestContent
) -> ManifestWriter:
    spec, schema, output = metadata.specs()[spec_id], metadata.schema(), io.new_output(path)
    if content == ManifestContent.DATA:
        return write_manifest(
            format_version=metadata.format_version,
            spec=spec,
            schema=schema,
            output_file=output,
            snapshot_id=snapshot_id,
            avro_compression=AVRO_CODEC,
        )
    if metadata.format_version != 2:
        raise InvalidInputError(
            f"a table of format version `{metadata.format_version}` takes no position deletes from us",
            where=metadata.location,
            fix="Set its property `format-version` to 2.",
        )
    return DeletesWriter(spec, schema, output, snapshot_id, AVRO_CODEC)


def _tier(manifest: ManifestFile) -> int:
    files, tier = (manifest.added_files_count or 0) + (manifest.existing_files_count or 0), 0
    while files >= FAN_IN:
        files //= FAN_IN
        tier += 1
    return tier
