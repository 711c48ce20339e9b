"""The 61-byte head of a record batch (magic 2), its checksum, and the little the broker changes in it.

```
 0 base offset | 8 length | 12 leader epoch | 16 magic | 17 CRC32C of all that follows
 21 attributes | 23 last offset delta | 27 base time | 35 max time | 43 producer id | 51 epoch | 53 base sequence | 57 count
```
Base offset and leader epoch lie before the checksum, so stamping them costs nothing; append time lies behind it.

Source: Apache Kafka documentation, "Message Format", section "Record Batch".
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from crc32c import crc32c
from kio.schema.errors import ErrorCode

from broker.refusal import Refusal

HEADER = struct.Struct(">qiibIhiqqqhii")
HEADER_BYTES = HEADER.size
LENGTH_FROM = 12  # `length` counts the bytes behind itself
CHECKSUM_FROM = 21
MAGIC = 2
NO_PRODUCER = -1
NO_SEQUENCE = -1

COMPRESSION_MASK = 0x07
LOG_APPEND_TIME = 0x08
TRANSACTIONAL = 0x10
CONTROL = 0x20
_HIGHEST_CODEC = 4  # none, gzip, snappy, lz4, zstd

_BASE_OFFSET = struct.Struct(">q")
_LEADER_EPOCH = struct.Struct(">i")
_CRC = struct.Struct(">I")
_ATTRIBUTES = struct.Struct(">h")
_TIME = struct.Struct(">q")


class BatchHeader(NamedTuple):
    """The fields in the order of the wire; times are milliseconds since 1970."""

    base_offset: int
    length: int
    leader_epoch: int
    magic: int
    crc: int
    attributes: int
    last_offset_delta: int
    base_timestamp: int
    max_timestamp: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    record_count: int

    @property
    def size_bytes(self) -> int:
        return self.length + LENGTH_FROM

    @property
    def last_offset(self) -> int:
        return self.base_offset + self.last_offset_delta

    @property
    def is_transactional(self) -> bool:
        return bool(self.attributes & TRANSACTIONAL)

    @property
    def is_control(self) -> bool:
        return bool(self.attributes & CONTROL)


def read_header(buffer: bytes | bytearray | memoryview, position: int) -> BatchHeader:
    """Unpack the head at `position`; the caller has made sure that 61 bytes are there."""
    return BatchHeader._make(HEADER.unpack_from(buffer, position))


def is_plausible(header: BatchHeader) -> bool:
    """True if the fields do not contradict each other; the checksum says the rest."""
    return header.magic == MAGIC and header.length >= HEADER_BYTES - LENGTH_FROM and header.last_offset_delta >= 0


def checksum_holds(buffer: memoryview, position: int, header: BatchHeader) -> bool:
    """True if the whole batch lies in the buffer and its CRC32C is right."""
    end = position + header.size_bytes
    return end <= len(buffer) and crc32c(buffer[position + CHECKSUM_FROM : end]) == header.crc


def split_produced(records: bytes, max_message_bytes: int) -> Iterator[tuple[int, BatchHeader]]:
    """Walk the batches that a client sent, checking each as far as the broker looks into it.

    Yields:
        position and head of each batch, in order.

    Raises:
        Refusal: corrupt_message, message_too_large, invalid_record, unsupported_for_message_format or
            unsupported_compression_type; nothing of the request may then be appended.
    """
    view = memoryview(records)
    position = 0
    if not records:
        raise Refusal(ErrorCode.invalid_record, "the request holds no record batch")
    while position < len(view):
        if len(view) - position < HEADER_BYTES:
            raise Refusal(ErrorCode.corrupt_message, f"{len(view) - position} bytes are too few for a record batch")
        header = read_header(view, position)
        if header.magic in (0, 1):
            raise Refusal(
                ErrorCode.unsupported_for_message_format,
                f"message format `{header.magic}` is older than Kafka 0.11",
                fix="Use a client that sends record batches (format 2).",
            )
        if not is_plausible(header) or not checksum_holds(view, position, header):
            raise Refusal(ErrorCode.corrupt_message, f"the record batch at byte {position} of the request fails its checksum")
        if header.size_bytes > max_message_bytes:
            raise Refusal(
                ErrorCode.message_too_large,
                f"a record batch of `{header.size_bytes}` bytes is larger than `{max_message_bytes}`",
                fix="Raise max_message_bytes of the broker, or send smaller batches.",
            )
        if header.attributes & COMPRESSION_MASK > _HIGHEST_CODEC:
            raise Refusal(ErrorCode.unsupported_compression_type, f"codec `{header.attributes & COMPRESSION_MASK}` is unknown")
        if header.record_count != header.last_offset_delta + 1 or header.is_control:
            raise Refusal(ErrorCode.invalid_record, "a client's record batch has gaps in its offsets, or claims to be a marker")
        yield position, header
        position += header.size_bytes


def stamp(buffer: bytearray, position: int, header: BatchHeader, base_offset: int, append_time_ms: int | None) -> BatchHeader:
    """Write what the broker decides into a batch: its offset, and the append time where the topic wants it.

    Args:
        append_time_ms: None keeps the producer's times (CreateTime).

    Returns:
        the head as it now stands.
    """
    _BASE_OFFSET.pack_into(buffer, position, base_offset)
    _LEADER_EPOCH.pack_into(buffer, position + 12, 0)
    if append_time_ms is not None:
        _ATTRIBUTES.pack_into(buffer, position + 21, header.attributes | LOG_APPEND_TIME)
        _TIME.pack_into(buffer, position + 35, append_time_ms)
    elif header.attributes & LOG_APPEND_TIME:
        _ATTRIBUTES.pack_into(buffer, position + 21, header.attributes & ~LOG_APPEND_TIME)
    else:
        return header._replace(base_offset=base_offset, leader_epoch=0)
    body = memoryview(buffer)[position + CHECKSUM_FROM : position + header.size_bytes]
    _CRC.pack_into(buffer, position + 17, crc32c(body))
    body.release()
    return read_header(buffer, position)


def build_marker(base_offset: int, producer_id: int, producer_epoch: int, *, commit: bool, now_ms: int) -> bytearray:
    """Build the control batch that ends a transaction on one partition."""
    # One record: length, attributes, time delta, offset delta, key (version 0, type), value (version 0, coordinator
    # epoch 0), no headers; lengths are zigzag varints.
    key = struct.pack(">hh", 0, 1 if commit else 0)
    value = struct.pack(">hi", 0, 0)
    body = b"\x00\x00\x00" + bytes([len(key) * 2]) + key + bytes([len(value) * 2]) + value + b"\x00"
    record = bytes([len(body) * 2]) + body
    attributes = TRANSACTIONAL | CONTROL
    buffer = bytearray(HEADER_BYTES) + record
    HEADER.pack_into(
        buffer,
        0,
        base_offset,
        len(buffer) - LENGTH_FROM,
        0,
        MAGIC,
        0,
        attributes,
        0,
        now_ms,
        now_ms,
        producer_id,
        producer_epoch,
        NO_SEQUENCE,
        1,
    )
    _CRC.pack_into(buffer, 17, crc32c(memoryview(buffer)[CHECKSUM_FROM:]))
    return buffer


def marker_commits(batch: bytes | bytearray | memoryview) -> bool:
    """True for a commit marker, false for an abort marker; `batch` is a control batch."""
    return bytes(batch[HEADER_BYTES + 5 : HEADER_BYTES + 9])[2:4] == b"\x00\x01"
