"""Undoes common compressions: whole files, and frames that lie somewhere in other bytes (a record in a log, say).

    gzip    1f 8b 08           zstd    28 b5 2f fd        lz4     04 22 4d 18
    snappy  framed ff 06 00 00 73 4e 61 50 70 59, or in blocks as Kafka's Java client writes it 82 53 4e 41 50 50 59 00
    zip     50 4b 03 04 at the begin of the file

Source: RFC 1952, RFC 8878, LZ4 frame format 1.6, snappy framing format, APPNOTE.TXT.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa
import zstandard

# A frame that unpacks to more is cut here and reported: nobody's bomb fills our memory.
LARGEST = 512 * 1024 * 1024
_PIECE = 1 << 14


@dataclass(frozen=True)
class Frame:
    """One unpacked frame: what it was, where it began, its content, and whether all of it could be unpacked."""

    codec: str
    offset: int
    content: bytes
    whole: bool


def frames(data: bytes) -> Iterator[Frame]:
    """Every frame in some bytes, whatever lies around it; what only looks like one unpacks to nothing and is left out."""
    view = memoryview(data)
    for codec, magic, unpack in _CODECS:
        at = data.find(magic)
        while at != -1:
            content, used, whole = unpack(view[at:])
            if content:
                yield Frame(codec, at, content, whole)
            at = data.find(magic, at + max(used, 1))
    if data.startswith(b"PK\x03\x04"):
        yield from _zip(data)


def _gzip(data: memoryview) -> tuple[bytes, int, bool]:
    return _stepwise(zlib.decompressobj(wbits=31), data)


def _zstd(data: memoryview) -> tuple[bytes, int, bool]:
    return _stepwise(zstandard.ZstdDecompressor(max_window_size=1 << 31).decompressobj(), data)


class _Stream(Protocol):
    """What zlib and zstandard have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /) -> bytes: ...


def _stepwise(stream: _Stream, data: memoryview) -> tuple[bytes, int, bool]:
    """Unpack in pieces, so that what stands before a broken place is seen."""
    parts: list[bytes] = []
    size = fed = 0
    while fed < len(data) and size <= LARGEST and not stream.eof:
        piece = bytes(data[fed : fed + _PIECE])
        fed += len(piece)
        try:
            parts.append(stream.decompress(piece))
        except (zlib.error, zstandard.ZstdError, EOFError):
            return b"".join(parts), 1, False
        size += len(parts[-1])
    return b"".join(parts), fed - len(stream.unused_data) if stream.eof else 1, stream.eof


def _lz4(data: memoryview) -> tuple[bytes, int, bool]:
    return _arrow_stream("lz4", data)


def _arrow_stream(codec: str, data: memoryview) -> tuple[bytes, int, bool]:
    parts: list[bytes] = []
    size = 0
    with pa.CompressedInputStream(pa.BufferReader(pa.py_buffer(data)), codec) as stream:
        while size <= LARGEST:
            try:
                piece = stream.read(_PIECE)
            except OSError:
                return b"".join(parts), 1, False
            if not piece:
                return b"".join(parts), 1, True
            parts.append(piece)
            size += len(piece)
    return b"".join(parts), 1, False


def _snappy_framed(data: memoryview) -> tuple[bytes, int, bool]:
    """Chunks of type (1 byte), length (3 bytes, little-endian), checksum (4 bytes) and data."""
    parts: list[bytes] = []
    at = 10
    while at + 4 <= len(data):
        kind, length = data[at], int.from_bytes(data[at + 1 : at + 4], "little")
        body = bytes(data[at + 8 : at + 4 + length])
        if kind == 0x00:
            content = unsnap(body)
            if content is None:
                return b"".join(parts), at, False
            parts.append(content)
        elif kind == 0x01:
            parts.append(body)
        elif kind < 0x80 and kind != 0xFF:
            return b"".join(parts), at, False
        at += 4 + length
    return b"".join(parts), at, True


def _snappy_java(data: memoryview) -> tuple[bytes, int, bool]:
    """A header of 16 bytes, then blocks of length (4 bytes, big-endian) and data."""
    parts: list[bytes] = []
    at = 16
    while at + 4 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        content = unsnap(bytes(data[at + 4 : at + 4 + length])) if 0 < length <= len(data) - at - 4 else None
        if content is None:
            return b"".join(parts), at, False
        parts.append(content)
        at += 4 + length
    return b"".join(parts), at, True


def unsnap(data: bytes) -> bytes | None:
    """Raw snappy, which begins with the length of its content; None where it is something else."""
    length, shift = 0, 0
    for byte in data[:5]:
        length |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            break
    if not 0 < length <= LARGEST:
        return None
    try:
        content: bytes = pa.Codec("snappy").decompress(data, decompressed_size=length, asbytes=True)
    except OSError:
        return None
    return content


def _zip(data: bytes) -> Iterator[Frame]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for entry in archive.infolist():
                yield Frame("zip", entry.header_offset, archive.read(entry), True)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, zlib.error):
        yield Frame("zip", 0, b"", False)


_CODECS: tuple[tuple[str, bytes, Callable[[memoryview], tuple[bytes, int, bool]]], ...] = (
    ("gzip", b"\x1f\x8b\x08", _gzip),
    ("zstd", b"\x28\xb5\x2f\xfd", _zstd),
    ("lz4", b"\x04\x22\x4d\x18", _lz4),
    ("snappy", b"\xff\x06\x00\x00sNaPpY", _snappy_framed),
    ("snappy", b"\x82SNAPPY\x00", _snappy_java),
)
