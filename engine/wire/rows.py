"""DataRow messages from Arrow, without a Python object a cell.

Each column becomes an Arrow array of cells, each cell gets its length, and one kernel joins them row by row; the data buffer
of that array is then exactly the bytes that go on the wire.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from engine.session import Field
from engine.wire.binary import encode_binary
from engine.wire.columns import concatenate, fixed_width, lengths, with_length
from engine.wire.text import encode_text

_CHUNK_BYTES = 1 << 20
"""Arrow bytes encoded in one go: a few milliseconds of work between two chances for other connections."""
_CHUNK_ROWS = 16_384
_HEADER = np.dtype([("kind", "S1"), ("length", ">i4"), ("columns", ">u2")])


def encode_rows(fields: Sequence[Field], formats: Sequence[int], table: pa.Table) -> memoryview:
    """All rows of the table as DataRow messages; formats: 0 text, 1 binary, one a field.

    Raises:
        pa.ArrowInvalid, pa.ArrowNotImplementedError: a column is not of the type that its field says.
        UnsupportedQuery: a type has no binary form.
    """
    if not table.num_rows:
        return memoryview(b"")
    parts: list[pa.Array | bytes] = []
    sizes = np.full(table.num_rows, 6 + 4 * len(fields), dtype=np.int64)
    for field, format_, column in zip(fields, formats, table.columns, strict=True):
        cells = encode_binary(field.type, column) if format_ else encode_text(field.type, column)
        sizes += np.maximum(lengths(cells), 0)
        parts += with_length(cells)
    header = np.empty(table.num_rows, _HEADER)
    header["kind"] = b"D"
    header["length"] = sizes
    header["columns"] = len(fields)
    rows = concatenate([fixed_width(header, pa.nulls(0)), *parts])
    return memoryview(rows.buffers()[2])[: int(sizes.sum()) + table.num_rows]


def chunks(table: pa.Table) -> Iterator[pa.Table]:
    """Slices of bounded size in row order; none for an empty table."""
    average = max(1, table.nbytes // max(1, table.num_rows))
    step = max(1, min(_CHUNK_ROWS, _CHUNK_BYTES // average))
    for start in range(0, table.num_rows, step):
        yield table.slice(start, step)
