"""What a partition remembers of its producers: sequence numbers, epochs, open and aborted transactions.

A producer with an id numbers its batches. The last five of each are kept, so that a batch that was sent twice is
acknowledged twice and stored once. The state is a function of the log: recovery rebuilds it from the batches, starting
at the snapshot that was written when the segment began.
"""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from crc32c import crc32c
from kio.schema.errors import ErrorCode

from broker.log.batch import NO_PRODUCER, NO_SEQUENCE, BatchHeader
from broker.refusal import Refusal

_KEPT_BATCHES = 5  # a client may have five requests in flight, and repeat any of them
_HIGHEST_SEQUENCE = 2**31 - 1
EXPIRES_AFTER_MS = 24 * 60 * 60 * 1000  # Kafka's producer.id.expiration.ms


class SentBatch(NamedTuple):
    """One remembered batch."""

    first_sequence: int
    last_sequence: int
    base_offset: int
    timestamp_ms: int


class AbortedTransaction(NamedTuple):
    """Offsets of one producer that a read_committed reader must skip: from `first_offset` to the marker, inclusive."""

    producer_id: int
    first_offset: int
    last_offset: int


@dataclass(slots=True)
class ProducerEntry:
    """One producer on one partition; `transaction_from` is the first offset of its open transaction, if it has one."""

    epoch: int
    batches: deque[SentBatch] = field(default_factory=lambda: deque(maxlen=_KEPT_BATCHES))
    transaction_from: int | None = None
    last_seen_ms: int = 0

    def copy(self) -> ProducerEntry:
        return ProducerEntry(self.epoch, deque(self.batches, maxlen=_KEPT_BATCHES), self.transaction_from, self.last_seen_ms)


class ProducerTable:
    """The producers of one partition."""

    def __init__(self) -> None:
        self._entries: dict[int, ProducerEntry] = {}
        self.aborted: list[AbortedTransaction] = []

    def entry(self, producer_id: int) -> ProducerEntry | None:
        return self._entries.get(producer_id)

    def open_transactions(self) -> dict[int, ProducerEntry]:
        """Producer id to entry, for those with a transaction that has data and no marker here."""
        return {key: entry for key, entry in self._entries.items() if entry.transaction_from is not None}

    def first_unstable_offset(self) -> int | None:
        """Where the earliest open transaction begins; None if all is decided."""
        starts = [entry.transaction_from for entry in self._entries.values() if entry.transaction_from is not None]
        return min(starts, default=None)

    def stage(self) -> Staged:
        """Begin to check a request; nothing changes until `commit`."""
        return Staged(self)

    def replay(self, header: BatchHeader, marker_commits: bool | None) -> None:
        """Take a batch that is in the log already, without checks; `marker_commits` is None for data."""
        if header.producer_id == NO_PRODUCER:
            return
        if marker_commits is not None:
            self.end_transaction(
                header.producer_id, header.producer_epoch, header.base_offset, header.max_timestamp, commit=marker_commits
            )
            return
        staged = self.stage()
        staged.remember(header)
        self.apply(staged)

    def end_transaction(self, producer_id: int, epoch: int, marker_offset: int, now_ms: int, *, commit: bool) -> None:
        """Close the producer's transaction; a higher epoch forgets its sequence numbers, as they begin again at 0."""
        entry = self._entries.setdefault(producer_id, ProducerEntry(epoch))
        if entry.transaction_from is not None and not commit:
            self.aborted.append(AbortedTransaction(producer_id, entry.transaction_from, marker_offset))
        entry.transaction_from = None
        entry.last_seen_ms = now_ms
        if epoch > entry.epoch:
            entry.epoch = epoch
            entry.batches.clear()

    def aborted_between(self, first_offset: int, end_offset: int) -> list[AbortedTransaction]:
        return [item for item in self.aborted if item.last_offset >= first_offset and item.first_offset < end_offset]

    def forget_before(self, start_offset: int) -> None:
        """Drop aborted transactions whose records are no longer in the log."""
        self.aborted = [item for item in self.aborted if item.last_offset >= start_offset]

    def apply(self, staged: Staged) -> None:
        self._entries.update(staged.changed)

    # -- snapshot

    def save(self, path: Path, now_ms: int) -> None:
        """Write a snapshot; it is a cache and need not be durable: a missing or torn one is rebuilt from the log."""
        for key in [
            key
            for key, entry in self._entries.items()
            if entry.transaction_from is None and entry.last_seen_ms < now_ms - EXPIRES_AFTER_MS
        ]:
            del self._entries[key]
        body = json.dumps(
            {
                "producers": [
                    [key, entry.epoch, list(entry.batches), entry.transaction_from, entry.last_seen_ms]
                    for key, entry in self._entries.items()
                ],
                "aborted": self.aborted,
            }
        )
        path.write_text(f"{crc32c(body.encode()):08x} {body}")

    @classmethod
    def load(cls, path: Path) -> ProducerTable | None:
        """Read a snapshot; None if there is none that can be trusted."""
        try:
            checksum, _, body = path.read_text().partition(" ")
        except (OSError, UnicodeDecodeError):
            return None
        if checksum != f"{crc32c(body.encode()):08x}":
            return None
        content = json.loads(body)
        table = cls()
        for key, epoch, batches, transaction_from, last_seen_ms in content["producers"]:
            kept = deque((SentBatch(*item) for item in batches), maxlen=_KEPT_BATCHES)
            table._entries[key] = ProducerEntry(epoch, kept, transaction_from, last_seen_ms)
        table.aborted = [AbortedTransaction(*item) for item in content["aborted"]]
        return table


