"""Forgets old snapshots, and removes the files that only they needed.

The metadata file grows by some 600 bytes a snapshot and is written whole at each commit, so a table that is appended to once a
second must forget. First the snapshots leave the metadata, in one commit; then, from the metadata as it is after that, what
can still be reached is collected, and the expired snapshots' files outside of it are removed: data and delete files,
manifests, manifest lists and statistics.

    time    --- s1 ------ s2 --------- s3 ------- s4 ---->       a snapshot is *current* until the next one comes;
                               ^ older_than                      s1 is expired, s2 is kept: it answers at `older_than`

Beside writers that is safe at any time: a new snapshot can only refer to files of its parent, which is kept, and to new ones.
Beside readers it is safe for `grace`: a snapshot that was current within the grace is kept, so whoever began to read what was
current then may go on for so long. A crash in between leaves files that nobody refers to; `iceberg.orphans` finds them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.refs import SnapshotRef, SnapshotRefType
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.table.update import AssertTableUUID, RemovePartitionStatisticsUpdate, RemoveSnapshotsUpdate, TableUpdate
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_random_exponential

from core.clock import Clock, SystemClock
from core.errors import InvalidInputError, UnavailableError
from iceberg.holds import refuse_if_held
from iceberg.loading import must_load
from iceberg.reachable import Manifests, reach, reach_snapshots
from iceberg.storage import Storage, canonical, no_progress, type_progress

_ACTION = "expiring snapshots"
_NEVER = 2**63


@dataclass(frozen=True)
class Expired:
    """What was forgotten, or with `dry_run` would be."""

    snapshots: tuple[int, ...]
    files: tuple[str, ...]
    """Data files, delete files, manifests, manifest lists and statistics that were removed."""
    size_bytes: int = 0
    """Of the data and delete files among them."""


def expire_snapshots(
    catalog: Catalog,
    identifier: str,
    *,
    older_than: datetime,
    keep_last: int = 100,
    grace: timedelta = timedelta(0),
    dry_run: bool = False,
    clock: Clock | None = None,
    progress: type_progress = no_progress,
) -> Expired:
    """Forget the snapshots of a table that were current before a moment and not since.

    Args:
        catalog: from `open_catalog`.
        identifier: e.g. `lake.predictions`.
        older_than: with time zone; time travel reaches back to here afterwards.
        keep_last: so many of the newest are kept of each branch, whatever their age; at least 1. Tags are always kept, and
            what a branch itself says of how many and how old its snapshots are kept comes first.
        grace: what was current so recently is kept, whatever `older_than` says, for those who read it.
        dry_run: change nothing, only tell.
        clock: now, for `grace`.
        progress: told of the removal of files.

    Raises:
        InvalidInputError: an argument is malformed.
        NotFoundError: the table does not exist.
        HeldError: a legal hold may concern the table.
        UnavailableError: writers were faster for half a minute; nothing has changed.
    """
    if older_than.tzinfo is None:
        raise InvalidInputError(f"`{older_than.isoformat()}` has no time zone", where=identifier, fix="Add `Z` or an offset.")
    if keep_last < 1:
        raise InvalidInputError(f"`{keep_last}` snapshots cannot be kept", where=identifier, fix="Keep at least 1.")
    if grace:
        older_than = min(older_than, (clock or SystemClock()).now() - grace)
    refuse_if_held(catalog, _ACTION, identifier)
    table = must_load(catalog, identifier)
    older_than_ms = int(older_than.timestamp() * 1000)
    chosen = choose_expired(table.metadata, older_than_ms, keep_last)
    if not chosen:
        return Expired((), ())
    manifests = Manifests(table.io)
    wanted = reach_snapshots(chosen, manifests)  # before anything changes: what cannot be read must not be forgotten
    ids = tuple(snapshot.snapshot_id for snapshot in chosen)
    statistics = _statistics(table.metadata, ids)
    if dry_run:
        kept = [snapshot for snapshot in table.metadata.snapshots if snapshot.snapshot_id not in ids]
        needed = frozenset(reach_snapshots(kept, manifests).kinds)
    else:
        try:
            ids = _forget(table, ids, older_than_ms, keep_last)
        except CommitFailedException as error:
            raise UnavailableError(f"snapshots were not expired: {error}", where=identifier) from error
        needed = frozenset(reach(table, manifests).kinds)
    gone = sorted((set(wanted.kinds) | statistics) - needed)
    size = sum(wanted.content[file].file_size_in_bytes for file in gone if file in wanted.content)
    if not dry_run:
        refuse_if_held(catalog, _ACTION, identifier)  # placed meanwhile: the files stay, as orphans that may not be removed
        Storage(catalog.properties).remove(gone, progress)
    return Expired(ids, tuple(gone), size)


def choose_expired(metadata: TableMetadata, older_than_ms: int, keep_last: int) -> Sequence[Snapshot]:
    """The snapshots that no ref keeps, the oldest first."""
    until = _current_until(metadata)
    kept: set[int] = set()
    for ref in metadata.refs.values():
        kept.update(_kept_by(ref, metadata, until, older_than_ms, keep_last))
    by_age = sorted(metadata.snapshots, key=lambda snapshot: snapshot.sequence_number or 0)
    return [
        snapshot
        for snapshot in by_age
        if snapshot.snapshot_id not in kept and until.get(snapshot.snapshot_id, snapshot.timestamp_ms) <= older_than_ms
    ]


def _kept_by(
    ref: SnapshotRef, metadata: TableMetadata, until: dict[int, int], older_than_ms: int, keep_last: int
) -> Iterator[int]:
    if ref.snapshot_ref_type == SnapshotRefType.TAG:
        yield ref.snapshot_id
        return
    keep = ref.min_snapshots_to_keep or keep_last
    if ref.max_snapshot_age_ms is not None:
        older_than_ms = min(older_than_ms, metadata.last_updated_ms - ref.max_snapshot_age_ms)
    superseded = _NEVER
    for number, snapshot in enumerate(_ancestors(ref.snapshot_id, metadata)):
        if number < keep or max(superseded, until.get(snapshot.snapshot_id, 0)) > older_than_ms:
            yield snapshot.snapshot_id
        superseded = snapshot.timestamp_ms


def _ancestors(snapshot_id: int | None, metadata: TableMetadata) -> Iterator[Snapshot]:
    while snapshot_id is not None and (snapshot := metadata.snapshot_by_id(snapshot_id)) is not None:
        yield snapshot
        snapshot_id = snapshot.parent_snapshot_id


def _current_until(metadata: TableMetadata) -> dict[int, int]:
    """When each snapshot stopped being the table's current one; the current one never did."""
    log = metadata.snapshot_log
    until = {entry.snapshot_id: following.timestamp_ms for entry, following in pairwise(log)}
    if log:
        until[log[-1].snapshot_id] = _NEVER
    return until


