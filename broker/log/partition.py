"""One partition: segments in order, offsets without holes, and who may read how far.

```
 log start ........ last stable offset .... high watermark ..... end
            decided                 durable              written
```
Readers see nothing that is not durable by the policy, so no reader ever knows more than the log after a power cut;
`read_committed` readers see nothing behind the first open transaction.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kio.schema.errors import ErrorCode

from broker.log.batch import BatchHeader, build_marker, marker_commits, read_header, split_produced, stamp
from broker.log.flusher import Flusher
from broker.log.producers import AbortedTransaction, ProducerTable
from broker.log.record_times import first_record_at_or_after
from broker.log.scan import Found, Gap, Tail
from broker.log.segment import NO_TIME, CorruptRangeError, Segment
from broker.refusal import Refusal

logger = logging.getLogger(__name__)

_START_NAME = "start-offset"

TimestampType = Literal["CreateTime", "LogAppendTime"]


@dataclass(frozen=True, slots=True)
class LogConfig:
    """What a topic decides about its partitions; None keeps records for ever."""

    segment_bytes: int
    max_message_bytes: int
    timestamp_type: TimestampType
    retention_ms: int | None = None
    retention_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Appended:
    """Where a produce request landed; `append_time_ms` is None for CreateTime; `written` is false for a repetition."""

    base_offset: int
    append_time_ms: int | None
    written: bool


@dataclass(frozen=True, slots=True)
class Slice:
    """The answer to one read."""

    records: bytes
    high_watermark: int
    last_stable_offset: int
    start_offset: int
    aborted: list[AbortedTransaction]


class PartitionLog:
    """The durable log of one partition. Used from the event loop only; `Flusher` syncs its file in a thread."""

    def __init__(self, folder: Path, config: LogConfig, flusher: Flusher, now_ms: Callable[[], int]) -> None:
        self.folder = folder
        self.config = config
        self.producers = ProducerTable()
        self._flusher = flusher
        self._now_ms = now_ms
        self._segments: list[Segment] = []
        self._durable_offset = 0
        self._start_offset = 0
        self._watchers: dict[Callable[[], None], None] = {}
        self._recover()

    # -- where things stand

    @property
    def start_offset(self) -> int:
        """The first offset that may be read; what lies before it in the same segment was deleted by a client."""
        return max(self._start_offset, self._segments[0].base_offset)

    @property
    def end_offset(self) -> int:
        return self._active.next_offset

    @property
    def high_watermark(self) -> int:
        return self._durable_offset

    @property
    def last_stable_offset(self) -> int:
        unstable = self.producers.first_unstable_offset()
        return self._durable_offset if unstable is None else min(unstable, self._durable_offset)

    @property
    def size_bytes(self) -> int:
        return sum(segment.size_bytes for segment in self._segments)

    # -- writing

    def append(self, records: bytes, admit: Callable[[BatchHeader], None] | None = None) -> Appended:
        """Append what one produce request holds for this partition; all of it or nothing.

        Args:
            admit: raises Refusal for a transactional batch that may not be written here.

        The caller acknowledges only when `durable()` is done, also for a repetition: its first sending may still wait.

        Raises:
            Refusal: a batch is malformed, too large, or out of sequence, or the disk is full.
        """
        now_ms = self._now_ms()
        append_time = now_ms if self.config.timestamp_type == "LogAppendTime" else None
        staged = self.producers.stage()
        out = bytearray()
        placed: list[tuple[int, BatchHeader]] = []
        next_offset = self.end_offset
        first_offset: int | None = None
        for position, header in split_produced(records, self.config.max_message_bytes):
            if header.is_transactional and admit is not None:
                admit(header)
            has_producer = header.producer_id >= 0
            repeated = staged.check(header) if has_producer else None
            if first_offset is None:
                first_offset = next_offset if repeated is None else repeated
            if repeated is not None:
                continue
            start = len(out)
            out += memoryview(records)[position : position + header.size_bytes]
            stamped = stamp(out, start, header, next_offset, append_time)
            if has_producer:
                staged.remember(stamped)
            placed.append((start, stamped))
            next_offset = stamped.last_offset + 1
        assert first_offset is not None, "split_produced yields a batch or raises"
        if placed:
            self._write(out, placed)
            self.producers.apply(staged)
        return Appended(first_offset, append_time, bool(placed))

    def append_marker(self, producer_id: int, producer_epoch: int, *, commit: bool) -> None:
        """End the producer's transaction here; the caller waits for `durable()`."""
        now_ms = self._now_ms()
        offset = self.end_offset
        marker = build_marker(offset, producer_id, producer_epoch, commit=commit, now_ms=now_ms)
        header = stamp(marker, 0, read_header(marker, 0), offset, None)
        self._write(marker, [(0, header)])
        self.producers.end_transaction(producer_id, producer_epoch, offset, now_ms, commit=commit)

    async def durable(self) -> None:
        """Wait until what was appended so far is durable by the policy.

        Raises:
            UnavailableError: the disk failed; the broker is stopping.
        """
        if self._durable_offset < self.end_offset:
            await self._flusher.durable(self)

    def pending(self) -> tuple[int, int]:
        """For the flusher: the file to sync, and the offset that is durable after it."""
        return self._active.fd, self.end_offset

    def flushed(self, mark: int) -> None:
        """For the flusher: everything below offset `mark` is durable."""
        if mark > self._durable_offset:
            self._durable_offset = mark
            self._wake()

    def _write(self, data: bytearray, placed: list[tuple[int, BatchHeader]]) -> None:
        try:
            if self._active.size_bytes and self._active.size_bytes + len(data) > self.config.segment_bytes:
                self._roll()
            base = self._active.write(data)
        except OSError as error:
            raise Refusal(
                ErrorCode.kafka_storage_error,
                f"cannot append: `{error}`",
                where=str(self._active.path),
                fix="Free space on the disk of the data folder; the producer retries.",
            ) from error
        for position, header in placed:
            self._active.note(base + position, header)

    def _roll(self) -> None:
        """Begin a new segment; the full one is durable before, so that only the last segment can ever be torn."""
        full = self._active
        self._flusher.sync_now(full.fd)
        full.save_index()
        self.producers.save(self._snapshot_path(full.next_offset), self._now_ms())
        fresh = Segment(self.folder, full.next_offset)
        self._flusher.sync_folder(self.folder)
        self._segments.append(fresh)
        self.flushed(full.next_offset)

    # -- reading

    def watch(self, wake: Callable[[], None]) -> None:
        """Call `wake` whenever more can be read, until `unwatch`."""
        self._watchers[wake] = None

    def unwatch(self, wake: Callable[[], None]) -> None:
        self._watchers.pop(wake, None)

    def _wake(self) -> None:
        for wake in list(self._watchers):
            wake()

    def read(self, offset: int, max_bytes: int, *, committed: bool) -> Slice:
        """Read batches from the one that holds `offset` on, at least one if any may be read.

        Raises:
            Refusal: offset_out_of_range.
            CorruptRangeError: the batch with this offset is damaged.
        """
        if not self.start_offset <= offset <= self.end_offset:
            raise Refusal(
                ErrorCode.offset_out_of_range, f"offset `{offset}` is outside of `{self.start_offset}` to `{self.end_offset}`"
            )
        end = self.last_stable_offset if committed else self.high_watermark
        records = self._read_records(offset, end, max_bytes) if offset < end else b""
        aborted = self.producers.aborted_between(offset, end) if committed and records else []
        return Slice(records, self.high_watermark, self.last_stable_offset, self.start_offset, aborted)

    def _read_records(self, offset: int, end: int, max_bytes: int) -> bytes:
        number = self._segment_with(offset)
        segment = self._segments[number]
        limit = self._limit(segment, end)
        position = segment.locate(offset, limit)
        if position is not None:
            return segment.read(position, limit, max_bytes)
        if number + 1 < len(self._segments):
            following = self._segments[number + 1]
            raise CorruptRangeError(f"offset `{offset}` is missing", where=str(segment.path), next_offset=following.base_offset)
        return b""

    def _segment_with(self, offset: int) -> int:
        low, high = 0, len(self._segments) - 1
        while low < high:
            middle = (low + high + 1) // 2
            if self._segments[middle].base_offset <= offset:
                low = middle
            else:
                high = middle - 1
        return low

    def _limit(self, segment: Segment, end: int) -> int:
        """Where in this segment the batch with offset `end` begins, or the segment's end."""
        if end >= segment.next_offset:
            return segment.size_bytes
        position = segment.locate(end, segment.size_bytes)
        return segment.size_bytes if position is None else position

    def offset_at(self, timestamp: int, *, committed: bool) -> tuple[int, int] | None:
        """Find the first record whose time is not before `timestamp`.

        Returns:
            its time in milliseconds and its offset, or None if there is none that may be read.
        """
        end = self.last_stable_offset if committed else self.high_watermark
        for segment in self._segments:
            if segment.max_timestamp < timestamp or segment.base_offset >= end:
                continue
            found = segment.first_at_or_after(timestamp, self._limit(segment, end))
            if found is not None:
                position, header = found
                time_ms, offset = first_record_at_or_after(segment.batch_at(position), header, timestamp)
                return time_ms, max(offset, self.start_offset)
        return None

    def latest_time(self) -> tuple[int, int] | None:
        """Return the greatest time and the first offset that has it; None for an empty log."""
        latest = max(segment.max_timestamp for segment in self._segments)
        return None if latest == NO_TIME else self.offset_at(latest, committed=False)

    # -- deleting what is old

    def delete_before(self, offset: int) -> None:
        """Let the log begin at `offset`, durably; files go when nothing in them can be read any more.

        Raises:
            Refusal: offset_out_of_range if it lies behind the high watermark.
            OSError: the disk is full or broken.
        """
        if not 0 <= offset <= self.high_watermark:
            raise Refusal(ErrorCode.offset_out_of_range, f"offset `{offset}` is outside of `0` to `{self.high_watermark}`")
        if offset <= self.start_offset:
            return
        draft = self.folder / (_START_NAME + ".new")
        with draft.open("w") as file:
            file.write(str(offset))
            file.flush()
            os.fsync(file.fileno())
        os.rename(draft, self.folder / _START_NAME)
        self._flusher.sync_folder(self.folder)
        self._start_offset = offset
        self.producers.forget_before(offset)
        self._drop_segments()

    def retain(self) -> None:
        """Delete whole segments that the topic's retention no longer asks for, never what is undecided."""
        keep_from = self._first_to_keep()
        if keep_from > self.start_offset:
            logger.info("records deleted by retention", extra={"path": str(self.folder), "before_offset": keep_from})
            self.delete_before(keep_from)

    def _first_to_keep(self) -> int:
        config, stable = self.config, self.last_stable_offset
        oldest = None if config.retention_ms is None else self._now_ms() - config.retention_ms
        if oldest is not None and self._active.size_bytes and self._active.max_timestamp < oldest:
            self._roll()
        room, keep_from = config.retention_bytes, self.start_offset
        excess = 0 if room is None else self.size_bytes - room
        for segment in self._segments[:-1]:
            expired = oldest is not None and segment.max_timestamp < oldest
            excess -= segment.size_bytes
            if not (expired or (room is not None and excess >= 0)) or segment.next_offset > stable:
                break
            keep_from = segment.next_offset
        return keep_from

    def _drop_segments(self) -> None:
        while len(self._segments) > 1 and self._segments[1].base_offset <= self._start_offset:
            gone = self._segments.pop(0)
            gone.remove()
            self._snapshot_path(gone.base_offset).unlink(missing_ok=True)

    # -- opening and closing

    def retire(self) -> None:
        """Close the log of a deleted topic, and wake its readers so that they hear of it."""
        self._wake()
        self.close()

    def close(self) -> None:
        for segment in self._segments:
            segment.close()

    def _recover(self) -> None:
        """Open the segments: the last one is checked byte by byte, the others when they are read."""
        bases = sorted(int(path.stem) for path in self.folder.glob("*.log"))
        self._segments = [Segment(self.folder, base) for base in bases or [0]]
        start = self.folder / _START_NAME
        self._start_offset = int(start.read_text()) if start.exists() else 0
        first_replayed = self._newest_snapshot()
        for number, segment in enumerate(self._segments):
            last = number + 1 == len(self._segments)
            if not last and number < first_replayed and segment.load_index():
                continue
            self._recover_segment(segment, last=last, replay=number >= first_replayed)
            if not last:
                following = self._segments[number + 1].base_offset
                if segment.next_offset < following:
                    logger.warning(
                        "broker log misses offsets",
                        extra={"path": str(segment.path), "first": segment.next_offset, "next": following},
                    )
                segment.save_index()
        # After a kill the last pages may be in memory only, and readers may see them from now on.
        self._flusher.sync_now(self._active.fd)
        self._durable_offset = self.end_offset
        self._drop_segments()

    def _newest_snapshot(self) -> int:
        """Load the newest snapshot of producers that can be trusted; return the number of the segment it begins."""
        for number in range(len(self._segments) - 1, -1, -1):
            table = ProducerTable.load(self._snapshot_path(self._segments[number].base_offset))
            if table is not None:
                self.producers = table
                return number
        return 0

    def _recover_segment(self, segment: Segment, *, last: bool, replay: bool) -> None:
        for item in segment.recover():
            if isinstance(item, Found):
                if replay:
                    header = item.header
                    self.producers.replay(header, marker_commits(item.data) if header.is_control else None)
            elif isinstance(item, Gap):
                logger.warning(
                    "broker log is damaged in the middle; the range is refused, the rest is kept",
                    extra={
                        "path": str(segment.path),
                        "position": item.start,
                        "bytes": item.end - item.start,
                        "next": item.next_offset,
                    },
                )
            elif last:
                self._cut(segment, item)
            else:
                segment.keep_gap(Gap(item.start, item.end, segment.next_offset))

    def _cut(self, segment: Segment, tail: Tail) -> None:
        logger.warning(
            "broker log tail is torn; cut at the last valid batch",
            extra={"path": str(segment.path), "bytes": tail.end - tail.start, "end_offset": segment.next_offset},
        )
        segment.truncate(tail.start)

    def _snapshot_path(self, base_offset: int) -> Path:
        return self.folder / f"{base_offset:020d}.producers"

    @property
    def _active(self) -> Segment:
        return self._segments[-1]
