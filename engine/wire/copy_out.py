"""COPY ... TO STDOUT: CopyData messages from Arrow, one a row as PostgreSQL sends them, a whole column at a time."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.session import Field
from engine.wire.binary import encode_binary
from engine.wire.columns import concatenate, fixed_width, lengths, with_length
from engine.wire.copy_format import CopyFormat
from engine.wire.messages import copy_data
from engine.wire.text import concatenate_text, encode_text

BINARY_SIGNATURE = b"PGCOPY\n\xff\r\n\0"
BINARY_END = copy_data(b"\xff\xff")
_SIGNATURE = BINARY_SIGNATURE + b"\0" * 8
_HEADER = np.dtype([("kind", "S1"), ("length", ">i4")])
_ESCAPES = (("\\", "\\\\"), ("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t"), ("\b", "\\b"), ("\f", "\\f"), ("\v", "\\v"))


def copy_header(fields: Sequence[Field], format_: CopyFormat) -> bytes:
    """The message before the rows: the header line of csv and text, if one is wanted."""
    if not format_.header:
        return b""
    names = pa.array([field.name for field in fields])
    return copy_data((format_.delimiter.join(_written(names, format_).to_pylist()) + "\n").encode())


def with_signature(first: bytes | memoryview) -> bytes:
    """Binary only: PostgreSQL sends the signature in one message with the first row, and psycopg relies on it."""
    length = int.from_bytes(first[1:5]) + len(_SIGNATURE)
    return b"".join((b"d", length.to_bytes(4, "big"), _SIGNATURE, first[5:]))


def copy_rows(fields: Sequence[Field], format_: CopyFormat, table: pa.Table) -> memoryview:
    """All rows of the table."""
    if not table.num_rows:
        return memoryview(b"")
    parts: list[pa.Array | bytes] = []
    if format_.kind == "binary":
        parts.append(len(fields).to_bytes(2, "big"))
        for field, column in zip(fields, table.columns, strict=True):
            parts += with_length(encode_binary(field.type, column))
    else:
        for position, (field, column) in enumerate(zip(fields, table.columns, strict=True)):
            parts += [format_.delimiter.encode()] if position else []
            parts.append(_written(encode_text(field.type, column).cast(pa.string()), format_).cast(pa.binary()))
        parts.append(b"\n")
    # A row of literals only (no columns) has no array that says how many rows there are.
    rows = (
        concatenate(parts)
        if fields
        else pa.array([b"".join(part for part in parts if isinstance(part, bytes))] * table.num_rows)
    )
    sizes = lengths(rows)
    header = np.empty(table.num_rows, _HEADER)
    header["kind"] = b"d"
    header["length"] = sizes + 4
    framed = concatenate([fixed_width(header, pa.nulls(0)), rows])
    return memoryview(framed.buffers()[2])[: int(sizes.sum(dtype=np.int64)) + 5 * table.num_rows]


def _written(cells: pa.Array, format_: CopyFormat) -> pa.Array:
    """Cells as they stand between two delimiters; none is NULL afterwards."""
    if format_.kind == "text":
        escapes = [*_ESCAPES, *([] if format_.delimiter == "\t" else [(format_.delimiter, "\\" + format_.delimiter)])]
        if pc.any(pc.match_substring_regex(cells, "[" + re.escape("".join(plain for plain, _ in escapes)) + "]")).as_py():
            for plain, escaped in escapes:
                cells = pc.replace_substring(cells, plain, escaped)
        return pc.fill_null(cells, format_.null)
    special = re.escape(format_.delimiter + format_.quote)
    needs = pc.or_(pc.match_substring_regex(cells, rf"[{special}\r\n]|^\\\.$"), pc.equal(cells, format_.null))
    quoted = concatenate_text(
        [format_.quote, pc.replace_substring(cells, format_.quote, format_.quote * 2), format_.quote], cells
    )
    return pc.fill_null(pc.if_else(needs, quoted, cells), format_.null)
