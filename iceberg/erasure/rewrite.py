"""Takes a subject out of a table's head: the files that hold a trace are written again without it, in one commit.

Copy-on-write and nothing else: a delete file would leave the rows where they are and name them on top. The new manifests keep
no entry of what went out, because an entry carries the bounds of its file's columns, and a bound is a trace. The commit is tied to the head that
was searched, so at its moment there is no row of the subject in the table, whoever writes beside us; later rows are later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import timedelta

from pyiceberg.expressions import AlwaysTrue
from pyiceberg.io.pyarrow import ArrowScan
from pyiceberg.manifest import DataFile, ManifestEntryStatus, ManifestFile
from pyiceberg.table import FileScanTask, Table
from pyiceberg.table.snapshots import Operation

from core.clock import Clock
from iceberg.appends import WrittenRows, remove_files, write_rows
from iceberg.commits import commit_on_head
from iceberg.erasure.needles import Needles
from iceberg.erasure.scan.scanner import look
from iceberg.erasure.scan.traces import Whose
from iceberg.erasure.selection import Subject, without
from iceberg.live_files import LiveFile, LiveFiles, ManifestReader
from iceberg.staging import Change
from iceberg.storage import Storage, canonical
from iceberg.subjects import SubjectColumns

SUMMARY = "headrace.erasure"

# An attempt looks into every file that came since the last one, so beside busy writers it loses more races than an append.
PATIENCE = timedelta(minutes=5)


@dataclass
class _Rewritten:
    """One data file without the subject; `files` is empty where nothing is left of it."""

    files: tuple[DataFile, ...]
    deleted: int
    pseudonymised: int


@dataclass
class HeadErasure:
    """Of one table.

    Args:
        known: plain path -> whether a file holds a trace; files that are not in it are looked into.
        erasure_id: stands in the summary of the snapshot, so that a resumed erasure finds it again.

    Attributes:
        stuck: data files whose trace stands in a column that is not declared to hold subjects; they stay as they are.
    """

    storage: Storage
    subject: Subject
    columns: SubjectColumns
    needles: Needles
    pseudonym: str
    erasure_id: str
    known: dict[str, bool]
    stuck: set[str] = field(default_factory=set)
    _reader: ManifestReader = field(default_factory=ManifestReader)
    _done: dict[str, _Rewritten] = field(default_factory=dict)
    _layout: tuple[int, int] = (-1, -1)

    def commit(self, table: Table, clock: Clock, failpoint: Callable[[str], None]) -> bool:
        """Commit the head without the subject; False where there is nothing of it in the head."""
        committed = commit_on_head(table, self._plan, clock=clock, patience=PATIENCE, failpoint=failpoint)
        if not committed:
            remove_files(table.io, [file.file_path for each in self._done.values() for file in each.files])
        return committed

    def _plan(self, table: Table) -> Change | None:
        live = self._reader.read(table)
        touched, deletes = self._touched(live)
        touched = {path: file for path, file in touched.items() if path not in self.stuck}
        layout = (table.metadata.current_schema_id, table.metadata.default_spec_id)
        if layout != self._layout:
            remove_files(table.io, [file.file_path for each in self._done.values() for file in each.files])
            self._done, self._layout = {}, layout
        for path, file in list(touched.items()):
            if path not in self._done:
                rewritten = self._rewrite(table, file, live.deletes_of(file))
                if rewritten is None:
                    self.stuck.add(path)
                    del touched[path]
                else:
                    self._done[path] = rewritten
        renewed = self._traced_manifests(table)
        if not touched and not renewed:
            return None
        done = [self._done[path] for path in touched]
        return Change(
            written=WrittenRows(tuple(file for each in done for file in each.files), *layout),
            removed=[*touched.values(), *deletes.values()],
            summary={
                SUMMARY: self.erasure_id,
                f"{SUMMARY}.deleted": str(sum(each.deleted for each in done)),
                f"{SUMMARY}.pseudonymised": str(sum(each.pseudonymised for each in done)),
                f"{SUMMARY}.files": str(len(done)),
            },
            operation=Operation.OVERWRITE,
            forgets=True,
            renewed=renewed,
        )

    def _touched(self, live: LiveFiles) -> tuple[dict[str, LiveFile], dict[str, LiveFile]]:
        """Data files to be written again, and the delete files that are then of no use: traced ones, and theirs, to a fixpoint."""
        touched = {path: file for path, file in live.data.items() if self._is_traced(path)}
        deletes = {path: file for path, file in live.deletes.items() if self._is_traced(path)}
        while live.deletes:
            for file in touched.values():
                deletes.update({each.path: each for each in live.deletes_of(file)})
            wider = {p: f for p, f in live.data.items() if any(each.path in deletes for each in live.deletes_of(f))}
            if wider.keys() <= touched.keys():
                break
            touched.update(wider)
        return touched, deletes

    def _rewrite(self, table: Table, file: LiveFile, deletes: Iterable[LiveFile]) -> _Rewritten | None:
        """The rows of a file as the table shows them today, less the subject's; None where its trace is nothing we may touch."""
        task = FileScanTask(file.file, delete_files={each.file for each in deletes})
        rows = ArrowScan(table.metadata, table.io, table.schema(), AlwaysTrue()).to_table([task])
        left = without(rows, self.subject, self.columns, self.needles, self.pseudonym)
        if not left.deleted and not left.pseudonymised and not task.delete_files:
            return None
        return _Rewritten(write_rows(table, left.rows).files, left.deleted, left.pseudonymised)

    def _traced_manifests(self, table: Table) -> list[ManifestFile]:
        """Manifests that name a trace, be it in the entry of a file that another writer deleted."""
        snapshot = table.metadata.current_snapshot()
        manifests = snapshot.manifests(table.io) if snapshot is not None else []
        return [each for each in manifests if self._is_traced(each.manifest_path) or self._names_deleted(table, each)]

    def _names_deleted(self, table: Table, manifest: ManifestFile) -> bool:
        if not manifest.deleted_files_count:
            return False
        entries = manifest.fetch_manifest_entry(table.io, discard_deleted=False)
        gone = (entry.data_file.file_path for entry in entries if entry.status == ManifestEntryStatus.DELETED)
        if any(self.known.get(canonical(path), False) for path in gone):
            self.known[canonical(manifest.manifest_path)] = True  # so that the snapshots that reach it expire
            return True
        return False

    def _is_traced(self, location: str) -> bool:
        path = canonical(location)
        if path not in self.known:
            if path.endswith(".avro"):
                return (
                    False  # a manifest that came meanwhile names files that are looked into; its bounds the final search judges
                )
            _, findings = look(self.storage.read(path), self.needles, Whose(self.subject.tenant), {})
            self.known[path] = bool(findings.traces)
        return self.known[path]
