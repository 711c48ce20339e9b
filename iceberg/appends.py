"""Writes data files, and stages their append onto the head of a table.

Only the steps that Iceberg's format asks for, once each (PyIceberg's own transaction does them, too, but copies the table's
whole history at every step):

    rows --> data files (one a partition) --> manifest --> manifest list --> updates and requirements for the catalog

The requirement `AssertRefSnapshotId` ties the append to the head it was staged on, so whatever was read from that head (a
sink's epoch, the highest version number) is still true when the commit succeeds.

Source: Iceberg table specification, "Snapshots", "Manifests", "Commit Conflict Resolution and Retry".
"""

from __future__ import annotations

import contextlib
import logging
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
from pyiceberg.io import FileIO
from pyiceberg.io.pyarrow import _dataframe_to_data_files
from pyiceberg.manifest import DataFile, ManifestFile, write_manifest_list
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
from iceberg.manifests import AVRO_CODEC, full_tier, write_added, write_merged

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class WrittenRows:
    """Data files that hold some rows, and the layout they were written for. No snapshot refers to them yet."""

    files: tuple[DataFile, ...]
    schema_id: int
    spec_id: int

    def fits(self, metadata: TableMetadata) -> bool:
        """Whether the table still has the schema and the partitioning that the files were written for."""
        return self.schema_id == metadata.current_schema_id and self.spec_id == metadata.default_spec_id

    @property
    def paths(self) -> tuple[str, ...]:
        return tuple(file.file_path for file in self.files)


@dataclass(frozen=True)
class StagedAppend:
    """An append that the catalog has not seen yet."""

    snapshot_id: int
    updates: tuple[TableUpdate, ...]
    requirements: tuple[TableRequirement, ...]
    metadata_paths: tuple[str, ...]
    """Manifest and manifest list, to be removed when the append fails for certain."""


def write_rows(table: Table, rows: pa.Table) -> WrittenRows:
    """Write rows that have the table's schema to new data files; an error leaves no file that is known to us."""
    metadata = table.metadata
    files = tuple(_dataframe_to_data_files(metadata, rows, table.io, uuid.uuid4())) if rows.num_rows else ()
    return WrittenRows(files, metadata.current_schema_id, metadata.default_spec_id)


def stage_append(
    table: Table,
    written: WrittenRows,
    *,
    snapshot_id: int,
    properties: Mapping[str, str],
    summary: Mapping[str, str],
    clock: Clock,
) -> StagedAppend:
    """Write the manifest and the manifest list of a snapshot that adds `written` to the head of `table`.

    Args:
        table: refreshed as the caller sees fit; a stale one makes the commit fail.
        written: files that fit the table's present layout; none is allowed (a snapshot that only sets properties).
        snapshot_id: kept over retries, so that an unknown outcome can be looked up.
        properties: table properties to be set in the same commit.
        summary: further entries of the snapshot's summary.
        clock: stamps the snapshot, never before its parent.
    """
    metadata = table.metadata
    parent = metadata.current_snapshot()
    provider = table.location_provider()
    commit = uuid.uuid4()
    manifests = list(_live_manifests(parent, table.io))
    paths = []
    if due := full_tier(manifests):
        paths.append(provider.new_metadata_location(f"{commit}-m1.avro"))
        merged = write_merged(metadata, table.io, paths[-1], due, snapshot_id)
        manifests = [merged, *(manifest for manifest in manifests if manifest not in due)]
    if written.files:
        paths.append(provider.new_metadata_location(f"{commit}-m0.avro"))
        manifests.insert(0, write_added(metadata, table.io, paths[-1], written.files, snapshot_id))
    list_path = provider.new_metadata_location(f"snap-{snapshot_id}-0-{commit}.avro")
    paths.append(list_path)
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
        summary=_summary(metadata, written.files, parent, summary),
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
    if properties:
        updates += (SetPropertiesUpdate(updates=dict(properties)),)
    requirements: tuple[TableRequirement, ...] = (
        AssertTableUUID(uuid=metadata.table_uuid),
        AssertRefSnapshotId(ref=MAIN_BRANCH, snapshot_id=parent.snapshot_id if parent else None),
    )
    return StagedAppend(snapshot_id, updates, requirements, tuple(paths))


def remove_files(io: FileIO, paths: Iterable[str]) -> None:
    """Remove files that no snapshot refers to; what cannot be removed is left to maintenance."""
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            try:
                io.delete(path)
            except OSError:
                logger.warning("uncommitted file not removed", extra={"file": path}, exc_info=True)


def _live_manifests(parent: Snapshot | None, io: FileIO) -> Iterable[ManifestFile]:
    if parent is None:
        return ()
    return (manifest for manifest in parent.manifests(io) if manifest.has_added_files() or manifest.has_existing_files())


def _summary(metadata: TableMetadata, files: Sequence[DataFile], parent: Snapshot | None, extra: Mapping[str, str]) -> Summary:
    collector = SnapshotSummaryCollector()
    for file in files:
        collector.add_file(file, schema=metadata.schema(), partition_spec=metadata.spec())
    return update_snapshot_summaries(
        summary=Summary(Operation.APPEND, **collector.build(), **extra),
        previous_summary=parent.summary if parent is not None else None,
    )
