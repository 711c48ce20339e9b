"""A hash of a table's content: the same for the same values in the same order, whatever the batches and whatever lies under NULLs."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def content_sha256(rows: pa.Table) -> str:
    """SHA-256 over names, types, which cells are NULL, and the values; hexadecimal."""
    digest = hashlib.sha256(str(rows.num_rows).encode())
    for name in rows.column_names:
        column = rows.column(name)
        array = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
        digest.update(f"\0{name}\0{array.type}\0".encode())
        digest.update(np.packbits(array.is_valid().to_numpy(zero_copy_only=False)).tobytes())
        digest.update(_values(array))
    return digest.hexdigest()


def _values(array: pa.Array) -> bytes:
    kind = array.type
    if pa.types.is_string(kind):
        filled = pc.fill_null(array, "")
        lengths: bytes = pc.binary_length(filled).to_numpy(zero_copy_only=False).tobytes()
        return lengths + "".join(filled.to_pylist()).encode()
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
        numbers: bytes = pc.fill_null(array, False if pa.types.is_boolean(kind) else 0).to_numpy(zero_copy_only=False).tobytes()
        return numbers
    if pa.types.is_timestamp(kind) or pa.types.is_date64(kind) or pa.types.is_time64(kind):
        instants: bytes = pc.fill_null(array.cast(pa.int64()), 0).to_numpy(zero_copy_only=False).tobytes()
        return instants
    return json.dumps(array.to_pylist(), default=str, ensure_ascii=False).encode()
