"""Erases a subject from all tables, and its bytes from the warehouse.

    1  search      decode every file; find the ids derived from the subject        journal: ids, what was found
    2  rewrite     each table's head without the subject, one commit a table       journal: rows, snapshot
    3  expire      every snapshot, tag and statistics file that reaches a trace    journal first: the files that go
    4  delete      those files, old metadata, and stray files with a trace
    5  prove       decode every file again; certificate

Every step can be killed and made again: it looks at what is there. Writers go on meanwhile. At the moment of a table's commit
in step 2 it holds nothing of the subject; what arrives later is a matter for the next erasure, and the certificate says so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table
from pyiceberg.table.refs import MAIN_BRANCH

from core.clock import Clock, SystemClock
from iceberg.catalog import warehouse_location
from iceberg.erasure import affected, certificate
from iceberg.erasure.journal import CERTIFICATE, JournalFile, only_one, write_json
from iceberg.erasure.needles import Needles
from iceberg.erasure.reach import Reach, forget, is_cut_off
from iceberg.erasure.rewrite import SUMMARY, HeadErasure
from iceberg.erasure.scan import parquet_files
from iceberg.erasure.scan.scanner import Looked, Scan, scan_warehouse
from iceberg.erasure.scan.traces import Findings, Whose
from iceberg.erasure.selection import Subject, derived_ids
from iceberg.erasure.verdict import entry_of, is_a_writers, judge, summarise
from iceberg.holds import holds_on_subject, refuse_if_subject_held
from iceberg.loading import must_load, table_names
from iceberg.storage import Storage, canonical, no_progress, type_progress
from iceberg.subjects import TENANT, SubjectColumns, columns_of

# A writer's file may lie unreferenced for so long before its commit (an append is given up after 30 s), never longer.
IN_FLIGHT = timedelta(minutes=15)


Outside = Callable[[Needles, Whose], Sequence[Mapping[str, Any]]]
"""Looks into what is not the warehouse, and says of each place what was found."""


def _nothing_outside(_needles: Needles, _whose: Whose) -> Sequence[Mapping[str, Any]]:
    return ()


@dataclass
class Eraser:
    """Everything an erasure needs.

    Args:
        folder: for journals and certificates, outside of the warehouse.
        in_flight: unreferenced files that are younger belong to writers, and are left to them.
        outside: what the certificate says of places beyond the warehouse.
        failpoint: called with the name of each step; tests kill the process there.
        progress: called with what is being done, done and all.
    """

    catalog: Catalog
    warehouse: str
    folder: Path
    clock: Clock = field(default_factory=SystemClock)
    in_flight: timedelta = IN_FLIGHT
    outside: Outside = _nothing_outside
    failpoint: Callable[[str], None] = lambda _step: None
    progress: type_progress = no_progress

    def __post_init__(self) -> None:
        self.warehouse = warehouse_location(self.warehouse)
        self.storage = Storage(self.catalog.properties)

    def plan(self, subject: Subject) -> dict[str, Any]:
        """Say what erasing would do; nothing is changed."""
        tables = self._tables()
        needles = Needles(subject.name, frozenset(self._derived(subject, tables)))
        scan = self._scan(needles, subject)
        per_table = self._touched(tables, scan)
        held = holds_on_subject(self.catalog, subject.name, tenant_id=subject.tenant, tables=per_table)
        return {
            "subject": {"tenant": subject.tenant, "name": subject.name},
            "held": [asdict(hold) for hold in held],
            "derived_ids": len(needles.derived),
            "tables": per_table,
            "found": summarise(scan),
            "traced_files": [entry_of(looked) for looked in scan.traced.values()],
            "affected": affected.find(self.catalog, subject, per_table),
        }

    def erase(self, subject: Subject) -> dict[str, Any]:
        """Erase, and return the certificate.

        Raises:
            HeldError: a legal hold is on the subject, its tenant, or a table that it stands in; nothing was changed.
            UnavailableError: writers were faster all the time, or the storage does not answer; call again to go on.
        """
        with only_one(self.folder):
            return self._erase(JournalFile.open(self.folder, subject, self.clock.now()))

    # -- below: called by the above

    def _erase(self, file: JournalFile) -> dict[str, Any]:
        journal, subject = file.journal, file.journal.subject
        tables = self._tables()
        derived = set(journal.derived) | self._derived(subject, tables)
        needles = Needles(subject.name, frozenset(derived))
        before = self._scan(needles, subject)
        touched = self._touched(tables, before)
        refuse_if_subject_held(
            self.catalog, "erasing the subject", subject.name, tenant_id=subject.tenant, tables=sorted(touched)
        )
        journal.derived = sorted(derived)
        journal.before = journal.before or summarise(before)
        journal.affected = journal.affected or affected.find(self.catalog, subject, touched)
        file.save()
        self.failpoint("searched")

        known = {path: bool(looked.findings.traces) for path, looked in before.files.items()}
        for name, (table, columns) in tables.items():
            head = HeadErasure(self.storage, subject, columns, needles, journal.pseudonym, journal.erasure_id, known)
            head.commit(table, self.clock, self.failpoint)
            self._note(journal.tables, name, table, columns, journal.erasure_id, head.stuck)
            file.save()
            self.failpoint("rewritten")

        refuse_if_subject_held(
            self.catalog, "erasing the subject", subject.name, tenant_id=subject.tenant, tables=sorted(touched)
        )
        reach, traced = Reach(), {path for path, is_traced in known.items() if is_traced}
        for name, (table, _) in tables.items():
            self._expire(file, reach, name, table, before, traced)
        self._strays(file, reach, tables, before)
        self._delete(file, reach, tables)
        return self._prove(file, needles)

    def _tables(self) -> dict[str, tuple[Table, SubjectColumns]]:
        loaded = {name: must_load(self.catalog, name) for name in table_names(self.catalog)}
        return {name: (table, columns_of(name, table.metadata)) for name, table in loaded.items()}

    def _scan(self, needles: Needles, subject: Subject) -> Scan:
        return scan_warehouse(
            self.storage,
            self.warehouse,
            needles,
            Whose(subject.tenant),
            progress=lambda done, all_: self.progress("search", done, all_),
        )

    def _derived(self, subject: Subject, tables: Mapping[str, tuple[Table, SubjectColumns]]) -> set[str]:
        """From every Parquet file below the warehouse, whoever refers to it: ids in rows about the subject."""
        declared = {canonical(table.location()): columns for table, columns in tables.values()}
        found: set[str] = set()
        for file in self.storage.files(self.warehouse):
            columns = next((c for place, c in declared.items() if file.location.startswith(f"{place}/")), SubjectColumns())
            if columns.keep_rows or not columns.ids or not columns.names:
                continue
            found |= _derived_in(self.storage, file.location, subject, columns)
        return found

    def _touched(self, tables: Mapping[str, tuple[Table, SubjectColumns]], scan: Scan) -> dict[str, dict[str, Any]]:
        """The tables that the subject stands in, and what has to go from each; its present snapshot goes after the rewrite."""
        reach, traced = Reach(), scan.traced
        result = {}
        for name, (table, columns) in tables.items():
            doomed = reach.doomed(table, traced)
            hit = sorted(path for path in reach.head(table) if path in traced)
            if not doomed.snapshots and not hit:
                continue
            current = table.metadata.current_snapshot_id
            refs = {ref: each.snapshot_id for ref, each in table.metadata.refs.items() if ref != MAIN_BRANCH}
            result[name] = {
                "files_to_rewrite": [path for path in hit if traced[path].kind == "parquet"],
                "snapshots_to_expire": [*doomed.snapshots, *([current] if hit else [])],
                "refs_to_remove": sorted(
                    {*doomed.refs, *(ref for ref, snapshot in refs.items() if hit and snapshot == current)}
                ),
                "keeps_rows": columns.keep_rows,
            }
        return result

    def _note(
        self,
        notes: dict[str, dict[str, Any]],
        name: str,
        table: Table,
        columns: SubjectColumns,
        erasure_id: str,
        stuck: Iterable[str],
    ) -> None:
        """What was done to a table, from its snapshots: those tell it after a crash, too."""
        ours = [s for s in table.metadata.snapshots if s.summary is not None and s.summary.get(SUMMARY) == erasure_id]
        head = table.metadata.current_snapshot()
        last = ours[-1] if ours else head
        if name in notes and not ours:
            return  # its snapshot has gone since; what was noted stands

        def count(what: str) -> int:
            return sum(int(s.summary.get(f"{SUMMARY}.{what}") or 0) for s in ours if s.summary is not None)

        notes[name] = {
            "rows_deleted": count("deleted"),
            "rows_pseudonymised": count("pseudonymised"),
            "files_rewritten": count("files"),
            "kept_because": columns.reason if columns.keep_rows and ours else None,
            "snapshot": last.snapshot_id if last is not None else None,
            "sequence_number": last.sequence_number if last is not None else 0,
            "as_of": _iso(last.timestamp_ms) if last is not None and ours else self.clock.now().isoformat(),
            "files_with_undeclared_traces": sorted(canonical(path) for path in stuck),
            "snapshots_expired": notes.get(name, {}).get("snapshots_expired", []),
            "refs_removed": notes.get(name, {}).get("refs_removed", []),
        }

    def _expire(self, file: JournalFile, reach: Reach, name: str, table: Table, before: Scan, traced: Collection[str]) -> None:
        table.refresh()
        doomed = reach.doomed(table, traced)
        if not doomed.snapshots and not doomed.statistics:
            if is_cut_off(table):
                forget(table, doomed)
            return
        note = file.journal.tables[name]
        note["snapshots_expired"] = sorted({*note["snapshots_expired"], *doomed.snapshots})
        note["refs_removed"] = sorted({*note["refs_removed"], *doomed.refs})
        self._doom(file, doomed.files, before, f"reached only by expired snapshots of {name}")
        former = [canonical(entry.metadata_file) for entry in table.metadata.metadata_log]
        self._doom(file, [*former, canonical(table.metadata_location)], before, "metadata of before")
        file.save()
        self.failpoint("doomed")
        forget(table, doomed)
        self.failpoint("expired")

    def _strays(
        self, file: JournalFile, reach: Reach, tables: Mapping[str, tuple[Table, SubjectColumns]], before: Scan
    ) -> None:
        """Files with a trace that nothing refers to, old metadata included; the young ones belong to writers."""
        reachable = affected.artifacts(self.catalog, self.warehouse)
        for table, _ in tables.values():
            table.refresh()
            reachable |= reach.everything(table)
        oldest = self.clock.now() - self.in_flight
        stray = [
            path
            for path, looked in before.traced.items()
            if path not in reachable
            and looked.kind != "sqlite"  # a catalog may lie in its warehouse
            and (looked.changed_at <= oldest or not is_a_writers(looked))
        ]
        self._doom(file, stray, before, "nothing refers to it")
        file.save()
        self.failpoint("strays doomed")

    def _doom(self, file: JournalFile, paths: Iterable[str], before: Scan, reason: str) -> None:
        for path in sorted(paths):
            if path in file.journal.doomed:
                continue
            looked = before.files.get(path)
            if looked is None:
                try:
                    data = self.storage.read(path)
                except FileNotFoundError:
                    continue
                looked = _as_is(path, data, self.clock.now())
            file.journal.doomed[path] = {**entry_of(looked), "reason": reason}

    def _delete(self, file: JournalFile, reach: Reach, tables: Mapping[str, tuple[Table, SubjectColumns]]) -> None:
        """Delete what the journal dooms, unless something refers to it after all."""
        reachable: set[str] = set()
        for table, _ in tables.values():
            table.refresh()
            reachable |= reach.everything(table)
        # Metadata last: whoever has just read an old pointer gets the longest time to read the file behind it.
        doomed = sorted(file.journal.doomed, key=lambda path: (path.endswith(".json"), path))
        for done, path in enumerate(doomed, start=1):
            if path not in reachable:
                self.storage.remove([path])
            self.failpoint("deleted")
            self.progress("delete", done, len(doomed))

    def _prove(self, file: JournalFile, needles: Needles) -> dict[str, Any]:
        journal = file.journal
        after = self._scan(needles, journal.subject)
        verdict = judge(self.catalog, after, journal.tables, datetime.fromisoformat(journal.started_at), self.in_flight)
        outside = list(self.outside(needles, Whose(journal.tenant)))
        document = certificate.seal(
            {
                "format": certificate.FORMAT,
                "erasure_id": journal.erasure_id,
                "subject": {"tenant": journal.tenant, "name": journal.name},
                "derived_ids": journal.derived,
                "started_at": journal.started_at,
                "finished_at": self.clock.now().isoformat(),
                "resumed": journal.resumed,
                "warehouse": canonical(self.warehouse),
                "tables": journal.tables,
                "rows_deleted": sum(note["rows_deleted"] for note in journal.tables.values()),
                "rows_pseudonymised": sum(note["rows_pseudonymised"] for note in journal.tables.values()),
                "snapshots_expired": sum(len(note["snapshots_expired"]) for note in journal.tables.values()),
                "files_deleted": [entry for path, entry in journal.doomed.items() if path not in after.files],
                "bytes_deleted": sum(e["bytes"] for path, e in journal.doomed.items() if path not in after.files),
                "affected": journal.affected,
                "before": journal.before,
                "after": {**summarise(after), **verdict},
                "scanned": [
                    {"path": f.path, "kind": f.kind, "bytes": f.size, "sha256": f.sha256} for f in after.files.values()
                ],
                "outside": outside,
                "clean": verdict["clean"],
            },
            self.folder,
        )
        write_json(file.folder / CERTIFICATE, document)
        self.failpoint("certified")
        file.remove()
        return document


def _derived_in(storage: Storage, path: str, subject: Subject, columns: SubjectColumns) -> set[str]:
    try:
        with storage.open(path) as stream:
            if stream.read(len(parquet_files.MAGIC)) != parquet_files.MAGIC:
                return set()
        with pq.ParquetFile(pa.BufferReader(storage.read(path))) as file:
            have = [name for name in (TENANT, *columns.names, *columns.ids) if name in file.schema_arrow.names]
            return derived_ids(file.read(have), subject, columns)
    except (FileNotFoundError, pa.ArrowException, OSError):
        return set()  # the search reports what cannot be read


def _as_is(path: str, data: bytes, now: datetime) -> Looked:
    return Looked(path, "other", len(data), hashlib.sha256(data).hexdigest(), now, Findings())


def _iso(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat()
