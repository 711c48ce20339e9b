"""A batch goes into the log whole and once: its rows and the note that it is there are one Kafka transaction.

```
requests ---> waiting ---> one thread: read the notes to their end
                                       known id     ---> the answer that it had
                                       unknown ids  ---> one transaction: rows of all of them + a note each ---> commit
```

A transaction costs some twenty milliseconds however much is in it, so what arrives meanwhile goes together. The notes are a
topic: after a kill they say what was committed, and what was not is not there at all, so that the sender's repetition counts.
A note is remembered as long as the topic keeps it. Two API processes see each other's notes; if both are sent the same new id
at the same instant they may both take it, so a sender repeats a batch only after it got no answer.
"""

from __future__ import annotations

import asyncio
import json
import logging
import queue
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Producer, TopicPartition

from api.ingest.verdicts import Record
from core.errors import UnavailableError

logger = logging.getLogger(__name__)

NOTES = "ingest.batches"
_TRANSACTION_SECONDS = 10.0
_READ_SECONDS = 10.0
_MOST_ROWS = 50_000  # of the batches that share a transaction


@dataclass(frozen=True)
class Note:
    """What is remembered of a batch.

    Attributes:
        digest: of its rows as they were sent, so that another batch under the same id is noticed.
        answer: what its sender was told.
    """

    digest: str
    answer: Mapping[str, Any]  # Any: JSON


@dataclass
class _Job:
    key: str
    note: Note
    records: Mapping[str, Sequence[Record]]
    done: asyncio.Future[Note]
    loop: asyncio.AbstractEventLoop

    @property
    def rows(self) -> int:
        return sum(len(records) for records in self.records.values())


class BatchLog:
    """Appends batches, each once.

    Args:
        bootstrap: the brokers.
        writer: the transactional id: the same after a restart of this process, and nobody else's.
    """

    def __init__(self, bootstrap: str, writer: str) -> None:
        self._bootstrap = bootstrap
        self._writer = writer
        self._known: dict[str, Note] = {}
        self._jobs: queue.Queue[_Job | None] = queue.Queue()
        self._producer: Producer | None = None
        self._notes: _Notes | None = None
        self._thread: threading.Thread | None = None

    async def append(self, key: str, note: Note, records: Mapping[str, Sequence[Record]]) -> Note:
        """Commit a batch unless it is there, and return its note: the one given, or the one of the first time.

        Args:
            key: tenant and id of the batch.
            note: what to remember with it.
            records: topic to records.

        Raises:
            UnavailableError: the broker did not commit; the batch is not there, or whoever repeats it finds its note.
        """
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="batch-log", daemon=True)
            self._thread.start()
        loop = asyncio.get_running_loop()
        job = _Job(key, note, records, loop.create_future(), loop)
        self._jobs.put(job)
        return await job.done

    def close(self) -> None:
        """Commit what waits, then stop; blocks."""
        self._jobs.put(None)
        if self._thread is not None:
            self._thread.join()

    # -- below: the thread

    def _work(self) -> None:
        going = True
        while going:
            jobs, going = self._take()
            try:
                self._commit(jobs)
            except Exception as problem:  # noqa: BLE001  last frame of a worker loop: told to those who wait
                logger.warning("batches not committed", extra={"batches": len(jobs), "reason": str(problem)})
                self._drop_connections()
                for job in jobs:
                    _tell(job, problem)
        self._drop_connections()

    def _take(self) -> tuple[list[_Job], bool]:
        """The jobs that wait, at least one unless it is over, and whether to go on."""
        jobs: list[_Job] = []
        rows = 0
        found = self._jobs.get()
        while found is not None:
            jobs.append(found)
            rows += found.rows
            if rows >= _MOST_ROWS:
                return jobs, True
            try:
                found = self._jobs.get_nowait()
            except queue.Empty:
                return jobs, True
        return jobs, False

    def _commit(self, jobs: Sequence[_Job]) -> None:
        if not jobs:
            return
        if self._producer is None:
            # First the fence: whatever an earlier life of this writer left open is aborted, so the notes are complete.
            producer = Producer({**self._config(), "transactional.id": self._writer, "partitioner": "murmur2_random"})
            producer.init_transactions(_TRANSACTION_SECONDS)
            self._producer = producer
        if self._notes is None:
            self._notes = _Notes(self._bootstrap)
        self._known.update(self._notes.read())
        fresh = {job.key: job for job in reversed(jobs) if job.key not in self._known}
        if fresh:
            self._producer.begin_transaction()
            for key, job in fresh.items():
                for topic, records in job.records.items():
                    for record in records:
                        self._send(topic, record.key, record.value)
                told = {"digest": job.note.digest, "answer": job.note.answer}
                self._send(NOTES, key.encode(), json.dumps(told).encode())
            self._producer.commit_transaction(_TRANSACTION_SECONDS)
            self._known.update({key: job.note for key, job in fresh.items()})
        for job in jobs:
            _tell(job, job.note if fresh.get(job.key) is job else self._known[job.key])

    def _send(self, topic: str, key: bytes, value: bytes) -> None:
        assert self._producer is not None
        while True:
            try:
                self._producer.produce(topic, value=value, key=key)
                return
            except BufferError:
                self._producer.poll(0.1)

    def _config(self) -> dict[str, Any]:  # Any: librdkafka takes texts and numbers
        return {
            "bootstrap.servers": self._bootstrap,
            "transaction.timeout.ms": int(_TRANSACTION_SECONDS * 1000),
            "linger.ms": 2,
            "queue.buffering.max.messages": 200_000,
            "log_level": 2,
        }

    def _drop_connections(self) -> None:
        """A transaction that failed half-way is aborted by the next one's fence; what was read is read again."""
        self._producer = None
        if self._notes is not None:
            self._notes.close()
            self._notes = None


