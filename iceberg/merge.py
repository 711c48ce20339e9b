"""Upserts and deletes by key, in one commit.

    keys --> data files whose statistics leave room for one --> their key columns only --> positions of the rows that go
    rows --> new data files                                                                       |
                                                      position deletes <--------------------------'

Rows that go are named by position; the files that hold them stay as they are (a file all of whose rows are dead leaves the
table). So the cost is that of reading the key columns and writing the new rows, whatever else the rows hold, and PyIceberg's
scan and any engine that knows format version 2 read the result. Why not equality deletes or rewritten files: ADR 0012.

**Races.** What was found in a data file stays true as long as the file is in the table, because files are immutable. When
another writer wins, only the files that it brought are looked into, so a merge is serialised after all that it lost to: rows that
were appended meanwhile are replaced if their key is among ours, and of two merges of one key the later one stands.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation

from core.clock import Clock
from core.errors import InvalidInputError
from iceberg.appends import NOTHING, WrittenRows, remove_files, write_rows
from iceberg.commits import PATIENCE, commit_on_head, type_failpoint
from iceberg.key_search import Hit, KeySearch
from iceberg.keys import KeySet, check_keys, key_fields, type_duplicates
from iceberg.live_files import LiveFile, LiveFiles, ManifestReader
from iceberg.loading import must_load
from iceberg.positions import DeadRows, is_of_one_file, type_positions, write_positions
from iceberg.rows import conform
from iceberg.staging import Change

MERGED_PROPERTY = "headrace.replaced-records"
"""In the summary of every snapshot that a merge made: how many rows went because others came in."""

type_marker = Callable[[Table], Mapping[str, str] | None]


@dataclass(frozen=True)
class Merged:
    """What a merge did; of a merge that was in already, or found nothing to do, nothing.

    Attributes:
        committed: whether this call made a snapshot.
        written: rows that came in.
        replaced: rows that went because one with their key came in.
        deleted: rows that went because their key was to be deleted.
        files_read: data files whose key columns were read.
        files_left_out: data files that cannot hold a key by their statistics.
        attempts: how often it was planned; each time but the last another writer was faster.
    """

    committed: bool = False
    written: int = 0
    replaced: int = 0
    deleted: int = 0
    files_read: int = 0
    files_left_out: int = 0
    attempts: int = 0


def upsert(
    catalog: Catalog,
    identifier: str,
    rows: pa.Table,
    *,
    key: Sequence[str],
    duplicates: type_duplicates = "refuse",
    **options: Any,
) -> Merged:
    """Write rows; those of the table that have one of their keys go. See `merge`."""
    return merge(catalog, identifier, upserts=rows, key=key, duplicates=duplicates, **options)


def delete_by_key(catalog: Catalog, identifier: str, keys: pa.Table, **options: Any) -> Merged:
    """Delete the rows that have one of the keys, given by columns of their names; keys that are not there are no matter."""
    return merge(catalog, identifier, deletes=keys, key=keys.column_names, **{"duplicates": "last", **options})


def merge(
    catalog: Catalog,
    identifier: str,
    *,
    key: Sequence[str],
    upserts: pa.Table | None = None,
    deletes: pa.Table | None = None,
    duplicates: type_duplicates = "refuse",
    constants: Mapping[str, Any] | None = None,
    patience: timedelta = PATIENCE,
    clock: Clock | None = None,
    failpoint: type_failpoint = lambda _: None,
) -> Merged:
    """Upsert and delete rows by key in one commit, or in none.

    Args:
        catalog: from `open_catalog`.
        identifier: e.g. `lake.features_plant`; the table exists.
        key: columns that name a row. Where the table holds several rows of one key, all of them go.
        upserts: rows to write, see `iceberg.rows.conform`. A row may lie in another partition than the one that it replaces.
        deletes: keys to delete; further columns are ignored. A key must not be in both.
        duplicates: `refuse` keys that come twice among the upserts or the deletes, or let the `last` row of each count.
        constants: values for columns that the upserts lack.
        patience: how long to go on against conflicts and outages.
        clock: stamps the snapshot.
        failpoint: called with `files written`, `deletes written`, `staged`, `committed`; tests kill the process there.

    Raises:
        InvalidInputError: a key is NULL, not comparable, or comes twice; rows do not fit the table; the table has equality
            deletes.
        NotFoundError: the table does not exist.
        UnavailableError: not committed, or not known to be, within `patience`; the same call again does no harm.
    """
    table = must_load(catalog, identifier)
    work = MergeWork(table, key, upserts, deletes, duplicates=duplicates, constants=constants or {}, failpoint=failpoint)
    committed = commit_on_head(table, work.plan, clock=clock, patience=patience, failpoint=failpoint)
    return work.result(committed)


class MergeWork:
    """Plans one merge on one head after the other.

    Args:
        table: has the key's columns.
        key: see `merge`, as are all others but these:
        marker: asked with each head for properties that are set in the same commit; None means that the merge is in already.
    """

    def __init__(
        self,
        table: Table,
        key: Sequence[str],
        upserts: pa.Table | None,
        deletes: pa.Table | None,
        *,
        duplicates: type_duplicates = "refuse",
        constants: Mapping[str, Any] | None = None,
        marker: type_marker | None = None,
        summary: Mapping[str, str] | None = None,
        failpoint: type_failpoint = lambda _: None,
    ) -> None:
        self._where = ".".join(table.name())
        self._key = tuple(key)
        key_fields(table, key)
        self._constants = dict(constants or {})
        self._upserts = self._checked(upserts, duplicates)
        self._deletes = self._checked(deletes, duplicates)
        self._marker = marker
        self._summary = dict(summary or {})
        self._failpoint = failpoint
        self._manifests = ManifestReader()
        self._dead = DeadRows()
        self._written: WrittenRows = NOTHING
        self._searched: KeySearch | None = None
        self._delete_files: dict[str, tuple[type_positions, DataFile]] = {}
        self._counts = Merged()
        self._attempts = 0

    def plan(self, table: Table) -> Change | None:
        """What to change on this head; None where nothing is left to do."""
        self._attempts += 1
        properties = self._marker(table) if self._marker is not None else {}
        if properties is None:  # another writer in our name was faster; our files are in no snapshot
            self._counts = Merged()
            self._forget(table, self._written.paths)
            self._forget_deletes(table, ())
            return None
        files = self._manifests.read(table)
        search = self._search(table)
        with ThreadPoolExecutor(1) as beside:
            to_write = self._upserts is not None and not self._written.fits(table.metadata)
            writing = beside.submit(self._write, table) if to_write else None
            hits = search.look_into(table, files, self._dead)
        removed, dead = self._split(files, hits, table)
        if self._upserts is None and not hits and self._marker is None:
            return None
        if writing is not None:
            writing.result()
            self._failpoint("files written")
        deletes = self._write_deletes(table, dead)
        self._counts = Merged(
            True,
            self._upserts.num_rows if self._upserts is not None else 0,
            sum(hit.replaced for hit in hits.values()),
            sum(hit.deleted for hit in hits.values()),
            search.files_read,
            search.files_left_out,
        )
        return Change(
            self._written,
            properties,
            {
                **self._summary,
                MERGED_PROPERTY: str(self._counts.replaced),
                "headrace.deleted-records": str(self._counts.deleted),
            },
            deletes=deletes,
            removed=removed,
            operation=_operation(self._written, deletes, removed),
        )

    def result(self, committed: bool) -> Merged:
        """What was done, after the commit."""
        return (
            Merged(**{**vars(self._counts), "committed": committed, "attempts": self._attempts})
            if committed
            else Merged(attempts=self._attempts)
        )

    def _write(self, table: Table) -> None:
        self._forget(table, self._written.paths)
        self._written = NOTHING
        self._written = write_rows(table, conform(table, self._upserts, self._constants))

    def _checked(self, rows: pa.Table | None, duplicates: type_duplicates) -> pa.Table | None:
        if rows is None or rows.num_rows == 0:
            return None
        missing = [name for name in self._key if name not in rows.column_names]
        if missing:
            raise InvalidInputError(
                f"the rows lack the key column `{', '.join(missing)}`", where=self._where, fix="Give each row its whole key."
            )
        return check_keys(rows, self._key, duplicates, self._where)

    def _search(self, table: Table) -> KeySearch:
        """The lookup of our keys under the table's present schema."""
        if self._searched is None or self._searched.schema_id != table.metadata.current_schema_id:
            upserts = self._keys(table, self._upserts)
            deletes = self._keys(table, self._deletes)
            if len(upserts) and len(deletes):
                both = upserts.join(deletes, keys=list(self._key), join_type="left semi")
                if both.num_rows:
                    example = ", ".join(f"{name} = {both.column(name)[0].as_py()!r}" for name in self._key)
                    raise InvalidInputError(
                        f"{both.num_rows} keys are to be both written and deleted, e.g. `{example}`",
                        where=self._where,
                        fix="Keep the last change of each key.",
                    )
            self._searched = KeySearch(table, KeySet(table, upserts, self._key), KeySet(table, deletes, self._key))
        return self._searched

    def _keys(self, table: Table, rows: pa.Table | None) -> pa.Table:
        """The key columns in the table's types."""
        target = [table.schema().as_arrow().field(name) for name in self._key]
        columns = []
        for field in target:
            if rows is None:
                columns.append(pa.chunked_array([], field.type))
                continue
            try:
                columns.append(rows.column(field.name).cast(field.type))
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
                raise InvalidInputError(
                    f"key column `{field.name}` of type `{rows.column(field.name).type}` does not fit the table's `{field.type}`: {error}",
                    where=self._where,
                    fix="Cast it first.",
                ) from error
        return pa.table(columns, names=list(self._key))

    def _split(
        self, files: LiveFiles, hits: Mapping[str, Hit], table: Table
    ) -> tuple[list[LiveFile], dict[str, tuple[DataFile, type_positions]]]:
        """Files that go whole, with their own delete files; and of the others all dead positions."""
        removed: list[LiveFile] = []
        dead: dict[str, tuple[DataFile, type_positions]] = {}
        for path, hit in hits.items():
            live = files.data[path]
            before = self._dead.of(live, files, table.io)
            own = [delete for delete in files.deletes_of(live) if is_of_one_file(delete.file)]
            removed.extend(own)
            if len(before) + len(hit.positions) == live.file.record_count:
                removed.append(live)
            else:
                dead[path] = (live.file, np.union1d(before, hit.positions))
        return removed, dead

    def _write_deletes(self, table: Table, dead: Mapping[str, tuple[DataFile, type_positions]]) -> list[DataFile]:
        """Delete files of this attempt; those of the last attempt are taken again where nothing has changed."""
        same = {
            path
            for path, (positions, _) in self._delete_files.items()
            if path in dead and np.array_equal(positions, dead[path][1])
        }
        self._forget_deletes(table, same)
        missing = {path: each for path, each in dead.items() if path not in same}
        if missing:
            made = write_positions(table, missing)
            self._delete_files.update({path: (each[1], file) for (path, each), file in zip(missing.items(), made, strict=True)})
            self._failpoint("deletes written")
        return [file for _, file in self._delete_files.values()]

    def _forget_deletes(self, table: Table, keep: set[str] | tuple[str, ...]) -> None:
        gone = [path for path in self._delete_files if path not in keep]
        self._forget(table, [self._delete_files.pop(path)[1].file_path for path in gone])

    def _forget(self, table: Table, paths: Sequence[str]) -> None:
        remove_files(table.io, paths)


def _operation(written: WrittenRows, deletes: Sequence[DataFile], removed: Sequence[LiveFile]) -> Operation:
    if not deletes and not removed:
        return Operation.APPEND
    return Operation.OVERWRITE if written.files else Operation.DELETE
