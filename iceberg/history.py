"""Reads a table as it was: by snapshot, or by a moment in the past.

Pages are cut by keyset: the next page starts after the last row's order columns, so it costs the same wherever it is, and on a
fixed snapshot no row is missed or seen twice. Conditions travel as values to PyIceberg, which leaves out partitions and files
by their statistics; and as files are visited in the order of the first order column, a page stops reading when no file that
is left can hold an earlier row:

    order by feature_end descending, limit 50
    file      a            b          c          d
    maximum   12:00:10     12:00:09   11:58:00   11:57:59      50 rows at or after 11:58:01 were found in a, b: stop
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import reduce
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.catalog import Catalog
from pyiceberg.conversions import from_bytes
from pyiceberg.expressions import BooleanExpression
from pyiceberg.expressions.visitors import bind
from pyiceberg.io.pyarrow import ArrowScan, schema_to_pyarrow
from pyiceberg.table import FileScanTask, Table
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.types import IntegerType, LongType, StringType, TimestampType, TimestamptzType

from core.errors import InvalidInputError, NotFoundError
from iceberg.loading import must_load
from iceberg.predicates import all_of, at_least, at_most, equals, greater_than, is_null, less_than, one_of

type_value = str | int | float | datetime
type_operator = Literal["=", "<", "<=", ">", ">="]

_PREDICATES = {"=": equals, "<": less_than, "<=": at_most, ">": greater_than, ">=": at_least}

# A page of 50 rows is mostly found in the first few files; later batches grow, so that a full scan is not cut to pieces.
_FIRST_FILES = 8

# The types whose statistics compare like their Arrow values.
_COMPARABLE = (TimestampType, TimestamptzType, LongType, IntegerType, StringType)


@dataclass(frozen=True)
class Condition:
    """`column operator value`; rows where the column is NULL do not meet it."""

    column: str
    operator: type_operator
    value: type_value


@dataclass(frozen=True)
class SnapshotInfo:
    """One commit of a table."""

    snapshot_id: int
    parent_id: int | None
    committed_at: datetime
    operation: str
    added_rows: int
    total_rows: int
    summary: Mapping[str, str]


def snapshots(catalog: Catalog, identifier: str) -> Sequence[SnapshotInfo]:
    """The snapshots that are kept of a table, newest first.

    Raises:
        NotFoundError: the table does not exist.
    """
    table = must_load(catalog, identifier)
    return [_info(table, entry.snapshot_id) for entry in reversed(table.history())]


def resolve_snapshot(
    catalog: Catalog, identifier: str, *, as_of: datetime | None = None, snapshot_id: int | None = None
) -> int | None:
    """Find the snapshot that was current at a moment, by default now; None where the table was still empty then.

    Keep the answer over the pages of one reading.

    Raises:
        InvalidInputError: both are given, or `as_of` has no time zone.
        NotFoundError: the table or snapshot does not exist, or the moment lies before the history that is kept.
    """
    snapshot = _snapshot(must_load(catalog, identifier), as_of, snapshot_id)
    return snapshot.snapshot_id if snapshot else None


def read_as_of(
    catalog: Catalog,
    identifier: str,
    *,
    as_of: datetime | None = None,
    snapshot_id: int | None = None,
    where: Sequence[Condition] = (),
    columns: Sequence[str] | None = None,
    order_by: Sequence[str] = ("feature_end", "prediction_id"),
    descending: bool = True,
    after: Sequence[type_value | None] | None = None,
    limit: int | None = None,
) -> pa.Table:
    """Read one page of a table as it was.

    Args:
        catalog: from `open_catalog`.
        identifier: e.g. `lake.predictions`.
        as_of: the moment, with time zone; by default now. At most one of this and `snapshot_id`.
        snapshot_id: the snapshot.
        where: all conditions must hold.
        columns: names, in the wanted order; by default all of the snapshot's schema.
        order_by: columns that name a row uniquely, or rows of equal order may be lost between pages; NULLs come last.
        descending: the direction of all of them.
        after: values of the order columns of the last row that was read; None begins at the first.
        limit: the greatest number of rows.

    Returns:
        Arrow rows with the types of the table.

    Raises:
        InvalidInputError: an argument is malformed, or names an unknown column.
        NotFoundError: the table or snapshot does not exist, or the moment lies before the history that is kept.
    """
    table = must_load(catalog, identifier)
    snapshot = _snapshot(table, as_of, snapshot_id)
    schema = _schema(table, snapshot)
    wanted = list(columns) if columns is not None else [field.name for field in schema.fields]
    _check(identifier, [field.name for field in schema.fields], wanted, order_by, where, after, limit)
    needed = [*wanted, *(name for name in order_by if name not in wanted)]
    arrow_schema = schema_to_pyarrow(schema.select(*needed), include_field_ids=False)
    if snapshot is None or limit == 0:
        return arrow_schema.empty_table().select(wanted)
    row_filter = all_of(
        *(_PREDICATES[condition.operator](condition.column, condition.value) for condition in where),
        *([_not_before(order_by[0], after[0], descending)] if after else []),
    )
    try:
        bind(schema, row_filter, case_sensitive=True)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"a condition or the cursor does not fit the columns: {error}", where=identifier) from error
    page = _Page(table, snapshot, row_filter, needed, tuple(order_by), descending, after, limit)
    return page.read(arrow_schema).select(wanted)


class _Page:
    """Reads files in the order of the first order column until the page is certain."""

    def __init__(
        self,
        table: Table,
        snapshot: Snapshot,
        row_filter: BooleanExpression,
        columns: Sequence[str],
        order_by: tuple[str, ...],
        descending: bool,
        after: Sequence[type_value | None] | None,
        limit: int | None,
    ) -> None:
        self._scan = table.scan(row_filter=row_filter, selected_fields=tuple(columns), snapshot_id=snapshot.snapshot_id)
        self._reader = ArrowScan(table.metadata, table.io, self._scan.projection(), row_filter)
        self._first = _schema(table, snapshot).find_field(order_by[0])
        self._order_by = order_by
        self._descending = descending
        self._after = after
        self._limit = limit

    def read(self, schema: pa.Schema) -> pa.Table:
        files = sorted(((self._bound(task), task) for task in self._scan.plan_files()), key=self._visit_order)
        found = schema.empty_table()
        position, batch = 0, _FIRST_FILES
        while position < len(files):
            if self._limit is None:
                batch = len(files)
            rows = self._reader.to_table([task for _, task in files[position : position + batch]]).cast(schema)
            found = self._cut(pa.concat_tables([found, self._beyond(rows)]))
            position += batch
            batch *= 2
            if position < len(files) and self._is_certain(found, files[position][0]):
                break
        return found

    def _bound(self, task: FileScanTask) -> Any:
        """The first value of the first order column that the file may hold; None if its statistics do not tell."""
        bounds = task.file.upper_bounds if self._descending else task.file.lower_bounds
        raw = (bounds or {}).get(self._first.field_id)
        kind = self._first.field_type
        return from_bytes(kind, raw) if raw is not None and isinstance(kind, _COMPARABLE) else None

    def _visit_order(self, entry: tuple[Any, FileScanTask]) -> tuple[bool, Any]:
        bound = entry[0]
        if bound is None:
            return (False, 0)  # could hold anything: first
        return (True, _Reversed(bound) if self._descending else bound)

    def _beyond(self, rows: pa.Table) -> pa.Table:
        """The rows that come after the cursor in the order."""
        if self._after is None:
            return rows
        return rows.filter(_after_cursor(rows.schema, self._order_by, self._after, self._descending))

    def _cut(self, rows: pa.Table) -> pa.Table:
        direction = "descending" if self._descending else "ascending"
        keys = [(name, direction) for name in self._order_by]
        order = pc.sort_indices(rows, sort_keys=keys)  # NULLs come last in both directions
        return rows.take(order if self._limit is None else order[: self._limit])

    def _is_certain(self, found: pa.Table, next_bound: Any) -> bool:
        """Whether no file from the next on can hold a row of the page."""
        if self._limit is None or found.num_rows < self._limit or next_bound is None:
            return False
        last = found.column(self._order_by[0])[-1]
        if not last.is_valid:
            return False
        value = last.value if isinstance(last, pa.TimestampScalar) else last.as_py()
        return bool(value > next_bound if self._descending else value < next_bound)


@dataclass(frozen=True)
class _Reversed:
    value: Any

    def __lt__(self, other: _Reversed) -> bool:
        return bool(other.value < self.value)


def _after_cursor(
    schema: pa.Schema, order_by: Sequence[str], after: Sequence[type_value | None], descending: bool
) -> pc.Expression:
    """Rows beyond the cursor: beyond in one column, and equal in all before it; NULL is beyond every value."""
    ways = []
    equal: list[pc.Expression] = []
    for name, value in zip(order_by, after, strict=True):
        column = pc.field(name)
        if value is None:
            equal.append(column.is_null())
            continue
        try:
            bound = pa.scalar(value, schema.field(name).type)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise InvalidInputError(f"cursor value `{value!r}` does not fit column `{name}`", where="after") from error
        passed = (column < bound) if descending else (column > bound)
        ways.append(reduce(lambda a, b: a & b, equal, passed | column.is_null()))
        equal.append(pc.is_valid(column) & (column == bound))
    return reduce(lambda a, b: a | b, ways, pc.scalar(False))


def _not_before(column: str, value: type_value | None, descending: bool) -> BooleanExpression:
    """What the cursor says about the first order column alone, for leaving out files."""
    if value is None:
        return is_null(column)
    return one_of(at_most(column, value) if descending else at_least(column, value), is_null(column))


def _snapshot(table: Table, as_of: datetime | None, snapshot_id: int | None) -> Snapshot | None:
    where = ".".join(table.name())
    if snapshot_id is not None:
        if as_of is not None:
            raise InvalidInputError("both `as_of` and `snapshot_id` are given", where=where, fix="Give one of them.")
        snapshot = table.snapshot_by_id(snapshot_id)
        if snapshot is None:
            raise NotFoundError(
                f"snapshot `{snapshot_id}` does not exist", where=where, fix="It may have expired; list the snapshots kept."
            )
        return snapshot
    if as_of is None:
        return table.current_snapshot()
    if as_of.tzinfo is None:
        raise InvalidInputError(f"`{as_of.isoformat()}` has no time zone", where=where, fix="Add `Z` or an offset.")
    return _snapshot_at(table, as_of, where)


def _snapshot_at(table: Table, as_of: datetime, where: str) -> Snapshot | None:
    """The snapshot that was current; refuses to answer with an older one when that which was current has expired."""
    moment = int(as_of.timestamp() * 1000)
    history = table.history()
    following = next((i for i, entry in enumerate(history) if entry.timestamp_ms > moment), len(history))
    found = table.snapshot_by_id(history[following - 1].snapshot_id) if following else None
    if following == len(history) or (found is not None and found.timestamp_ms == moment):
        return found
    # Snapshots are numbered without gaps, so a missing number between the two is one that has expired.
    kept = {snapshot.sequence_number for snapshot in table.metadata.snapshots}
    after = table.snapshot_by_id(history[following].snapshot_id)
    first = (found.sequence_number or 0) + 1 if found else 1
    last = (after.sequence_number or 0) if after else 0
    if not kept.issuperset(range(first, last)):
        raise NotFoundError(
            f"`{as_of.isoformat()}` lies before the history that is kept",
            where=where,
            fix=f"Ask for {_instant(history[following].timestamp_ms).isoformat()} or later; how long history is kept is a "
            "setting of maintenance.",
        )
    return found


def _schema(table: Table, snapshot: Snapshot | None) -> Any:
    """The schema that was current when the snapshot was made."""
    if snapshot is not None and snapshot.schema_id is not None:
        return table.schemas()[snapshot.schema_id]
    return table.schema()


def _check(
    where: str,
    known: Sequence[str],
    columns: Sequence[str],
    order_by: Sequence[str],
    conditions: Sequence[Condition],
    after: Sequence[type_value | None] | None,
    limit: int | None,
) -> None:
    for name in (*columns, *order_by, *(condition.column for condition in conditions)):
        if name not in known:
            raise InvalidInputError(f"column `{name}` does not exist", where=where, fix=f"The table has {', '.join(known)}.")
    if not order_by:
        raise InvalidInputError("no order column is given", where=where)
    if after is not None and len(after) != len(order_by):
        raise InvalidInputError(f"the cursor has {len(after)} values for {len(order_by)} order columns", where=where)
    if limit is not None and limit < 0:
        raise InvalidInputError(f"limit `{limit}` is negative", where=where)


def _info(table: Table, snapshot_id: int) -> SnapshotInfo:
    snapshot = table.snapshot_by_id(snapshot_id)
    if snapshot is None:  # the log outlives no snapshot
        raise NotFoundError(f"snapshot `{snapshot_id}` does not exist", where=".".join(table.name()))
    summary = dict(snapshot.summary.additional_properties) if snapshot.summary else {}
    return SnapshotInfo(
        snapshot_id=snapshot.snapshot_id,
        parent_id=snapshot.parent_snapshot_id,
        committed_at=_instant(snapshot.timestamp_ms),
        operation=snapshot.summary.operation.value if snapshot.summary else "unknown",
        added_rows=int(summary.get("added-records", 0)),
        # Iceberg counts the rows of data files; those that are named in delete files are dead.
        total_rows=int(summary.get("total-records", 0)) - int(summary.get("total-position-deletes", 0)),
        summary=summary,
    )


def _instant(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
