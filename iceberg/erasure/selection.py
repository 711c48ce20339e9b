"""Tells a subject's rows from all others, and what is left of a table's rows without them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from iceberg.erasure.needles import Needles
from iceberg.erasure.scan.parquet_files import joined
from iceberg.subjects import TENANT, SubjectColumns


@dataclass(frozen=True)
class Subject:
    """One entity or user; of one tenant, or of every tenant that has one of that name (None)."""

    tenant: str | None
    name: str


@dataclass(frozen=True)
class Remainder:
    """Rows without the subject, and how many were deleted and rewritten."""

    rows: pa.Table
    deleted: int
    pseudonymised: int


def rows_about(rows: pa.Table, subject: Subject, columns: SubjectColumns) -> pa.Array:
    """Which rows have the subject's name in a column for names; rows of no tenant count as the subject's."""
    return pc.and_(_within_tenant(rows, subject), _any(rows, columns.names, [subject.name]))


def derived_ids(rows: pa.Table, subject: Subject, columns: SubjectColumns) -> set[str]:
    """The ids of predictions that stand in the subject's rows."""
    if columns.keep_rows or not columns.names:
        return set()
    about = rows.filter(rows_about(rows, subject, columns))
    return {value for name in columns.ids if name in about.column_names for value in about.column(name).to_pylist() if value}


def without(rows: pa.Table, subject: Subject, columns: SubjectColumns, needles: Needles, pseudonym: str) -> Remainder:
    """Take the subject out of rows: delete what is about it, replace its name where it is only mentioned.

    Order, types and all other rows stay as they are.
    """
    within = _within_tenant(rows, subject)
    deleted = 0
    if not columns.keep_rows:
        about = _any(rows, columns.names, [subject.name])
        derived = _any(rows, columns.ids, sorted(needles.derived))
        gone = pc.or_(pc.and_(within, about), derived)
        deleted = pc.sum(gone).as_py() or 0
        rows, within = rows.filter(pc.invert(gone)), within.filter(pc.invert(gone))
    mentions = (*columns.names, *columns.texts) if columns.keep_rows else columns.texts
    touched = pa.array([False] * rows.num_rows, pa.bool_())
    for name in mentions:
        if name not in rows.column_names:
            continue
        rows, here = _replaced(rows, name, within, needles, pseudonym)
        touched = pc.or_(touched, here)
    return Remainder(rows, deleted, pc.sum(touched).as_py() or 0)


def _within_tenant(rows: pa.Table, subject: Subject) -> pa.ChunkedArray | pa.Array:
    if subject.tenant is None or TENANT not in rows.column_names:
        return pa.array([True] * rows.num_rows, pa.bool_())
    return pc.fill_null(pc.equal(rows.column(TENANT), subject.tenant), True)


def _any(rows: pa.Table, columns: tuple[str, ...], values: list[str]) -> pa.Array | pa.ChunkedArray:
    found = pa.array([False] * rows.num_rows, pa.bool_())
    for name in columns:
        if name in rows.column_names and values:
            column = rows.column(name)
            found = pc.or_(found, pc.is_in(column, value_set=pa.array(values, column.type)))
    return found


def _replaced(
    rows: pa.Table, name: str, within: pa.Array | pa.ChunkedArray, needles: Needles, pseudonym: str
) -> tuple[pa.Table, pa.Array]:
    column = rows.column(name).combine_chunks()
    offsets, content = joined(column)
    ours = within.to_numpy(zero_copy_only=False) if isinstance(within, pa.Array) else within.to_numpy()
    here = np.zeros(rows.num_rows, dtype=np.bool_)
    for hit in needles.in_text(content):
        at = int(np.searchsorted(offsets, hit.offset, side="right")) - 1
        here[at] |= bool(ours[at]) or hit.needle != needles.name_bytes
    if here.any():
        values = column.to_pylist()
        for at in np.flatnonzero(here).tolist():
            values[at] = needles.replaced(values[at], pseudonym)
        position = rows.column_names.index(name)
        rows = rows.set_column(position, rows.schema.field(position), pa.array(values, column.type))
    return rows, pa.array(here)
