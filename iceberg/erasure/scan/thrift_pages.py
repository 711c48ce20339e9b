"""Walks the pages of a Parquet column chunk and unpacks each, so that a value that no row uses any more is seen, too.

A reader never shows what stands in a dictionary page without being referred to; erasing by rewriting rows leaves exactly that
where a writer keeps the old dictionary. So page by page:

    column chunk:  [header][dictionary page] [header][data page] [header][data page] ...

Only what a page header says about sizes is read; the rest of the Thrift structure is skipped.

Source: Parquet format, `parquet.thrift` (PageHeader); Thrift compact protocol.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

DATA_PAGE_V2 = 3
_NAMES = {0: "data page", 1: "index page", 2: "dictionary page", DATA_PAGE_V2: "data page"}


@dataclass(frozen=True)
class Page:
    """One page: what it is, where its header begins, where it ends, and its unpacked content."""

    kind: str
    begin: int
    end: int
    content: bytes


class MalformedPageError(Exception):
    """The bytes are no page; what was walked before it counts."""


def pages(data: bytes, begin: int, end: int, compression: str) -> Iterator[Page]:
    """The pages between two offsets of a file.

    Args:
        data: the whole file.
        begin, end: of the column chunk.
        compression: as Parquet names it: UNCOMPRESSED, SNAPPY, GZIP, BROTLI, ZSTD, LZ4_RAW, LZ4.

    Raises:
        MalformedPageError: a header cannot be read, or a page cannot be unpacked.
    """
    at = begin
    while at < end:
        reader = _Compact(data, at)
        try:
            header = reader.struct()
            kind, unpacked, packed = header[1], header[2], header[3]
        except (IndexError, KeyError, ValueError) as error:
            raise MalformedPageError(f"page header at byte {at} cannot be read") from error
        body_begin, body_end = reader.at, reader.at + packed
        if packed < 0 or body_end > end:
            raise MalformedPageError(f"page at byte {at} is longer than its column chunk")
        body = data[body_begin:body_end]
        v2 = header.get(8) if kind == DATA_PAGE_V2 else None
        yield Page(_NAMES.get(kind, f"page of type {kind}"), at, body_end, _unpacked(body, unpacked, compression, v2, at))
        at = body_end


def _unpacked(body: bytes, size: int, compression: str, v2: dict[int, Any] | None, at: int) -> bytes:
    levels = b""
    if v2 is not None:  # the levels of a second version's page stand before its compressed part
        cut = v2.get(5, 0) + v2.get(6, 0)
        levels, body, size = body[:cut], body[cut:], size - cut
        if v2.get(7) is False:
            return levels + body
    if compression == "UNCOMPRESSED" or size == 0:
        return levels + body
    codec = {"LZ4_RAW": "lz4_raw", "LZ4": "lz4_raw"}.get(compression, compression.lower())
    try:
        content: bytes = pa.Codec(codec).decompress(body, decompressed_size=size, asbytes=True)
    except (OSError, ValueError) as error:
        raise MalformedPageError(f"page at byte {at} cannot be unpacked as {compression}: {error}") from error
    return levels + content


class _Compact:
    """Reads a struct of Thrift's compact protocol as field id -> value; strings as bytes, sets and maps not at all."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data = data
        self.at = at

    def struct(self) -> dict[int, Any]:
        fields: dict[int, Any] = {}
        number = 0
        while (head := self._byte()) != 0:
            delta, kind = head >> 4, head & 0x0F
            number = number + delta if delta else self._zigzag()
            fields[number] = self._value(kind)
        return fields

    def _value(self, kind: int) -> Any:
        if kind in (1, 2):
            return kind == 1
        if kind == 3:
            return self._byte()
        if kind in (4, 5, 6):
            return self._zigzag()
        if kind == 7:
            return self._take(8)
        if kind == 8:
            return self._take(self._varint())
        if kind in (9, 10):
            head = self._byte()
            count = head >> 4 if head >> 4 != 15 else self._varint()
            return [self._byte() == 1 if head & 0x0F in (1, 2) else self._value(head & 0x0F) for _ in range(count)]
        if kind == 12:
            return self.struct()
        raise ValueError(f"Thrift type {kind}")

    def _byte(self) -> int:
        value = self._data[self.at]
        self.at += 1
        return value

    def _take(self, count: int) -> bytes:
        if count < 0 or self.at + count > len(self._data):
            raise IndexError(count)
        taken = self._data[self.at : self.at + count]
        self.at += count
        return taken

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 0x7F) << shift
            if not byte & 0x80:
                return value
            shift += 7

    def _zigzag(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)
