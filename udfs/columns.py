"""Argument columns of a call as NumPy arrays, without touching single rows.

Callers differ in detail: RisingWave sends JSONB as the extension type `arrowudf.json` over text, others as plain text;
lists may be large or of another numeric type. All of them are accepted here, and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from udfs.route import RowError

Int64 = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

_LARGEST = float(np.finfo(np.float32).max)


def text_column(column: pa.Array) -> pa.Array:
    """A text or JSON column as string[rows]."""
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    return column if column.type == pa.string() else pc.cast(column, pa.string())


@dataclass(frozen=True)
class FeatureColumn:
    """A column of feature vectors, of any lengths.

    Attributes:
        usable: bool[rows]; not NULL, and every element a number that float32 can hold.
        lengths: int64[rows].
    """

    usable: Mask
    lengths: Int64
    _column: pa.Array
    _starts: Int64
    _values: Float32

    def matrix(self, rows: Int64, width: int) -> Float32:
        """The vectors of `rows`, all usable and of length `width`, as float32[len(rows), width]."""
        starts = self._starts[rows]
        first = int(starts[0]) if len(rows) else 0
        if np.array_equal(starts, first + width * np.arange(len(rows))):  # one block: no copy
            return self._values[first : first + width * len(rows)].reshape(len(rows), width)
        gathered: Float32 = self._values[starts[:, None] + np.arange(width)]
        return gathered

    def why_unusable(self, row: int) -> RowError:
        """The reason for one row that is not usable."""
        vector = self._column[row].as_py()
        if vector is None:
            return RowError("null_features", "The feature vector is NULL.")
        for position, value in enumerate(vector):
            if value is None:
                return RowError("null_feature", f"Feature {position} of {len(vector)} is NULL.")
            if not np.isfinite(value) or abs(value) > _LARGEST:
                return RowError("non_finite_feature", f"Feature {position} of {len(vector)} is `{value}`, beyond a float32.")
        raise AssertionError(f"row {row} is usable")


def feature_column(column: pa.Array) -> FeatureColumn:
    """Read a list column of numbers as float64[][rows]."""
    if column.type != pa.list_(pa.float64()):
        column = pc.cast(column, pa.list_(pa.float64()))
    offsets = column.offsets.to_numpy().astype(np.int64)
    starts, ends = offsets[:-1], offsets[1:]
    with np.errstate(over="ignore"):  # what overflows becomes infinite, and is refused as such
        values = column.values.to_numpy(zero_copy_only=False).astype(np.float32)  # NULL becomes NaN
    finite = np.isfinite(values)
    if finite.all():
        usable = np.ones(len(column), np.bool_)
    else:
        bad_before = np.concatenate(([0], np.cumsum(~finite)))
        usable = bad_before[ends] == bad_before[starts]
    if column.null_count:
        usable &= column.is_valid().to_numpy(zero_copy_only=False)
    return FeatureColumn(usable, ends - starts, column, starts, values)
