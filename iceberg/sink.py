"""Appends to a table, and merges into it, exactly once.

A sink's last epoch is a property of the table, set in the very commit that adds the epoch's rows:

    headrace.sink.<uuid>.epoch = 17

So after any crash the property says which epochs are in the table, whole. (The summary of a snapshot would not do: it goes
when the snapshot expires.) An append is

    1  write the data files                                    crash: orphan files, nobody sees them
    2  read the head; is the epoch in already? then done
    3  write manifest and manifest list, tied to that head     crash: orphan files
    4  swap the table's pointer                                crash: in, or not in; step 2 of the next try tells

Several sinks, in any number of threads and processes, may share a table. When another one wins step 4, ours goes back to
step 2 with the same data files (`iceberg.commits`).
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import timedelta

import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from core.clock import Clock, SystemClock
from core.errors import InvalidInputError
from iceberg.appends import WrittenRows, remove_files, write_rows
from iceberg.commits import PATIENCE, commit_on_head, type_failpoint
from iceberg.loading import must_load
from iceberg.merge import MergeWork
from iceberg.rows import conform
from iceberg.staging import Change


def epoch_property(sink_id: uuid.UUID) -> str:
    """The name of the table property that holds a sink's last epoch."""
    return f"headrace.sink.{sink_id}.epoch"


class ExactlyOnceTable:
    """One sink's way into one table. Not for two threads at once: give each its own; they may share the catalog.

    Args:
        catalog: from `open_catalog`.
        identifier: e.g. `lake.predictions`; the table exists.
        sink_id: the sink's lasting identity.
        patience: how long an append goes on against conflicts and outages before it gives up.
        clock: stamps snapshots.
        failpoint: called with `files written`, `deletes written`, `staged`, `committed` after these steps; tests kill the process there.

    Raises:
        NotFoundError: the table does not exist.
        CorruptDataError: its metadata is missing or unreadable.
    """

    def __init__(
        self,
        catalog: Catalog,
        identifier: str,
        sink_id: uuid.UUID,
        *,
        patience: timedelta = PATIENCE,
        clock: Clock | None = None,
        failpoint: type_failpoint = lambda _: None,
    ) -> None:
        self._property = epoch_property(sink_id)
        self._identifier = identifier
        self._patience = patience
        self._clock = clock or SystemClock()
        self._failpoint = failpoint
        self._table = must_load(catalog, identifier)

    def last_epoch(self) -> int:
        """Read the last epoch that is in the table from the catalog; 0 if there is none."""
        self._table.refresh()
        return _stored_epoch(self._table, self._property)

    def append(self, epoch: int, rows: pa.Table, epochs: pa.ChunkedArray | None = None) -> bool:
        """Add rows and set the epoch in one commit; add nothing and return False when the epoch is in already.

        Args:
            epoch: at least 1. One that is not greater than the stored epoch is a no-op.
            rows: columns by name, see `iceberg.rows.conform`; May be empty: then only the epoch is recorded. Missing columns
                `sink_epoch` and `sink_time` are filled with the epoch and the time of writing.
            epochs: int64, the epoch of each row where not all are of `epoch`.

        Raises:
            InvalidInputError: the rows do not fit the table.
            UnavailableError: not committed, or not known to be, within `patience`; make the same call again.
        """
        if epoch < 1:
            raise InvalidInputError(f"epoch `{epoch}` is less than 1", where=self._identifier, fix="Epochs begin at 1.")
        stamps = {"sink_epoch": epoch if epochs is None else epochs, "sink_time": self._clock.now()}
        append = _Append(epoch, rows, stamps, self._property, self._failpoint)
        return commit_on_head(self._table, append.plan, clock=self._clock, patience=self._patience, failpoint=self._failpoint)

    def merge(
        self,
        epoch: int,
        *,
        key: Sequence[str],
        upserts: pa.Table | None = None,
        deletes: pa.Table | None = None,
        epochs: pa.ChunkedArray | None = None,
    ) -> bool:
        """Upsert and delete rows by key and set the epoch in one commit; do nothing when the epoch is in already.

        Args:
            epoch: as with `append`; missing columns `sink_epoch` and `sink_time` of the upserts are filled as there.
            key: columns that name a row.
            upserts: rows to write, each key once; rows of the table with the same key go.
            deletes: keys whose rows go.
            epochs: int64, the epoch of each upsert where not all are of `epoch`.

        Raises:
            InvalidInputError: the rows or keys do not fit the table, see `iceberg.merge.merge`.
            UnavailableError: not committed, or not known to be, within `patience`; make the same call again.
        """
        if epoch < 1:
            raise InvalidInputError(f"epoch `{epoch}` is less than 1", where=self._identifier, fix="Epochs begin at 1.")

        def marker(table: Table) -> Mapping[str, str] | None:
            return None if _stored_epoch(table, self._property) >= epoch else {self._property: str(epoch)}

        work = MergeWork(
            self._table,
            key,
            upserts,
            deletes,
            constants={"sink_epoch": epoch if epochs is None else epochs, "sink_time": self._clock.now()},
            marker=marker,
            summary=_summary(self._property, epoch),
            failpoint=self._failpoint,
        )
        return commit_on_head(self._table, work.plan, clock=self._clock, patience=self._patience, failpoint=self._failpoint)


class _Append:
    """One epoch's rows; written once, and again only when the table's schema or partitioning changes in between."""

    def __init__(
        self, epoch: int, rows: pa.Table, stamps: Mapping[str, object], property_name: str, failpoint: type_failpoint
    ) -> None:
        self._epoch = epoch
        self._rows = rows
        self._stamps = stamps
        self._property = property_name
        self._failpoint = failpoint
        self._written: WrittenRows | None = None

    def plan(self, table: Table) -> Change | None:
        if _stored_epoch(table, self._property) >= self._epoch:
            if self._written is not None:  # another writer in our name was faster; ours are in no snapshot
                remove_files(table.io, self._written.paths)
            return None
        if self._written is None or not self._written.fits(table.metadata):
            if self._written is not None:
                remove_files(table.io, self._written.paths)
            self._written = write_rows(table, conform(table, self._rows, self._stamps))
            self._failpoint("files written")
        return Change(self._written, {self._property: str(self._epoch)}, _summary(self._property, self._epoch))


def _summary(property_name: str, epoch: int) -> dict[str, str]:
    """For people and for `headrace tables check`; the property is what counts."""
    return {"headrace.epoch": str(epoch), "headrace.sink": property_name.split(".")[2]}


def _stored_epoch(table: Table, property_name: str) -> int:
    return int(table.metadata.properties.get(property_name, "0"))
