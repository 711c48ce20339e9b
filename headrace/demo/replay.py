"""Sends the streams at their own pace, and labels back after a while."""

from __future__ import annotations

import heapq
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from confluent_kafka import KafkaError, Message, Producer

from core.errors import UnavailableError
from headrace.demo.door import Door
from headrace.demo.records import Record, Stream

logger = logging.getLogger(__name__)

# A producer wakes this often; finer than any rate in the demo needs, coarse enough to cost nothing.
TICK_SECONDS = 0.02


def build_producer(bootstrap: str) -> Producer:
    """An idempotent producer: nothing twice, in order, also when a request is repeated."""
    return Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 0, "message.timeout.ms": 60_000})


@dataclass
class Replay:
    """Sends records of all streams by their `at_seconds`: Kafka records in one thread, uploads in another.

    Args:
        door: takes raw payloads; None when no stream has any.

    Attributes:
        sent: (pipeline, tenant) to records acknowledged by the broker, or by the API.
        uploads: how many of them went through the API.
        refused: what the API said to uploads that it did not take.
    """

    streams: Sequence[Stream]
    bootstrap: str
    door: Door | None = None
    uploads: int = 0
    refused: list[str] = field(default_factory=list)
    sent: Counter[tuple[str, str]] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    started_seconds: float | None = None
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        """Begin now."""
        self._threads = [threading.Thread(target=work, name="replay", daemon=True) for work in (self._produce, self._upload)]
        self.started_seconds = time.monotonic()
        for thread in self._threads:
            thread.start()

    @property
    def elapsed_seconds(self) -> float:
        return 0.0 if self.started_seconds is None else time.monotonic() - self.started_seconds

    @property
    def done(self) -> bool:
        return bool(self._threads) and not any(thread.is_alive() for thread in self._threads)

    def stop(self) -> None:
        """Send nothing more and wait for both threads."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def check(self) -> None:
        """Raise `UnavailableError` if the broker did not take a record."""
        if self.failures:
            raise UnavailableError(f"the broker refused {len(self.failures)} records: {self.failures[0]}")

    def _produce(self) -> None:
        producer = build_producer(self.bootstrap)
        for record, stream in self._in_time(uploads=False, idle=lambda: producer.poll(0)):
            self._send(producer, record, stream)
        left = producer.flush(60)
        if left:
            self.failures.append(f"{left} records were not acknowledged in 60 s")

    def _upload(self) -> None:
        for record, stream in self._in_time(uploads=True, idle=lambda: 0):
            assert self.door is not None
            refusal = self.door.upload(stream.pipeline, record)
            if refusal is None:
                self.uploads += 1
                self.sent[(stream.pipeline, record.tenant)] += 1
            else:
                self.refused.append(refusal)

    def _in_time(self, *, uploads: bool, idle: Callable[[], int]) -> Iterator[tuple[Record, Stream]]:
        """Yield each record when it is due, until `stop`."""
        assert self.started_seconds is not None
        own = ([pair for pair in _tagged(stream) if (pair[0].uploaded_at is not None) == uploads] for stream in self.streams)
        for record, stream in heapq.merge(*own, key=lambda pair: pair[0].at_seconds):
            due = self.started_seconds + record.at_seconds
            while (wait := due - time.monotonic()) > 0 and not self._stop.is_set():
                idle()
                self._stop.wait(min(wait, TICK_SECONDS))
            if self._stop.is_set():
                return
            yield record, stream

    def _send(self, producer: Producer, record: Record, stream: Stream) -> None:
        while True:
            try:
                producer.produce(
                    stream.topic, record.value, record.key, on_delivery=self._delivered((stream.pipeline, record.tenant))
                )
                return
            except BufferError:  # the local queue is full while the broker is slow: wait for room
                producer.poll(0.1)

    def _delivered(self, who: tuple[str, str]) -> Callable[[KafkaError | None, Message[bytes, bytes]], None]:
        def note(error: KafkaError | None, _message: Message[bytes, bytes]) -> None:
            if error is None:
                self.sent[who] += 1
            else:
                self.failures.append(str(error))

        return note


def _tagged(stream: Stream) -> list[tuple[Record, Stream]]:
    return [(record, stream) for record in stream.records]
