"""Which snapshots of a table reach a trace, and what only these reach."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from pyiceberg.exceptions import CommitFailedException
from pyiceberg.manifest import ManifestEntryStatus
from pyiceberg.table import Table
from pyiceberg.table.update import (
    AssertTableUUID,
    RemovePartitionStatisticsUpdate,
    RemovePropertiesUpdate,
    RemoveSnapshotRefUpdate,
    RemoveSnapshotsUpdate,
    RemoveStatisticsUpdate,
    SetPropertiesUpdate,
    TableUpdate,
)
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_random_exponential

from iceberg.reachable import Manifests, reach, reach_snapshots
from iceberg.storage import canonical

_LOG_LENGTH = "write.metadata.previous-versions-max"
_MARKER = "headrace.erasure.previous-versions-max"


@dataclass(frozen=True)
class Doomed:
    """What has to go from a table so that no snapshot reaches a trace.

    Attributes:
        snapshots: to be expired.
        refs: tags and branches that hold one of them.
        statistics: snapshots whose statistics files go.
        files: locations that only these snapshots reach.
    """

    snapshots: tuple[int, ...] = ()
    refs: tuple[str, ...] = ()
    statistics: tuple[int, ...] = ()
    files: frozenset[str] = frozenset()


@dataclass
class Reach:
    """Reads manifests once each; keep one over the tables of an erasure."""

    _manifests: dict[str, Manifests] = field(default_factory=dict)

    def head(self, table: Table) -> frozenset[str]:
        """What the present snapshot reaches."""
        snapshot = table.metadata.current_snapshot()
        return frozenset(reach_snapshots([snapshot], self._of(table)).kinds) if snapshot is not None else frozenset()

    def everything(self, table: Table) -> set[str]:
        """All that a table needs for reading and time travel; former metadata files are not among it."""
        former = {canonical(entry.metadata_file) for entry in table.metadata.metadata_log}
        return set(reach(table, self._of(table)).kinds) - former

    def doomed(self, table: Table, traced: Collection[str]) -> Doomed:
        """What reaches a trace; the head of `main` must not."""
        metadata = table.metadata
        reached = {
            snapshot.snapshot_id: frozenset(reach_snapshots([snapshot], self._of(table)).kinds)
            for snapshot in metadata.snapshots
        }
        gone = {number for number, files in reached.items() if not files.isdisjoint(traced)}
        gone.discard(metadata.current_snapshot_id or 0)
        statistics = {
            each.snapshot_id: canonical(each.statistics_path)
            for each in (*metadata.statistics, *metadata.partition_statistics)
            if each.snapshot_id in gone or canonical(each.statistics_path) in traced
        }
        files = set(statistics.values()).union(*(reached[number] for number in gone))
        files = files.difference(*(files for number, files in reached.items() if number not in gone))
        refs = sorted(name for name, ref in metadata.refs.items() if ref.snapshot_id in gone)
        return Doomed(tuple(sorted(gone)), tuple(refs), tuple(sorted(statistics)), frozenset(files))

    def newer_files(self, table: Table, sequence_number: int) -> set[str]:
        """What came with snapshots after one: their lists and manifests, and the files that they added."""
        newer = {s.snapshot_id: s for s in table.metadata.snapshots if (s.sequence_number or 0) > sequence_number}
        found: set[str] = set()
        for snapshot in newer.values():
            found.add(canonical(snapshot.manifest_list))
            for manifest in snapshot.manifests(table.io):
                if manifest.added_snapshot_id not in newer:
                    continue
                found.add(canonical(manifest.manifest_path))
                for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=False):
                    added = entry.snapshot_id or manifest.added_snapshot_id
                    if entry.status != ManifestEntryStatus.DELETED and added in newer:
                        found.add(canonical(entry.data_file.file_path))
        return found

    def _of(self, table: Table) -> Manifests:
        return self._manifests.setdefault(table.metadata_location.rpartition("/")[0], Manifests(table.io))


@retry(
    retry=retry_if_exception_type(CommitFailedException),
    stop=stop_after_delay(30),
    wait=wait_random_exponential(multiplier=0.01, max=0.25),
    reraise=True,
)
def forget(table: Table, doomed: Doomed) -> None:
    """Take refs, statistics and snapshots out of the metadata, and former metadata files out of its log.

    What somebody else has taken out already is no matter.
    """
    table.refresh()
    metadata = table.metadata
    present = {snapshot.snapshot_id for snapshot in metadata.snapshots}
    updates: list[TableUpdate] = [RemoveSnapshotRefUpdate(ref_name=name) for name in doomed.refs if name in metadata.refs]
    have = {each.snapshot_id for each in metadata.statistics}
    updates += [RemoveStatisticsUpdate(snapshot_id=number) for number in doomed.statistics if number in have]
    have = {each.snapshot_id for each in metadata.partition_statistics}
    updates += [RemovePartitionStatisticsUpdate(snapshot_id=number) for number in doomed.statistics if number in have]
    if left := [number for number in doomed.snapshots if number in present]:
        updates.append(RemoveSnapshotsUpdate(snapshot_ids=left))
    if updates:
        _commit(table, updates)
    _shorten_log(table)


def _shorten_log(table: Table) -> None:
    """Let the log of former metadata files begin anew: they are deleted, and every later commit would try to delete them again.

    The log is cut when a commit finds the property small, so it is made small and restored. The marker tells a run that was killed
    in between what it was.
    """
    properties = table.metadata.properties
    if _MARKER not in properties:
        usual = properties.get(_LOG_LENGTH, "")
        _commit(table, [SetPropertiesUpdate(updates={_LOG_LENGTH: "1", _MARKER: usual})])
    usual = table.metadata.properties[_MARKER]
    restored: list[TableUpdate] = [RemovePropertiesUpdate(removals=[_MARKER, *([] if usual else [_LOG_LENGTH])])]
    if usual:
        restored.append(SetPropertiesUpdate(updates={_LOG_LENGTH: usual}))
    _commit(table, restored)


def is_cut_off(table: Table) -> bool:
    """Whether a run was killed while it shortened the log."""
    return _MARKER in table.metadata.properties


def _commit(table: Table, updates: Sequence[TableUpdate]) -> None:
    table.catalog.commit_table(table, (AssertTableUUID(uuid=table.metadata.table_uuid),), tuple(updates))
    table.refresh()
