"""Columns of NUMERIC in Arrow: keys (`engine.sql.numeric`) travel as decimal128(38, 0).

A numeric column of any other decimal or integer type is taken for plain values; that is what sources outside the engine's own
tables hand over.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

import numpy as np
import pyarrow as pa

from engine.sql.numeric import from_decimal, from_int, to_decimal

KEY_TYPE = pa.decimal128(38, 0)


def numeric_keys(array: pa.Array) -> list[int | None]:
    """The key of each value; None where it is NULL."""
    if pa.types.is_integer(array.type):
        return [None if value is None else from_int(value) for value in array.to_pylist()]
    if array.type != KEY_TYPE:
        return [None if value is None else from_decimal(_trimmed(value)) for value in array.to_pylist()]
    buffer = array.buffers()[1]
    if buffer is None or not len(array):
        return [None] * len(array)
    words = np.frombuffer(buffer, np.uint64, count=2 * len(array), offset=16 * array.offset).reshape(-1, 2)
    low, high = words[:, 0].tolist(), words[:, 1].view(np.int64).tolist()
    keys: list[int | None] = [(h << 64) + word for word, h in zip(low, high, strict=True)]
    if array.null_count:
        valid = array.is_valid().to_pylist()
        keys = [key if there else None for key, there in zip(keys, valid, strict=True)]
    return keys


def numeric_decimals(array: pa.Array) -> list[Decimal | None]:
    """Each value as a Python decimal of its own scale."""
    return [None if key is None else to_decimal(key) for key in numeric_keys(array)]


def key_array(keys: Iterable[int | None]) -> pa.Array:
    """Keys as a column."""
    return pa.array([None if key is None else Decimal(key) for key in keys], KEY_TYPE)


def _trimmed(value: Decimal) -> Decimal:
    """A plain value without zeros behind its last digit: its column's scale says nothing about it."""
    if not value:
        return Decimal(0)
    shorter = value.normalize()
    return shorter.quantize(Decimal(1)) if int(shorter.as_tuple().exponent) > 0 else shorter
