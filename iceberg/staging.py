"""Stages a change onto the head of a table: writes its manifests and gives the updates for the catalog.

Only the steps that Iceberg's format asks for, once each (PyIceberg's own transaction does them, too, but copies the table's
whole history at every step, and knows neither position deletes nor replacing):

    data files ----> manifest of data  ---.
    delete files --> manifest of deletes --+--> manifest list --> updates and requirements for the catalog
    removed files -> their manifests again'

The requirement `AssertRefSnapshotId` ties the change to the head it was staged on, so whatever was read from that head (a
sink's epoch, the highest version number, the position of a row) is still true when the commit succeeds.

Source: Iceberg table specification, "Snapshots", "Manifests", "Commit Conflict Resolution and Retry".
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile, ManifestContent, ManifestFile, write_manifest_list
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.refs import MAIN_BRANCH, SnapshotRefType
from pyiceberg.table.snapshots import Operation, Snapshot, SnapshotSummaryCollector, Summary, update_snapshot_summaries
from pyiceberg.table.update import (
    AddSnapshotUpdate,
    AssertRefSnapshotId,
    AssertTableUUID,
    SetPropertiesUpdate,
    SetSnapshotRefUpdate,
    TableRequirement,
    TableUpdate,
)

from core.clock import Clock
from iceberg.appends import NOTHING, WrittenRows
from iceberg.live_files import LiveFile
from iceberg.manifests import AVRO_CODEC, full_tier, write_added, write_merged, write_without


@dataclass(frozen=True)
class Change:
    """What a commit changes on the head that it was planned on.

    Attributes:
        written: data files that come in.
        properties: table properties that are set in the same commit.
        summary: further entries of the snapshot's summary.
        deletes: position delete files that come in.
        removed: data and delete files of the head that go out.
        operation: what the snapshot says of itself; `REPLACE` promises that no row has changed.
        forgets: removed files are not named as deleted; their entries, which carry bounds of values, are left out.
        renewed: manifests that are written anew with their live files alone, though none of these is removed.
    """

    written: WrittenRows = NOTHING
    properties: Mapping[str, str] = field(default_factory=dict)
    summary: Mapping[str, str] = field(default_factory=dict)
    deletes: Sequence[DataFile] = ()
    removed: Sequence[LiveFile] = ()
    operation: Operation = Operation.APPEND
    forgets: bool = False
    renewed: Sequence[ManifestFile] = ()


@dataclass(frozen=True)
class StagedChange:
    """A change that the catalog has not seen yet."""

    snapshot_id: int
    updates: tuple[TableUpdate, ...]
    requirements: tuple[TableRequirement, ...]
    metadata_paths: tuple[str, ...]
    """Manifests and manifest list, to be removed when the change fails for certain."""


def stage(table: Table, change: Change, *, snapshot_id: int, clock: Clock) -> StagedChange:
    """Write the manifests and the manifest list of a snapshot that makes a change on the head of `table`.

    Args:
        table: refreshed as the caller sees fit; a stale one makes the commit fail.
        change: its files fit the table's present partitioning; nothing but properties is allowed.
        snapshot_id: kept over retries, so that an unknown outcome can be looked up.
        clock: stamps the snapshot, never before its parent.
    """
    metadata = table.metadata
    parent = metadata.current_snapshot()
    paths = _Paths(table)
    manifests = _manifests(table, parent, change, snapshot_id, paths)
    list_path = paths.new(f"snap-{snapshot_id}-0-{paths.commit}.avro")
    sequence_number = metadata.next_sequence_number()
    with write_manifest_list(
        format_version=metadata.format_version,
        output_file=table.io.new_output(list_path),
        snapshot_id=snapshot_id,
        parent_snapshot_id=parent.snapshot_id if parent else None,
        sequence_number=sequence_number,
        avro_compression=AVRO_CODEC,
    ) as writer:
        writer.add_manifests(manifests)
    snapshot = Snapshot(
        snapshot_id=snapshot_id,
        parent_snapshot_id=parent.snapshot_id if parent else None,
        sequence_number=sequence_number,
        timestamp_ms=max(int(clock.now().timestamp() * 1000), metadata.last_updated_ms, parent.timestamp_ms if parent else 0),
        manifest_list=list_path,
        summary=_summary(metadata, change, parent),
        schema_id=metadata.current_schema_id,
    )
    updates: tuple[TableUpdate, ...] = (
        AddSnapshotUpdate(snapshot=snapshot),
        SetSnapshotRefUpdate(
            ref_name=MAIN_BRANCH,
            type=SnapshotRefType.BRANCH,
            snapshot_id=snapshot_id,
            max_ref_age_ms=None,
            max_snapshot_age_ms=None,
            min_snapshots_to_keep=None,
        ),
    )
    if change.properties:
        updates += (SetPropertiesUpdate(updates=dict(change.properties)),)
    requirements: tuple[TableRequirement, ...] = (
        AssertTableUUID(uuid=metadata.table_uuid),
        AssertRefSnapshotId(ref=MAIN_BRANCH, snapshot_id=parent.snapshot_id if parent else None),
    )
    return StagedChange(snapshot_id, updates, requirements, tuple(paths.made))


class _Paths:
    """Names of one attempt's metadata files, in the order in which they are made."""

    def __init__(self, table: Table) -> None:
        self._provider = table.location_provider()
        self.commit = uuid.uuid4()
        self.made: list[str] = []

    def new(self, name: str) -> str:
        path = self._provider.new_metadata_location(name)
        self.made.append(path)
        return path

    def manifest(self) -> str:
        return self.new(f"{self.commit}-m{len(self.made)}.avro")


