"""Keys of a merge: checked once, then looked up in data files.

A file is opened only if its statistics leave room for a key. For that each key column becomes codes, the numbers of its values in
sorted order; a file's bounds are a range of codes, and a key can only be in the file if it lies in the ranges of all columns:

    key (tenant, n)     codes        file with tenant in [b, c], n in [10, 25]     codes [1, 3) x [1, 2)
    (a, 7)  (b, 20)     (0,0) (1,1)                                                only (b, 20) is looked for
    (c, 30)             (2,2)

Source: Iceberg table specification, "Manifests" (`lower_bounds`, `upper_bounds`), "Bucket Transform Details".
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from functools import reduce
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.conversions import from_bytes
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.manifest import DataFile
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.transforms import BucketTransform
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    FixedType,
    IcebergType,
    IntegerType,
    LongType,
    NestedField,
    PrimitiveType,
    StringType,
    TimestampType,
    TimestamptzType,
    TimeType,
    UUIDType,
)

from core.errors import InvalidInputError

type_duplicates = Literal["refuse", "last"]

# Compared for equality without a second thought; floating point numbers (0.1 + 0.2, NaN) and nested values are not.
_KEY_TYPES = (
    BinaryType, BooleanType, DateType, DecimalType, FixedType, IntegerType, LongType, StringType, TimestampType, TimestamptzType,
    TimeType, UUIDType,
)  # fmt: skip
# Those whose decoded statistics compare like the values that `_sortable` gives.
_BOUNDED = (DateType, DecimalType, IntegerType, LongType, StringType, TimestampType, TimestamptzType, TimeType)


def key_fields(table: Table, key: Sequence[str]) -> list[NestedField]:
    """The key's columns.

    Raises:
        InvalidInputError: there are none, a name is unknown or comes twice, or a type cannot be compared exactly.
    """
    where = ".".join(table.name())
    names = [field.name for field in table.schema().fields]
    if not key or len(set(key)) < len(key):
        raise InvalidInputError(f"`{', '.join(key)}` is no key", where=where, fix="Name each key column once, at least one.")
    for name in key:
        if name not in names:
            raise InvalidInputError(
                f"key column `{name}` does not exist", where=where, fix=f"The table has {', '.join(names)}."
            )
        kind = table.schema().find_field(name).field_type
        if not isinstance(kind, _KEY_TYPES):
            raise InvalidInputError(
                f"column `{name}` of type `{kind}` cannot be a key", where=where, fix="Use columns that compare exactly."
            )
    return [table.schema().find_field(name) for name in key]


def check_keys(rows: pa.Table, key: Sequence[str], duplicates: type_duplicates, where: str) -> pa.Table:
    """Return the rows with each key once.

    Raises:
        InvalidInputError: a key is NULL in part, or comes twice and `duplicates` is `refuse`.
    """
    for name in key:
        if rows.column(name).null_count:
            first = pc.index(pc.is_null(rows.column(name)), True).as_py()
            raise InvalidInputError(
                f"key column `{name}` is NULL in {rows.column(name).null_count} rows, first in row {first}",
                where=where,
                fix="A row without a key cannot be found again: leave it out, or give it a value that stands for `none`.",
            )
    numbered = rows.select(list(key)).append_column("#", pa.array(np.arange(rows.num_rows)))
    last = numbered.group_by(list(key), use_threads=False).aggregate([("#", "max"), ("#", "count")])
    if last.num_rows == rows.num_rows:
        return rows
    if duplicates == "refuse":
        twice = last.filter(pc.greater(last.column("#_count"), 1))
        example = ", ".join(f"{name} = {twice.column(name)[0].as_py()!r}" for name in key)
        raise InvalidInputError(
            f"{twice.num_rows} keys come more than once, e.g. `{example}` {twice.column('#_count')[0].as_py()} times",
            where=where,
            fix="Keep one row a key, or pass duplicates='last', then the last row of a key counts.",
        )
    return rows.take(np.sort(last.column("#_max").to_numpy()))


class KeySet:
    """Keys to be looked for. Made for one schema; columns travel by their field ids, so a renamed column is the same one.

    Args:
        table: its schema counts.
        keys: one row a key, columns in the types of the table.
        key: the names of the key's columns.
    """

    def __init__(self, table: Table, keys: pa.Table, key: Sequence[str]) -> None:
        self.fields = key_fields(table, key)
        self.schema = Schema(*self.fields)
        self._names = list(key)
        self.rows = keys.select(self._names).cast(schema_to_pyarrow(self.schema, include_field_ids=False)).combine_chunks()
        self._columns = [_Codes(field.field_type, self.rows.column(field.name)) for field in self.fields]
        self._buckets: dict[tuple[int, int], npt.NDArray[np.int64]] = {}

    def in_reach(self, file: DataFile, spec: PartitionSpec) -> pa.Table:
        """The keys that a file may hold by its statistics and its partition."""
        if not self.rows.num_rows:
            return self.rows
        mask = np.ones(self.rows.num_rows, bool)
        for field, codes in zip(self.fields, self._columns, strict=True):
            mask &= codes.within(file, field.field_id)
        for number, part in enumerate(spec.fields):
            if isinstance(part.transform, BucketTransform) and part.source_id in self.schema.field_ids:
                mask &= self._bucket(part.source_id, part.transform) == file.partition[number]
        return self.rows if mask.all() else self.rows.filter(pa.array(mask))

    def find(self, rows: pa.Table, wanted: pa.Table) -> npt.NDArray[np.int64]:
        """The numbers of those of a file's rows, given by their key columns, whose key is wanted; ascending."""
        masks = [pc.is_in(rows.column(name), value_set=wanted.column(name).combine_chunks()) for name in self._names]
        found = np.flatnonzero(reduce(pc.and_, masks).to_numpy())
        if len(self._names) == 1 or not len(found):
            return found
        # Each value occurs in some key, but not yet all in the same one.
        candidates = rows.take(found).append_column("#", pa.array(found))
        exact = candidates.join(wanted, keys=self._names, join_type="left semi", use_threads=False)
        return np.sort(exact.column("#").to_numpy())

    def _bucket(self, source_id: int, transform: BucketTransform[Any]) -> npt.NDArray[np.int64]:
        known = self._buckets.get((source_id, transform.num_buckets))
        if known is None:
            field = self.schema.find_field(source_id)
            buckets = transform.pyarrow_transform(field.field_type)(self.rows.column(field.name))
            known = self._buckets[source_id, transform.num_buckets] = np.asarray(buckets.to_numpy(), np.int64)
        return known