def _statistics(metadata: TableMetadata, ids: Sequence[int]) -> set[str]:
    files = [*metadata.statistics, *metadata.partition_statistics]
    return {canonical(file.statistics_path) for file in files if file.snapshot_id in ids}


@retry(
    retry=retry_if_exception_type(CommitFailedException),
    stop=stop_after_delay(30),
    wait=wait_random_exponential(multiplier=0.01, max=0.25),
    reraise=True,
)
def _forget(table: Table, ids: Sequence[int], older_than_ms: int, keep_last: int) -> tuple[int, ...]:
    """Take snapshots out of the metadata and return them.

    Those that somebody else has taken out already are no matter, and those that a branch or tag has come to need are left.
    """
    table.refresh()
    still = {snapshot.snapshot_id for snapshot in choose_expired(table.metadata, older_than_ms, keep_last)}
    left = tuple(snapshot_id for snapshot_id in ids if snapshot_id in still)
    if left:
        held = [file.snapshot_id for file in table.metadata.partition_statistics if file.snapshot_id in left]
        updates: tuple[TableUpdate, ...] = (
            *(RemovePartitionStatisticsUpdate(snapshot_id=snapshot_id) for snapshot_id in held),
            RemoveSnapshotsUpdate(snapshot_ids=list(left)),
        )
        table.catalog.commit_table(table, (AssertTableUUID(uuid=table.metadata.table_uuid),), updates)
        table.refresh()
    return left
