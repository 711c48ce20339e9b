"""Forgets old snapshots, and removes the files that only they needed.

The metadata file grows by some 600 bytes a snapshot and is written whole at each commit, so a table that is appended to once a
second must forget. First the snapshots leave the metadata, in one commit; then, from the metadata as it is after that, what
can still be reached is collected, and the expired snapshots' files outside of it are removed. Writers go on meanwhile: a new
snapshot can only refer to files of snapshots that are kept, and to new ones.

A crash in between leaves files that nobody refers to; a reader that still works on an expired snapshot may lose its files, so
keep snapshots longer than the longest reading.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.io import FileIO
from pyiceberg.manifest import ManifestFile
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.table.update import AssertTableUUID, RemoveSnapshotsUpdate
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_random_exponential

from core.errors import InvalidInputError, UnavailableError
from iceberg.appends import remove_files
from iceberg.loading import must_load


@dataclass(frozen=True)
class Expired:
    """What was forgotten, or with `dry_run` would be."""

    snapshots: tuple[int, ...]
    files: tuple[str, ...]
    """Manifest lists, manifests and data files that were removed."""


def expire_snapshots(
    catalog: Catalog, identifier: str, *, older_than: datetime, keep_last: int = 100, dry_run: bool = False
) -> Expired:
    """Forget the snapshots of a table that are older than a moment.

    Args:
        catalog: from `open_catalog`.
        identifier: e.g. `lake.predictions`.
        older_than: with time zone; time travel reaches back to here afterwards.
        keep_last: so many of the newest are kept whatever their age; at least 1. Branches and tags are always kept.
        dry_run: change nothing, only tell.

    Raises:
        InvalidInputError: an argument is malformed.
        NotFoundError: the table does not exist.
        UnavailableError: writers were faster for half a minute; nothing has changed.
    """
    if older_than.tzinfo is None:
        raise InvalidInputError(f"`{older_than.isoformat()}` has no time zone", where=identifier, fix="Add `Z` or an offset.")
    if keep_last < 1:
        raise InvalidInputError(f"`{keep_last}` snapshots cannot be kept", where=identifier, fix="Keep at least 1.")
    table = must_load(catalog, identifier)
    chosen = _choose(table, int(older_than.timestamp() * 1000), keep_last)
    if not chosen:
        return Expired((), ())
    ids = tuple(snapshot.snapshot_id for snapshot in chosen)
    if not dry_run:
        try:
            _forget(table, ids)
        except CommitFailedException as error:
            raise UnavailableError(f"snapshots were not expired: {error}", where=identifier) from error
    kept = [snapshot for snapshot in table.metadata.snapshots if snapshot.snapshot_id not in ids]
    files = _only_in(chosen, kept, table.io)
    if not dry_run:
        remove_files(table.io, files)
    return Expired(ids, files)


def _choose(table: Table, older_than_ms: int, keep_last: int) -> Sequence[Snapshot]:
    held = {ref.snapshot_id for ref in table.metadata.refs.values()}
    by_age = sorted(table.metadata.snapshots, key=lambda snapshot: snapshot.sequence_number or 0)
    return [
        snapshot
        for snapshot in by_age[:-keep_last]
        if snapshot.timestamp_ms < older_than_ms and snapshot.snapshot_id not in held
    ]


@retry(
    retry=retry_if_exception_type(CommitFailedException),
    stop=stop_after_delay(30),
    wait=wait_random_exponential(multiplier=0.01, max=0.25),
    reraise=True,
)
def _forget(table: Table, ids: Sequence[int]) -> None:
    """Take snapshots out of the metadata; those that somebody else has taken out already are no matter."""
    table.refresh()
    present = {snapshot.snapshot_id for snapshot in table.metadata.snapshots}
    left = [snapshot_id for snapshot_id in ids if snapshot_id in present]
    if left:
        requirements = (AssertTableUUID(uuid=table.metadata.table_uuid),)
        table.catalog.commit_table(table, requirements, (RemoveSnapshotsUpdate(snapshot_ids=left),))
        table.refresh()


def _only_in(expired: Iterable[Snapshot], kept: Iterable[Snapshot], io: FileIO) -> tuple[str, ...]:
    """The files that expired snapshots refer to and no kept one does: data files, manifests, lists."""
    kept_manifests = _manifests(kept, io)
    gone = {path: manifest for path, manifest in _manifests(expired, io).items() if path not in kept_manifests}
    data: set[str] = set()
    if gone:
        data = _data_files(gone.values(), io) - _data_files(kept_manifests.values(), io)
    return (*sorted(data), *gone, *(snapshot.manifest_list for snapshot in expired))


def _manifests(snapshots: Iterable[Snapshot], io: FileIO) -> dict[str, ManifestFile]:
    return {manifest.manifest_path: manifest for snapshot in snapshots for manifest in snapshot.manifests(io)}


def _data_files(manifests: Iterable[ManifestFile], io: FileIO) -> set[str]:
    """The files that are live in a manifest; what is marked as deleted there is live only in older ones."""
    return {entry.data_file.file_path for manifest in manifests for entry in manifest.fetch_manifest_entry(io)}