class _Notes:
    """Follows the topic of notes; only what was committed is seen."""

    def __init__(self, bootstrap: str) -> None:
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": "headrace-ingest-batches",  # never committed to; librdkafka wants one
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": 10,  # the end is told by an empty answer, which the broker holds back for so long
                "allow.auto.create.topics": True,
                "topic.metadata.refresh.interval.ms": 1000,
                "log_level": 2,
            }
        )
        self._partitions: list[TopicPartition] = []

    def read(self) -> dict[str, Note]:
        """The notes that were added since the last time, up to the end."""
        if not self._partitions:
            metadata = self._consumer.list_topics(NOTES, _READ_SECONDS).topics[NOTES]
            if metadata.error is not None:
                if metadata.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                    return {}
                raise KafkaException(metadata.error)
            self._partitions = [TopicPartition(NOTES, number, OFFSET_BEGINNING) for number in metadata.partitions]
            self._consumer.assign(self._partitions)
        else:
            # An end that was reported before is not reported again: the consumer is put where it stands.
            for place in self._consumer.position(self._partitions):
                self._consumer.seek(TopicPartition(NOTES, place.partition, max(place.offset, 0)))
        found: dict[str, Note] = {}
        unread = len(self._partitions)
        while unread:
            message = self._consumer.poll(_READ_SECONDS)
            if message is None:
                raise UnavailableError("the notes of batches cannot be read to their end", where="broker")
            problem = message.error()
            if problem is None:
                try:
                    told = json.loads(message.value() or b"")
                    found[(message.key() or b"").decode()] = Note(told["digest"], told["answer"])
                except (ValueError, KeyError, TypeError) as wrong:  # not ours: somebody else wrote into the topic
                    logger.warning("note of a batch cannot be read", extra={"offset": message.offset(), "reason": str(wrong)})
            elif problem.code() == KafkaError._PARTITION_EOF:
                unread -= 1
            else:
                raise KafkaException(problem)
        return found

    def close(self) -> None:
        self._consumer.close()


def _tell(job: _Job, outcome: Note | Exception) -> None:
    def resolve() -> None:
        if job.done.done():
            return
        if isinstance(outcome, Note):
            job.done.set_result(outcome)
        else:
            reason = outcome.args[0] if isinstance(outcome, KafkaException) and outcome.args else outcome
            job.done.set_exception(
                UnavailableError(
                    f"the broker did not commit the batch: {reason}",
                    where="broker",
                    fix="Send the same batch again: under its id it counts once.",
                )
            )

    if not job.loop.is_closed():
        job.loop.call_soon_threadsafe(resolve)
