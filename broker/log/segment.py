"""One file of a partition's log with its sparse index by offset and time.

An index entry stands for a granule of about 16 kB: offset and position of its first batch, and the greatest time of all
batches before it. Bytes that this process has neither written nor checked are verified, granule by granule, the first
time they are read: what fails its checksum is never served, and opening a long log stays quick.
"""

from __future__ import annotations

import os
import struct
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from pathlib import Path

from crc32c import crc32c

from broker.log.batch import HEADER_BYTES, BatchHeader, read_header
from broker.log.scan import Found, Gap, Tail, scan
from core.errors import CorruptDataError

GRANULE_BYTES = 16 * 1024
_READ_AHEAD_BYTES = 4096
_INDEX_HEAD = struct.Struct(">4sIqqqq")  # mark, CRC32C of what follows the checksum, size, next offset, max time, entries
_INDEX_MARK = b"hri1"
NO_TIME = -1


class CorruptRangeError(CorruptDataError):
    """The batch that holds the wanted offset is damaged; offsets from `next_offset` on are there again."""

    def __init__(self, what: str, *, where: str, next_offset: int) -> None:
        super().__init__(what, where=where, fix=f"Seek to offset {next_offset} to go on behind the damage.")
        self.next_offset = next_offset


class Segment:
    """A file `<base offset>.log`. Reads and writes are plain system calls; only its log calls it, from one thread."""

    def __init__(self, folder: Path, base_offset: int) -> None:
        self.base_offset = base_offset
        self.next_offset = base_offset
        self.max_timestamp = NO_TIME
        self.size_bytes = 0
        self.path = folder / f"{base_offset:020d}.log"
        self._index_path = self.path.with_suffix(".index")
        self.fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        self._offsets = array("q")
        self._positions = array("q")
        self._times_before = array("q")
        self._verified = bytearray()
        self._gaps: dict[int, Gap] = {}

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def file_size(self) -> int:
        return os.fstat(self.fd).st_size

    # -- writing

    def write(self, data: bytes | bytearray) -> int:
        """Append bytes; after a failure the file is as it was before.

        Returns:
            the position of the first byte.

        Raises:
            OSError: the disk is full or broken.
        """
        start = self.size_bytes
        view = memoryview(data)
        written = 0
        try:
            while written < len(view):
                written += os.pwrite(self.fd, view[written:], start + written)
        except OSError:
            os.ftruncate(self.fd, start)
            raise
        self.size_bytes += written
        return start

    def note(self, position: int, header: BatchHeader) -> None:
        """Take a batch that lies at `position`, written or found valid, into the index."""
        if not self._positions or position - self._positions[-1] >= GRANULE_BYTES:
            self._offsets.append(header.base_offset)
            self._positions.append(position)
            self._times_before.append(self.max_timestamp)
            self._verified.append(1)
        self.next_offset = header.last_offset + 1
        self.max_timestamp = max(self.max_timestamp, header.max_timestamp)

    def recover(self) -> Iterator[Found | Gap | Tail]:
        """Read the whole file, fill the index, and yield what was found; the log decides about a `Tail`."""
        self.size_bytes = self.file_size()
        for item in scan(self.fd, 0, self.size_bytes, self.base_offset):
            if isinstance(item, Found):
                self.note(item.position, item.header)
            elif isinstance(item, Gap):
                self._gaps[item.start] = item
            yield item

    def truncate(self, size_bytes: int) -> None:
        os.ftruncate(self.fd, size_bytes)
        os.fdatasync(self.fd)
        self.size_bytes = size_bytes

    def keep_gap(self, gap: Gap) -> None:
        """Refuse these bytes from now on."""
        self._gaps[gap.start] = gap

    # -- the index on disk: a cache, rebuilt from the file whenever it does not fit

    def save_index(self) -> None:
        body = self._offsets.tobytes() + self._positions.tobytes() + self._times_before.tobytes()
        tail = struct.pack(">qqqq", self.size_bytes, self.next_offset, self.max_timestamp, len(self._offsets)) + body
        self._index_path.write_bytes(_INDEX_MARK + struct.pack(">I", crc32c(tail)) + tail)

    def load_index(self) -> bool:
        """Read the index; false if it is missing, damaged or not that of the file as it is."""
        try:
            data = self._index_path.read_bytes()
            mark, checksum, size, next_offset, max_timestamp, count = _INDEX_HEAD.unpack_from(data)
        except (OSError, struct.error):
            return False
        if mark != _INDEX_MARK or checksum != crc32c(memoryview(data)[8:]) or size != self.file_size():
            return False
        body = memoryview(data)[_INDEX_HEAD.size :]
        for number, column in enumerate((self._offsets, self._positions, self._times_before)):
            column.frombytes(body[number * count * 8 : (number + 1) * count * 8])
        self._verified = bytearray(count)
        self.size_bytes, self.next_offset, self.max_timestamp = size, next_offset, max_timestamp
        return True

    def remove(self) -> None:
        self.close()
        self._index_path.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)

    # -- reading

    def locate(self, offset: int, limit: int) -> int | None:
        """Find the position of the batch that holds `offset`, or of the first behind it; None if it lies past `limit`.

        Raises:
            CorruptRangeError: the batch with this offset is damaged.
        """
        granule = max(bisect_right(self._offsets, offset) - 1, 0)
        if not self._positions:
            return None
        reached = self._offsets[granule]
        for position, header in self._heads(granule, limit):
            if header.last_offset >= offset:
                if header.base_offset > offset:
                    self._refuse_gap(offset, reached, header.base_offset)
                return position
            reached = header.last_offset + 1
        if limit >= self.size_bytes and offset < self.next_offset:
            self._refuse_gap(offset, reached, self.next_offset)
        return None

    def read(self, position: int, limit: int, max_bytes: int) -> bytes:
        """Read whole and valid batches from a located `position`, at least one; the last may be cut as Kafka allows."""
        size = self._head_at(position).size_bytes
        stop = min(limit, position + max(size, max_bytes))
        first = bisect_right(self._positions, position) - 1
        for granule in range(first, bisect_left(self._positions, stop)):
            self._verify(granule)
        for gap_start in self._gaps:
            if position < gap_start < stop:
                stop = gap_start
        return os.pread(self.fd, stop - position, position)

    def first_at_or_after(self, timestamp: int, limit: int) -> tuple[int, BatchHeader] | None:
        """Find the first batch whose greatest time is not before `timestamp` (milliseconds)."""
        if timestamp > self.max_timestamp or not self._positions:
            return None
        granule = max(bisect_left(self._times_before, timestamp) - 1, 0)
        for position, header in self._heads(granule, limit):
            if header.max_timestamp >= timestamp:
                return position, header
        return None

    def batch_at(self, position: int) -> bytes:
        return os.pread(self.fd, self._head_at(position).size_bytes, position)

    def _heads(self, granule: int, limit: int) -> Iterator[tuple[int, BatchHeader]]:
        """Walk heads from a granule on, verifying each granule that was not and jumping over gaps."""
        position, window, window_start = self._positions[granule], b"", 0
        following = granule
        while position < limit:
            while following < len(self._positions) and self._positions[following] <= position:
                self._verify(following)
                following += 1
            gap = self._gaps.get(position)
            if gap is not None:
                position = gap.end
                continue
            start = position - window_start
            if start < 0 or start + HEADER_BYTES > len(window):
                window = os.pread(self.fd, min(_READ_AHEAD_BYTES, self.size_bytes - position), position)
                window_start, start = position, 0
            header = read_header(window, start)
            yield position, header
            position += header.size_bytes

    def _head_at(self, position: int) -> BatchHeader:
        return read_header(os.pread(self.fd, HEADER_BYTES, position), 0)

    def _verify(self, granule: int) -> None:
        if self._verified[granule]:
            return
        start = self._positions[granule]
        last = granule + 1 == len(self._positions)
        end = self.size_bytes if last else self._positions[granule + 1]
        for item in scan(self.fd, start, end, self._offsets[granule]):
            if isinstance(item, Gap):
                self._gaps[item.start] = item
            elif isinstance(item, Tail):
                following = self.next_offset if last else self._offsets[granule + 1]
                self._gaps[item.start] = Gap(item.start, item.end, following)
        self._verified[granule] = 1

    def _refuse_gap(self, offset: int, reached: int, next_offset: int) -> None:
        if any(gap.next_offset == next_offset for gap in self._gaps.values()):
            raise CorruptRangeError(
                f"offsets `{reached}` to `{next_offset - 1}` are damaged",
                where=f"{self.path}, offset {offset}",
                next_offset=next_offset,
            )
