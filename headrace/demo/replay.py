"""Sends the streams at their own pace, and labels back after a while."""

from __future__ import annotations

import heapq
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from confluent_kafka import KafkaError, Message, Producer

from core.errors import UnavailableError
from headrace.demo.records import Record, Stream

logger = logging.getLogger(__name__)

# A producer wakes this often; finer than any rate in the demo needs, coarse enough to cost nothing.
TICK_SECONDS = 0.02


def build_producer(bootstrap: str) -> Producer:
    """An idempotent producer: nothing twice, in order, also when a request is repeated."""
    return Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 0, "message.timeout.ms": 60_000})


@dataclass
class Replay:
    """Sends records of all streams by their `at_seconds`, in one thread.

    Attributes:
        sent: (pipeline, tenant) to records acknowledged by the broker.
    """

    streams: Sequence[Stream]
    bootstrap: str
    sent: Counter[tuple[str, str]] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    started_seconds: float | None = None
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin now."""
        self._thread = threading.Thread(target=self._run, name="replay", daemon=True)
        self.started_seconds = time.monotonic()
        self._thread.start()

    @property
    def elapsed_seconds(self) -> float:
        return 0.0 if self.started_seconds is None else time.monotonic() - self.started_seconds

    @property
    def done(self) -> bool:
        return self._thread is not None and not self._thread.is_alive()

    def stop(self) -> None:
        """Send nothing more and wait for the thread."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def check(self) -> None:
        """Raise `UnavailableError` if the broker did not take a record."""
        if self.failures:
            raise UnavailableError(f"the broker refused {len(self.failures)} records: {self.failures[0]}")

    def _run(self) -> None:
        producer = build_producer(self.bootstrap)
        assert self.started_seconds is not None
        for record, stream in heapq.merge(*map(_tagged, self.streams), key=lambda pair: pair[0].at_seconds):
            due = self.started_seconds + record.at_seconds
            while (wait := due - time.monotonic()) > 0 and not self._stop.is_set():
                producer.poll(0)
                self._stop.wait(min(wait, TICK_SECONDS))
            if self._stop.is_set():
                break
            self._send(producer, record, stream)
        left = producer.flush(60)
        if left:
            self.failures.append(f"{left} records were not acknowledged in 60 s")

    def _send(self, producer: Producer, record: Record, stream: Stream) -> None:
        while True:
            try:
                producer.produce(
                    stream.topic, record.value, record.key, on_delivery=self._delivered((stream.pipeline, record.key))
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
