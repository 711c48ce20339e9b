"""Look inside one batch for the first record at or after a time: needed only for offsets by time under CreateTime."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping

from kio.serial.readers import read_signed_varint, read_signed_varlong

from broker.log.batch import COMPRESSION_MASK, HEADER_BYTES, LOG_APPEND_TIME, BatchHeader

_XERIAL_MARK = b"\x82SNAPPY\x00"  # Java's framing of snappy blocks: 16 bytes of head, then length and block, repeated


def first_record_at_or_after(batch: bytes, header: BatchHeader, timestamp: int) -> tuple[int, int]:
    """Return time (milliseconds) and offset of the first record that is not before `timestamp`.

    Args:
        batch: a whole batch whose greatest time is not before `timestamp`.
    """
    if header.attributes & LOG_APPEND_TIME:
        return header.max_timestamp, header.base_offset
    codec = header.attributes & COMPRESSION_MASK
    payload = batch[HEADER_BYTES:]
    for delta_ms, offset_delta in _deltas(_DECOMPRESS[codec](payload) if codec else payload, header.record_count):
        if header.base_timestamp + delta_ms >= timestamp:
            return header.base_timestamp + delta_ms, header.base_offset + offset_delta
    # The producer's greatest time does not hold for any record: the batch's begin is the safe answer.
    return header.max_timestamp, header.base_offset


def _deltas(payload: bytes, count: int) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    position = 0
    for _ in range(count):
        length, size = read_signed_varint(payload, position)
        position += size
        delta_ms, time_size = read_signed_varlong(payload, position + 1)
        offset_delta, _ = read_signed_varint(payload, position + 1 + time_size)
        found.append((delta_ms, offset_delta))
        position += length
    return found


def _stream(codec: str) -> Callable[[bytes], bytes]:
    def decompress(payload: bytes) -> bytes:
        # pyarrow is large and this is rare, so a broker that is never asked does not load it.
        import pyarrow as pa

        with pa.input_stream(pa.py_buffer(payload), compression=codec) as stream:
            return bytes(stream.read())

    return decompress


def _snappy(payload: bytes) -> bytes:
    import pyarrow as pa

    codec = pa.Codec("snappy")
    if not payload.startswith(_XERIAL_MARK):
        return bytes(codec.decompress(payload, _snappy_size(payload), asbytes=True))
    out, position = b"", 16
    while position < len(payload):
        length = int.from_bytes(payload[position : position + 4], "big")
        block = payload[position + 4 : position + 4 + length]
        out += codec.decompress(block, _snappy_size(block), asbytes=True)
        position += 4 + length
    return out


def _snappy_size(block: bytes) -> int:
    """A snappy block begins with its decompressed size as a varint."""
    size = shift = 0
    for byte in block[:5]:
        size |= (byte & 0x7F) << shift
        if byte < 0x80:
            return size
        shift += 7
    return size


_DECOMPRESS: Mapping[int, Callable[[bytes], bytes]] = {1: gzip.decompress, 2: _snappy, 3: _stream("lz4"), 4: _stream("zstd")}
