"""Appends rows that depend on the head they are committed on: the next number, or nothing where somebody was faster."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa
from pyiceberg.expressions import BooleanExpression
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.table import Table

from core.clock import Clock
from iceberg.appends import WrittenRows, remove_files, write_rows
from iceberg.commits import commit_on_head
from iceberg.rows import conform
from iceberg.staging import Change

type_row = Mapping[str, Any]  # Any: values that Arrow gives for a table's columns
type_rows = Sequence[type_row]


def append_rows(table: Table, make: Callable[[Table], type_rows], *, clock: Clock | None) -> type_rows:
    """Append what `make` makes of the head, and return it; no commit where it makes nothing.

    Args:
        table: refreshed at each attempt.
        make: called again with each new head; what it raises ends the append, and nothing was added.
        clock: stamps the snapshot.

    Raises:
        UnavailableError: not committed; try again.
    """
    append = _Append(make)
    commit_on_head(table, append.plan, clock=clock)
    return append.rows


def scan_rows(table: Table, scope: BooleanExpression) -> type_rows:
    """The rows within a scope, as they stand at the table's head."""
    rows: type_rows = table.scan(row_filter=scope).to_arrow().to_pylist()
    return rows


class _Append:
    """Plans the append; the files of attempts that lost a race are removed."""

    def __init__(self, make: Callable[[Table], type_rows]) -> None:
        self._make = make
        self._written: WrittenRows | None = None
        self.rows: type_rows = ()

    def plan(self, head: Table) -> Change | None:
        if self._written is not None:  # that attempt did not land, or nobody would ask again
            remove_files(head.io, self._written.paths)
            self._written = None
        self.rows = self._make(head)
        if not self.rows:
            return None
        schema = schema_to_pyarrow(head.schema(), include_field_ids=False)
        names = {name for row in self.rows for name in row}
        given = pa.schema([field for field in schema if field.name in names])
        self._written = write_rows(
            head, conform(head, pa.Table.from_pylist([dict(row) for row in self.rows], schema=given), {})
        )
        return Change(self._written)