class _Codes:
    """A key column: its distinct values in order, and for each key the number of its value among them."""

    def __init__(self, kind: IcebergType, column: pa.ChunkedArray) -> None:
        self._type: PrimitiveType | None = None
        self._values: Sequence[Any] = ()  # Any: whatever Iceberg decodes a bound of the type to
        self._codes = np.zeros(len(column), np.int64)
        if isinstance(kind, _BOUNDED):
            self._type = kind
            plain = _sortable(column)
            distinct = pc.unique(plain)
            distinct = distinct.take(pc.sort_indices(distinct))
            self._values = distinct.to_pylist()
            self._codes = np.asarray(pc.index_in(plain, value_set=distinct).to_numpy(), np.int64)

    def within(self, file: DataFile, field_id: int) -> npt.NDArray[np.bool_]:
        """For each key whether its value lies between the file's bounds."""
        low, high = ((bounds or {}).get(field_id) for bounds in (file.lower_bounds, file.upper_bounds))
        if self._type is None or low is None or high is None:
            return np.ones(len(self._codes), bool)
        first = bisect_left(self._values, from_bytes(self._type, low))
        after = bisect_right(self._values, from_bytes(self._type, high))
        return (self._codes >= first) & (self._codes < after)


def _sortable(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Values as Iceberg's statistics have them: times and dates as integers."""
    kind = column.type
    if pa.types.is_timestamp(kind) or pa.types.is_time64(kind):
        return column.cast(pa.int64())
    if pa.types.is_date32(kind):
        return column.cast(pa.int32())
    return column