def _manifests(table: Table, parent: Snapshot | None, change: Change, snapshot_id: int, paths: _Paths) -> list[ManifestFile]:
    """The new snapshot's manifests: those of its files, those that lost some, and all others as they are."""
    metadata, io = table.metadata, table.io
    kept = list(_live_manifests(parent, io))
    rewritten = []
    for spec_id, content, touched, gone in _touched(change.removed, change.renewed):
        kept = [manifest for manifest in kept if manifest.manifest_path not in touched]
        if change.forgets and not _leaves_any(touched.values(), gone, io):
            continue  # a manifest must not be empty
        rewritten.append(
            write_without(
                metadata,
                io,
                paths.manifest(),
                list(touched.values()),
                gone,
                snapshot_id,
                spec_id,
                content,
                forgets=change.forgets,
            )
        )
    if due := full_tier(kept):
        merged = write_merged(metadata, io, paths.manifest(), due, snapshot_id)
        kept = [merged, *(manifest for manifest in kept if manifest not in due)]
    added = []
    if change.written.files:
        added.append(write_added(metadata, io, paths.manifest(), change.written.files, snapshot_id))
    by_spec = defaultdict(list)
    for delete in change.deletes:
        by_spec[delete.spec_id].append(delete)
    for spec_id, deletes in by_spec.items():
        added.append(
            write_added(metadata, io, paths.manifest(), deletes, snapshot_id, spec_id=spec_id, content=ManifestContent.DELETES)
        )
    return [*added, *rewritten, *kept]


def _touched(
    removed: Iterable[LiveFile], renewed: Iterable[ManifestFile]
) -> Iterator[tuple[int, ManifestContent, dict[str, ManifestFile], frozenset[str]]]:
    """The manifests that name removed files or are to be renewed, by partitioning and content."""
    manifests: dict[tuple[int, ManifestContent], dict[str, ManifestFile]] = defaultdict(dict)
    gone: dict[tuple[int, ManifestContent], set[str]] = defaultdict(set)
    for live in removed:
        key = (live.manifest.partition_spec_id, live.manifest.content)
        manifests[key][live.manifest.manifest_path] = live.manifest
        gone[key].add(live.path)
    for manifest in renewed:
        manifests[manifest.partition_spec_id, manifest.content][manifest.manifest_path] = manifest
    for (spec_id, content), touched in manifests.items():
        yield spec_id, content, touched, frozenset(gone[spec_id, content])


def _leaves_any(manifests: Iterable[ManifestFile], gone: frozenset[str], io: FileIO) -> bool:
    entries = (entry for manifest in manifests for entry in manifest.fetch_manifest_entry(io, discard_deleted=True))
    return any(entry.data_file.file_path not in gone for entry in entries)


def _live_manifests(parent: Snapshot | None, io: FileIO) -> Iterable[ManifestFile]:
    if parent is None:
        return ()
    return (manifest for manifest in parent.manifests(io) if manifest.has_added_files() or manifest.has_existing_files())


def _summary(metadata: TableMetadata, change: Change, parent: Snapshot | None) -> Summary:
    collector = SnapshotSummaryCollector()
    schema, specs = metadata.schema(), metadata.specs()
    for file in (*change.written.files, *change.deletes):
        collector.add_file(file, schema=schema, partition_spec=specs[file.spec_id])
    for live in change.removed:
        collector.remove_file(live.file, schema=schema, partition_spec=specs[live.file.spec_id])
    # PyIceberg adds totals up for the operations that it makes itself; replacing is not among them.
    counted = Operation.OVERWRITE if change.operation == Operation.REPLACE else change.operation
    totals = update_snapshot_summaries(
        summary=Summary(counted, **collector.build(), **change.summary),
        previous_summary=parent.summary.additional_properties if parent is not None and parent.summary is not None else None,
    )
    return Summary(change.operation, **totals.additional_properties)
