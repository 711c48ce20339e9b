"""Compaction: fewer and larger files, without dead rows, beside writers that go on.

    head --> groups that are worth it (`iceberg.compaction_plan`)
      for some groups at a time (a bounded number of bytes a commit):
        rewrite them (`iceberg.rewriting`), while others write
        commit on the head as it is then:   old files out, new files in, operation `replace`
            rows of old files have died meanwhile  -->  dead in the new files, too, in the same commit
            an old file is gone with its last row  -->  as above, all of its rows are dead
            an old file is gone otherwise          -->  its group is given up, the others stay
            other files have come in               -->  no matter

So no writer waits for a compaction or fails by it, and what a conflict costs is one more manifest, whatever was rewritten: it
cannot starve beside a writer that commits faster than files can be rewritten. Earlier snapshots refer to the old files as
before; expiry removes those.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import timedelta

from pyiceberg.catalog import Catalog
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation

from core.clock import Clock
from core.errors import InvalidInputError
from iceberg.appends import WrittenRows, remove_files
from iceberg.commits import PATIENCE, commit_on_head, type_failpoint
from iceberg.compaction_plan import CompactionPolicy, Group, plan_groups
from iceberg.live_files import LiveFile, ManifestReader
from iceberg.loading import must_load
from iceberg.merge import MERGED_PROPERTY
from iceberg.positions import DeadRows, is_of_one_file, type_positions, write_positions
from iceberg.rewriting import Rewritten, rewrite
from iceberg.staging import Change
from iceberg.storage import no_progress, type_progress


@dataclass(frozen=True)
class Compacted:
    """What was rewritten, or with `dry_run` would be; sizes and counts are of the head, before expiry frees anything.

    Attributes:
        files_before: data and delete files that went out.
        files_after: files that came in.
        bytes_before: their bytes.
        bytes_after: the bytes of those that came in; with `dry_run` an estimate.
        rows: live rows that were rewritten.
        dead_rows: rows that were dead, and are in no file of the head any more.
        commits: snapshots that were made.
        attempts: how often a commit was tried; more than `commits` when others were faster.
        given_up: groups that others had rewritten or removed in the meantime.
    """

    files_before: int = 0
    files_after: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    rows: int = 0
    dead_rows: int = 0
    commits: int = 0
    attempts: int = 0
    given_up: int = 0

    @property
    def files_saved(self) -> int:
        return self.files_before - self.files_after

    @property
    def bytes_saved(self) -> int:
        return self.bytes_before - self.bytes_after

    def __add__(self, other: Compacted) -> Compacted:
        return Compacted(**{each.name: getattr(self, each.name) + getattr(other, each.name) for each in fields(self)})


def compact(
    catalog: Catalog,
    identifier: str,
    *,
    policy: CompactionPolicy | None = None,
    dry_run: bool = False,
    progress: type_progress = no_progress,
    max_commits: int | None = None,
    patience: timedelta = PATIENCE,
    clock: Clock | None = None,
    failpoint: type_failpoint = lambda _: None,
) -> Compacted:
    """Rewrite the files of a table that are worth it.

    Args:
        catalog: from `open_catalog`.
        identifier: e.g. `lake.predictions`.
        policy: what is worth it; by default small files and those with many dead rows, see `iceberg.compaction_plan`.
        dry_run: change nothing, only tell.
        progress: called with `identifier`, groups done, and groups in all.
        max_commits: leave the rest to the next call after so many.
        patience: how long each commit goes on against conflicts and outages.
        clock: stamps snapshots.
        failpoint: called with `files written`, `deletes written`, `staged`, `committed`; tests kill the process there.

    Raises:
        InvalidInputError: the policy makes no sense, or the table has equality deletes.
        NotFoundError: the table does not exist.
        UnavailableError: a commit failed for all of `patience`; what was committed before stays.
    """
    policy = policy or CompactionPolicy()
    if policy.target_bytes is not None and policy.target_bytes < 1024:
        raise InvalidInputError(
            f"a target of {policy.target_bytes} bytes is too small", where=identifier, fix="Use 1 MiB or more."
        )
    table = must_load(catalog, identifier)
    target = policy.target_of(table)
    groups = plan_groups(table, ManifestReader().read(table), policy)
    if dry_run:
        return sum((_estimate(group, target) for group in groups), Compacted())
    done, total = Compacted(), 0
    for batch in _batches(groups, policy.bytes_per_commit):
        if max_commits is not None and done.commits >= max_commits:
            break
        done += _Batch(table, batch, target, failpoint).commit(patience, clock)
        total += len(batch)
        progress(identifier, total, len(groups))
    return done


class _Batch:
    """Some groups that are rewritten and committed together."""

    def __init__(self, table: Table, groups: Sequence[Group], target_bytes: int, failpoint: type_failpoint) -> None:
        self._table = table
        self._target = target_bytes
        self._failpoint = failpoint
        self._manifests = ManifestReader()
        self._dead = DeadRows()
        self._groups = groups
        self._rewritten: list[Rewritten] = []
        self._delete_files: list[DataFile] = []
        self._outcome = Compacted()
        self._base: int | None = None
        self._attempts = 0
        self._given_up = 0

    def commit(self, patience: timedelta, clock: Clock | None) -> Compacted:
        self._base = self._table.metadata.current_snapshot_id
        files = self._manifests.read(self._table)
        self._dead.read_ahead(
            [delete for group in self._groups for file in group.files for delete in file.deletes], self._table.io
        )
        self._rewritten = [rewrite(self._table, group, files, self._dead, self._target) for group in self._groups]
        self._failpoint("files written")
        committed = commit_on_head(self._table, self._plan, clock=clock, patience=patience, failpoint=self._failpoint)
        return (self._outcome if committed else Compacted()) + Compacted(attempts=self._attempts, given_up=self._given_up)

    def _plan(self, table: Table) -> Change | None:
        self._attempts += 1
        files = self._manifests.read(table)
        remove_files(table.io, [file.file_path for file in self._delete_files])
        self._delete_files = []
        kept: list[Rewritten] = []
        dead: dict[str, tuple[DataFile, type_positions]] = {}
        removed: list[LiveFile] = []
        gone_is_dead = _only_merges_removed_files(table, self._base)
        for each in self._rewritten:
            died = each.died_meanwhile(files, self._dead, table.io, gone_is_dead=gone_is_dead)
            if died is None or each.group.spec_id != table.metadata.default_spec_id:
                each.remove(table.io)
                self._given_up += 1
                continue
            kept.append(each)
            by_path = {file.file_path: file for file in each.files}
            dead.update({path: (by_path[path], rows) for path, rows in died.items()})
            for live in filter(None, (files.data.get(candidate.live.path) for candidate in each.group.files)):
                removed += [live, *(delete for delete in files.deletes_of(live) if is_of_one_file(delete.file))]
        self._rewritten = kept
        if not kept:
            return None
        if dead:
            self._delete_files = write_positions(table, dead)
            self._failpoint("deletes written")
        new = [file for each in kept for file in each.files]
        self._outcome = Compacted(
            files_before=len(removed),
            files_after=len(new) + len(self._delete_files),
            bytes_before=sum(live.file.file_size_in_bytes for live in removed),
            bytes_after=sum(file.file_size_in_bytes for file in (*new, *self._delete_files)),
            rows=sum(file.record_count for file in new),
            dead_rows=sum(each.group.dead_rows for each in kept),
            commits=1,
        )
        return Change(
            WrittenRows(tuple(new), kept[0].schema_id, kept[0].group.spec_id),
            deletes=self._delete_files,
            removed=removed,
            operation=Operation.REPLACE,
            summary={"headrace.compacted-files": str(len(removed))},
        )


def _only_merges_removed_files(table: Table, base: int | None) -> bool:
    """Whether every data file that has left the table since a snapshot did so because a merge killed its last row.

    A file that an erasure or another compaction took away must not live on in what was made of it.
    """
    snapshot = table.metadata.current_snapshot()
    while snapshot is not None and snapshot.snapshot_id != base:
        summary = snapshot.summary
        if summary is None or (summary["deleted-data-files"] and summary[MERGED_PROPERTY] is None):
            return False
        parent = snapshot.parent_snapshot_id
        snapshot = table.metadata.snapshot_by_id(parent) if parent is not None else None
    return snapshot is not None


def _batches(groups: Sequence[Group], bytes_per_commit: int) -> Iterator[list[Group]]:
    batch: list[Group] = []
    size = 0.0
    for group in groups:
        if batch and size + group.live_bytes > bytes_per_commit:
            yield batch
            batch, size = [], 0.0
        batch.append(group)
        size += group.live_bytes
    if batch:
        yield batch


def _estimate(group: Group, target_bytes: int) -> Compacted:
    return Compacted(
        files_before=len(group.removed),
        files_after=group.files_after(target_bytes),
        bytes_before=sum(live.file.file_size_in_bytes for live in group.removed),
        bytes_after=round(group.live_bytes),
        rows=group.live_rows,
        dead_rows=group.dead_rows,
        commits=1,
    )
