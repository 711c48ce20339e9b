"""Keeps the list of manifests short while every append adds one.

A manifest list is written anew by each commit, so with one manifest an append the thousandth commit pays for a thousand (45 ms
in Python). Small manifests are therefore merged like the runs of a log-structured tree: 32 of one tier become one of the next.

    tier 0   32 manifests of 1 to 31 files       --> one of tier 1
    tier 1   32 manifests of 32 to 1,023 files   --> one of tier 2 ...

Each entry is written again once a tier, and the list holds at most some 32 manifests a tier.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Literal

from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile, ManifestContent, ManifestEntry, ManifestEntryStatus, ManifestFile, write_manifest
from pyiceberg.table.metadata import TableMetadata

FAN_IN = 32

# Avro's own compression is left out: these files are small, read often, and written in the critical part of a commit.
AVRO_CODEC: Literal["null"] = "null"


def write_added(metadata: TableMetadata, io: FileIO, path: str, files: Sequence[DataFile], snapshot_id: int) -> ManifestFile:
    """Write a manifest of files that a snapshot adds, all of the table's present partitioning."""
    with write_manifest(
        format_version=metadata.format_version,
        spec=metadata.spec(),
        schema=metadata.schema(),
        output_file=io.new_output(path),
        snapshot_id=snapshot_id,
        avro_compression=AVRO_CODEC,
    ) as writer:
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
    tiers: dict[tuple[int, int], list[ManifestFile]] = defaultdict(list)
    for manifest in manifests:
        if manifest.content == ManifestContent.DATA:
            tiers[manifest.partition_spec_id, _tier(manifest)].append(manifest)
    return next((tier for tier in tiers.values() if len(tier) >= FAN_IN), [])


def write_merged(
    metadata: TableMetadata, io: FileIO, path: str, manifests: Sequence[ManifestFile], snapshot_id: int
) -> ManifestFile:
    """Write one manifest with the live files of several of one partitioning; ids and sequence numbers stay."""
    spec = metadata.specs()[manifests[0].partition_spec_id]
    with write_manifest(
        format_version=metadata.format_version,
        spec=spec,
        schema=metadata.schema(),
        output_file=io.new_output(path),
        snapshot_id=snapshot_id,
        avro_compression=AVRO_CODEC,
    ) as writer:
        for manifest in manifests:
            for entry in manifest.fetch_manifest_entry(io, discard_deleted=True):
                writer.existing(entry)
    return writer.to_manifest_file()


def _tier(manifest: ManifestFile) -> int:
    files, tier = (manifest.added_files_count or 0) + (manifest.existing_files_count or 0), 0
    while files >= FAN_IN:
        files //= FAN_IN
        tier += 1
    return tier
