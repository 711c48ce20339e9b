"""Walk a stretch of a segment file batch by batch, checking every checksum and finding the way again after damage.

Where a batch is broken, the next valid one is looked for by the five bytes that every batch of ours carries (leader epoch
0, magic 2), its checksum, and offsets that fit before and behind it. What lies between is a gap; if nothing valid follows, it is a torn tail.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from broker.log.batch import HEADER_BYTES, BatchHeader, checksum_holds, is_plausible, read_header

CHUNK_BYTES = 1 << 20
_MARK = b"\x00\x00\x00\x00\x02"
_MARK_FROM = 12
# An offset further ahead than this is a false find in random bytes, not the other side of a gap.
_FARTHEST = 1 << 40


@dataclass(frozen=True, slots=True)
class Found:
    """A valid batch: where it lies, its head, and all its bytes."""

    position: int
    header: BatchHeader
    data: memoryview


@dataclass(frozen=True, slots=True)
class Gap:
    """Broken bytes `[start, end)` with valid batches behind them; `next_offset` is the first offset that is there again."""

    start: int
    end: int
    next_offset: int


@dataclass(frozen=True, slots=True)
class Tail:
    """Broken bytes `[start, end)` with nothing valid behind them."""

    start: int
    end: int


def scan(fd: int, start: int, end: int, expected_offset: int) -> Iterator[Found | Gap | Tail]:
    """Yield what lies in `[start, end)` of a file, in order; `expected_offset` is that of the first batch."""
    window = _Window(fd, end)
    position = start
    while position < end:
        # The base offset lies outside of the checksum; ours follow each other without holes, so it is known.
        found = _valid_batch(window, position, expected_offset, farthest_offset=expected_offset)
        if found is None:
            found = _resync(window, position + 1, expected_offset)
            if found is None:
                yield Tail(position, end)
                return
            yield Gap(position, found.position, found.header.base_offset)
        yield found
        position = found.position + found.header.size_bytes
        expected_offset = found.header.last_offset + 1


class _Window:
    """A view of the file that moves forward, one megabyte at a time unless a batch needs more."""

    def __init__(self, fd: int, end: int) -> None:
        self._fd = fd
        self._end = end
        self._start = 0
        self._data = b""

    def at(self, position: int, size_bytes: int) -> memoryview:
        """Return at least `size_bytes` from `position` on, fewer only where the file ends."""
        offset = position - self._start
        if offset < 0 or offset + size_bytes > len(self._data):
            wanted = min(max(size_bytes, CHUNK_BYTES), self._end - position)
            self._data = os.pread(self._fd, wanted, position)
            self._start, offset = position, 0
        return memoryview(self._data)[offset:]

    @property
    def end(self) -> int:
        return self._end


def _valid_batch(window: _Window, position: int, least_offset: int, farthest_offset: int) -> Found | None:
    view = window.at(position, HEADER_BYTES)
    if len(view) < HEADER_BYTES:
        return None
    header = read_header(view, 0)
    if not is_plausible(header) or position + header.size_bytes > window.end:
        return None
    if header.leader_epoch != 0 or not least_offset <= header.base_offset <= farthest_offset:
        return None
    view = window.at(position, header.size_bytes)
    if not checksum_holds(view, 0, header):
        return None
    return Found(position, header, view[: header.size_bytes])


def _resync(window: _Window, position: int, expected_offset: int) -> Found | None:
    while position + HEADER_BYTES <= window.end:
        data = bytes(window.at(position, min(CHUNK_BYTES, window.end - position)))
        mark = data.find(_MARK, _MARK_FROM)
        while mark >= 0:
            found = _valid_batch(window, position + mark - _MARK_FROM, expected_offset, expected_offset + _FARTHEST)
            if found is not None and _is_followed(window, found):
                return found
            mark = data.find(_MARK, mark + 1)
        # A mark may lie across the border of two chunks, and its batch begins twelve bytes before it.
        position += max(1, len(data) - _MARK_FROM - len(_MARK) + 1)
    return None


def _is_followed(window: _Window, found: Found) -> bool:
    """Say whether the batch behind a gap can be believed: its own offset is not checksummed, so its successor must fit it.

    Believed without proof is the last batch, and one whose successor is damaged.
    """
    position = found.position + found.header.size_bytes
    successor = _valid_batch(window, position, 0, _FARTHEST) if position < window.end else None
    return successor is None or successor.header.base_offset == found.header.last_offset + 1
