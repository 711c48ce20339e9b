"""The transaction coordinator: who may write under a transactional id, and how a transaction ends everywhere or nowhere.

```
 empty --add--> ongoing --end--> prepare (durable: decided) --markers durable--> complete --add--> ongoing ...
```
The decision is one durable write, together with the offsets that the transaction carries. Markers follow in each
partition; after a crash the decision is carried out again, and a partition that has its marker already is left alone.
What was ongoing stays so: which partitions take part is rebuilt from their logs.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, cast

from kio.schema.errors import ErrorCode

from broker.coordinators.offsets import CommittedOffset, Offsets, Place
from broker.coordinators.producer_ids import ProducerIds
from broker.coordinators.store import Statement, Store
from broker.log.batch import BatchHeader
from broker.refusal import Refusal
from broker.topics import Topics

logger = logging.getLogger(__name__)

State = Literal["empty", "ongoing", "prepare_commit", "prepare_abort", "complete_commit", "complete_abort"]
MAX_TIMEOUT_MS = 15 * 60 * 1000  # Kafka's transaction.max.timeout.ms
_LAST_EPOCH = 32766  # one is kept for fencing, then the transactional id gets a new producer id

_WRITE = (
    "INSERT INTO transactions (transactional_id, producer_id, epoch, timeout_ms, state, started_ms, partitions, groups)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (transactional_id) DO UPDATE SET producer_id = excluded.producer_id,"
    " epoch = excluded.epoch, timeout_ms = excluded.timeout_ms, state = excluded.state, started_ms = excluded.started_ms,"
    " partitions = excluded.partitions, groups = excluded.groups"
)


@dataclass(slots=True)
class Transaction:
    """What is known of one transactional id."""

    transactional_id: str
    producer_id: int
    epoch: int
    timeout_ms: int
    state: State = "empty"
    started_ms: int = 0
    partitions: set[Place] = field(default_factory=set)
    groups: set[str] = field(default_factory=set)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def statement(self) -> Statement:
        places, groups = json.dumps(sorted(self.partitions)), json.dumps(sorted(self.groups))
        values = (
            self.transactional_id,
            self.producer_id,
            self.epoch,
            self.timeout_ms,
            self.state,
            self.started_ms,
            places,
            groups,
        )
        return _WRITE, values


class Transactions:
    """All transactional ids of the broker. Calls for the same id run one after the other."""

    def __init__(
        self, store: Store, topics: Topics, offsets: Offsets, producer_ids: ProducerIds, now_ms: Callable[[], int]
    ) -> None:
        self._store = store
        self._topics = topics
        self._offsets = offsets
        self._producer_ids = producer_ids
        self._now_ms = now_ms
        self._by_id: dict[str, Transaction] = {}
        self._by_producer: dict[int, Transaction] = {}
        for row in store.load(
            "SELECT transactional_id, producer_id, epoch, timeout_ms, state, started_ms, partitions, groups FROM transactions"
        ):
            self._add(_loaded(row))

    # -- what producers ask for

    async def begin_producer(self, transactional_id: str, timeout_ms: int, expected: tuple[int, int] | None) -> tuple[int, int]:
        """Give a transactional id to a new producer: fence the one before it and abort what it left open.

        Args:
            expected: producer id and epoch of a producer that asks for itself again, or None.

        Returns:
            producer id and epoch.

        Raises:
            Refusal: invalid_transaction_timeout, or producer_fenced if somebody else has the id by now.
        """
        if not 0 < timeout_ms <= MAX_TIMEOUT_MS:
            raise Refusal(
                ErrorCode.invalid_transaction_timeout, f"a transaction lasts 1 to {MAX_TIMEOUT_MS} ms, not `{timeout_ms}`"
            )
        transaction = self._by_id.get(transactional_id)
        if transaction is None:
            producer_id = await self._producer_ids.allocate()
            # Two first producers may have waited for an id; the later one fences the earlier.
            transaction = self._by_id.get(transactional_id)
            if transaction is None:
                transaction = Transaction(transactional_id, producer_id, -1, timeout_ms)
                self._add(transaction)
        async with transaction.lock:
            if expected is not None and expected != (transaction.producer_id, transaction.epoch):
                raise _fenced(transaction, expected[1])
            await self._take_over(transaction, timeout_ms)
            return transaction.producer_id, transaction.epoch

    async def add_partitions(self, transactional_id: str, producer: tuple[int, int], places: Iterable[Place]) -> None:
        """Let a transaction write to partitions; the first ones begin it.

        Raises:
            Refusal: invalid_producer_id_mapping, producer_fenced.
        """
        transaction = self._must_get(transactional_id, producer[0])
        async with transaction.lock:
            _check_epoch(transaction, producer)
            await self._settle(transaction)
            self._begin(transaction)
            transaction.partitions.update(places)
            await self._store.write(transaction.statement(), durable=False)

    async def add_group(self, transactional_id: str, producer: tuple[int, int], group: str) -> None:
        """Let a transaction carry offsets of a consumer group.

        Raises:
            Refusal: as `add_partitions`.
        """
        transaction = self._must_get(transactional_id, producer[0])
        async with transaction.lock:
            _check_epoch(transaction, producer)
            await self._settle(transaction)
            self._begin(transaction)
            transaction.groups.add(group)
            await self._store.write(transaction.statement(), durable=False)

    async def commit_offsets(
        self, transactional_id: str, producer: tuple[int, int], group: str, offsets: Mapping[Place, CommittedOffset]
    ) -> None:
        """Keep offsets that become valid if the transaction commits.

        Raises:
            Refusal: as `add_partitions`, or invalid_txn_state if the group was not added.
        """
        transaction = self._must_get(transactional_id, producer[0])
        async with transaction.lock:
            _check_epoch(transaction, producer)
            if transaction.state != "ongoing" or group not in transaction.groups:
                raise Refusal(
                    ErrorCode.invalid_txn_state, f"group `{group}` is no part of the transaction of `{transactional_id}`"
                )
            await self._offsets.commit_pending(transaction.producer_id, group, offsets)

    async def end(self, transactional_id: str, producer: tuple[int, int], *, commit: bool) -> None:
        """Commit or abort; done when it is durable in every partition. A repetition of the last decision is no error.

        Raises:
            Refusal: as `add_partitions`, or invalid_txn_state if nothing was begun or the other was decided.
        """
        transaction = self._must_get(transactional_id, producer[0])
        async with transaction.lock:
            _check_epoch(transaction, producer)
            if transaction.state == "ongoing":
                await self._decide(transaction, commit=commit)
            elif transaction.state not in (
                ("prepare_commit", "complete_commit") if commit else ("prepare_abort", "complete_abort")
            ):
                raise Refusal(
                    ErrorCode.invalid_txn_state, f"the transaction of `{transactional_id}` is in state `{transaction.state}`"
                )
            await self._settle(transaction)

    def admit(self, topic: str, number: int, header: BatchHeader) -> None:
        """Say whether a transactional batch may be appended: only by the present producer, in a transaction with the partition.

        Raises:
            Refusal: invalid_producer_epoch or invalid_txn_state.
        """
        transaction = self._by_producer.get(header.producer_id)
        if transaction is not None and header.producer_epoch < transaction.epoch:
            raise Refusal(
                ErrorCode.invalid_producer_epoch,
                f"`{transaction.transactional_id}` is at epoch `{transaction.epoch}`, the batch at `{header.producer_epoch}`",
                fix="Another producer has taken over, or the transaction timed out.",
            )
        taking_part = (
            transaction is not None
            and transaction.epoch == header.producer_epoch
            and transaction.state == "ongoing"
            and (topic, number) in transaction.partitions
        )
        if not taking_part:
            raise Refusal(
                ErrorCode.invalid_txn_state, f"partition `{number}` of `{topic}` is no part of a transaction of this producer"
            )

    # -- time and crashes

    async def recover(self) -> None:
        """Carry out what was decided before the crash, and find again what was going on."""
        for topic in self._topics:
            for number, log in enumerate(topic.partitions):
                for producer_id, entry in log.producers.open_transactions().items():
                    transaction = self._by_producer.get(producer_id)
                    if transaction is None or not _owns(transaction, entry.epoch):
                        logger.warning(
                            "open transaction without an owner aborted",
                            extra={"topic": topic.name, "partition": number, "producer_id": producer_id},
                        )
                        log.append_marker(producer_id, entry.epoch, commit=False)
                        await log.durable()
                        continue
                    if transaction.state in ("empty", "complete_commit", "complete_abort"):
                        self._begin(transaction)
                    transaction.partitions.add((topic.name, number))
        for transaction in self._by_id.values():
            async with transaction.lock:
                await self._settle(transaction)

    async def abort_expired(self) -> None:
        """Abort transactions that are open for longer than their producer allowed, and fence the producer."""
        for transaction in list(self._by_id.values()):
            if not self._is_expired(transaction):
                continue
            async with transaction.lock:
                if self._is_expired(transaction):
                    logger.warning("transaction timed out", extra={"transactional_id": transaction.transactional_id})
                    transaction.epoch += 1
                    await self._decide(transaction, commit=False)
                    await self._settle(transaction)

    def _is_expired(self, transaction: Transaction) -> bool:
        return transaction.state == "ongoing" and self._now_ms() - transaction.started_ms > transaction.timeout_ms

    # -- steps; the caller holds the transaction's lock

    async def _take_over(self, transaction: Transaction, timeout_ms: int) -> None:
        transaction.epoch += 1
        if transaction.state == "ongoing":
            await self._decide(transaction, commit=False)
        await self._settle(transaction)
        if transaction.epoch >= _LAST_EPOCH:
            del self._by_producer[transaction.producer_id]
            transaction.producer_id, transaction.epoch = await self._producer_ids.allocate(), 0
            self._by_producer[transaction.producer_id] = transaction
        transaction.state, transaction.timeout_ms = "empty", timeout_ms
        await self._store.write(transaction.statement())

    def _begin(self, transaction: Transaction) -> None:
        if transaction.state != "ongoing":
            transaction.state, transaction.started_ms = "ongoing", self._now_ms()
            transaction.partitions.clear()
            transaction.groups.clear()

    async def _decide(self, transaction: Transaction, *, commit: bool) -> None:
        """The point of no return. The state changes before the write, so that no batch slips in behind the decision."""
        transaction.state = "prepare_commit" if commit else "prepare_abort"
        try:
            await self._store.write(
                transaction.statement(), *self._offsets.end_statements(transaction.producer_id, commit=commit)
            )
        except BaseException:
            transaction.state = "ongoing"
            raise
        self._offsets.end(transaction.producer_id, commit=commit)

    async def _settle(self, transaction: Transaction) -> None:
        """Write the markers of a decided transaction; nothing to do for any other."""
        if transaction.state not in ("prepare_commit", "prepare_abort"):
            return
        commit = transaction.state == "prepare_commit"
        logs = [log for place in sorted(transaction.partitions) if (log := self._topics.partition(*place)) is not None]
        for log in logs:
            if transaction.producer_id in log.producers.open_transactions():
                log.append_marker(transaction.producer_id, transaction.epoch, commit=commit)
        for log in logs:
            await log.durable()
        transaction.state = "complete_commit" if commit else "complete_abort"
        transaction.partitions.clear()
        transaction.groups.clear()
        await self._store.write(transaction.statement(), durable=False)

    def _must_get(self, transactional_id: str, producer_id: int) -> Transaction:
        transaction = self._by_id.get(transactional_id)
        if transaction is None or transaction.producer_id != producer_id:
            raise Refusal(
                ErrorCode.invalid_producer_id_mapping, f"`{transactional_id}` does not belong to producer `{producer_id}`"
            )
        return transaction

    def _add(self, transaction: Transaction) -> None:
        self._by_id[transaction.transactional_id] = transaction
        self._by_producer[transaction.producer_id] = transaction


def _owns(transaction: Transaction, epoch: int) -> bool:
    """True if an open transaction of this epoch in a log is the one the coordinator knows."""
    return transaction.epoch == epoch or transaction.state in ("prepare_commit", "prepare_abort")


def _check_epoch(transaction: Transaction, producer: tuple[int, int]) -> None:
    if producer != (transaction.producer_id, transaction.epoch):
        raise _fenced(transaction, producer[1])


def _fenced(transaction: Transaction, epoch: int) -> Refusal:
    return Refusal(
        ErrorCode.producer_fenced,
        f"`{transaction.transactional_id}` is at epoch `{transaction.epoch}`, the producer at `{epoch}`",
        fix="Another producer has taken over, or the transaction timed out.",
    )


def _loaded(row: tuple[object, ...]) -> Transaction:
    transactional_id, producer_id, epoch, timeout_ms, state, started_ms, places, groups = cast(
        "tuple[str, int, int, int, State, int, str, str]", row
    )  # our schema
    return Transaction(
        transactional_id,
        producer_id,
        epoch,
        timeout_ms,
        state,
        started_ms,
        {(topic, number) for topic, number in json.loads(places)},
        set(json.loads(groups)),
    )