class Staged:
    """The checks of one request, one batch after the other, on copies of the entries it touches."""

    def __init__(self, table: ProducerTable) -> None:
        self._table = table
        self.changed: dict[int, ProducerEntry] = {}

    def check(self, header: BatchHeader) -> int | None:
        """Decide about a batch of an idempotent producer.

        Returns:
            the base offset it got the first time if it is a repetition, else None.

        Raises:
            Refusal: invalid_producer_epoch, out_of_order_sequence_number or duplicate_sequence_number.
        """
        entry = self.changed.get(header.producer_id) or self._table.entry(header.producer_id)
        if entry is None:
            return None  # as Kafka: the state may have expired, so any sequence may begin
        if header.producer_epoch < entry.epoch:
            raise Refusal(
                ErrorCode.invalid_producer_epoch,
                f"producer `{header.producer_id}` has epoch `{entry.epoch}`, the batch `{header.producer_epoch}`",
                fix="Another producer with the same transactional id has taken over.",
            )
        if header.producer_epoch > entry.epoch:
            expected = 0
        else:
            last_sequence = _sequence(header.base_sequence, header.last_offset_delta)
            for sent in entry.batches:
                if (sent.first_sequence, sent.last_sequence) == (header.base_sequence, last_sequence):
                    return sent.base_offset
            expected = _sequence(entry.batches[-1].last_sequence, 1) if entry.batches else 0
        if header.base_sequence == expected:
            return None
        behind = header.producer_epoch == entry.epoch and header.base_sequence < expected
        code = ErrorCode.duplicate_sequence_number if behind and entry.batches else ErrorCode.out_of_order_sequence_number
        raise Refusal(code, f"producer `{header.producer_id}`: sequence `{header.base_sequence}` came, `{expected}` is next")

    def remember(self, header: BatchHeader) -> None:
        """Take an accepted batch with its final offset."""
        entry = self.changed.get(header.producer_id)
        if entry is None:
            known = self._table.entry(header.producer_id)
            entry = self.changed[header.producer_id] = known.copy() if known else ProducerEntry(header.producer_epoch)
        if header.producer_epoch != entry.epoch:
            entry.epoch = header.producer_epoch
            entry.batches.clear()
        if header.base_sequence != NO_SEQUENCE:
            last_sequence = _sequence(header.base_sequence, header.last_offset_delta)
            entry.batches.append(SentBatch(header.base_sequence, last_sequence, header.base_offset, header.max_timestamp))
        entry.last_seen_ms = max(entry.last_seen_ms, header.max_timestamp)
        if header.is_transactional and entry.transaction_from is None:
            entry.transaction_from = header.base_offset


def _sequence(first: int, delta: int) -> int:
    """Sequence numbers wrap from 2^31 - 1 to 0."""
    return (first + delta) % (_HIGHEST_SEQUENCE + 1)
