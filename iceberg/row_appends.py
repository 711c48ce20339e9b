"""Appends single rows that depend on what the table holds: a next number, a state that may only be left once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa
from pyiceberg.expressions import BooleanExpression
from pyiceberg.table import Table

from iceberg.appends import WrittenRows, remove_files, write_rows
from iceberg.rows import conform
from iceberg.staging import Change

type_row = Mapping[str, Any]
type_rows = Sequence[type_row]
"""Rows of a table: values that Arrow gives for its columns."""


class RowAppend:
    """Plans the append of one row that depends on the head; the files of lost attempts are removed."""

    def __init__(self, make: Callable[[Table], type_row | None]) -> None:
        self._make = make
        self._written: WrittenRows | None = None
        self.row: type_row = {}

    def plan(self, head: Table) -> Change | None:
        if self._written is not None:
            remove_files(head.io, self._written.paths)
            self._written = None
        row = self._make(head)
        if row is None:
            return None
        self.row = row
        columns = {name: pa.array([value]) for name, value in row.items() if value is not None}
        self._written = write_rows(head, conform(head, pa.table(columns), {}))
        return Change(self._written)


def scan_rows(table: Table, scope: BooleanExpression) -> type_rows:
    """Read the rows of a table that meet a condition."""
    rows: type_rows = table.scan(row_filter=scope).to_arrow().to_pylist()
    return rows
