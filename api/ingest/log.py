"""Appends records to the log by the Kafka protocol; returns when the broker has acknowledged all of them."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Sequence
from typing import Any, Protocol

from confluent_kafka import KafkaError, KafkaException, Producer
from opentelemetry import propagate

from api.ingest.verdicts import Record
from core.errors import UnavailableError

logger = logging.getLogger(__name__)

ACKNOWLEDGE_SECONDS = 10.0  # of librdkafka for one record, retries included; then the caller gets 503 and may repeat
_POLL_SECONDS = 0.1  # also how long `close` waits for the thread at most
_FULL_WAIT_SECONDS = 0.005  # when librdkafka's queue is full: time for it to send some


class EventLog(Protocol):
    """Where accepted rows go. Adapters: `KafkaLog`, and in tests a list."""

    async def append(self, topic: str, records: Sequence[Record]) -> None:
        """Append all records; they are durable when this returns.

        Raises:
            UnavailableError: at least one was not acknowledged; each may or may not be in the log.
        """
        ...


class KafkaLog:
    """An idempotent producer (acks=all) whose delivery reports wake the event loop once per request, not once per record.

    librdkafka calls back in the thread that polls; so there is one that does nothing else.
    """

    def __init__(self, bootstrap: str, *, max_message_bytes: int, acknowledge_seconds: float = ACKNOWLEDGE_SECONDS) -> None:
        self._acknowledge_seconds = acknowledge_seconds
        self._config: dict[str, Any] = {  # Any: librdkafka takes texts and numbers
            "bootstrap.servers": bootstrap,
            "enable.idempotence": True,
            "acks": "all",
            "linger.ms": 2,
            "message.timeout.ms": int(acknowledge_seconds * 1000),
            "message.max.bytes": max_message_bytes,
            "queue.buffering.max.messages": 200_000,
            "partitioner": "murmur2_random",  # as Java clients do, so that an entity has one partition whoever produces
            "error_cb": self._on_error,
            "log_level": 2,  # librdkafka tells each failed attempt to connect; `_on_error` tells the first
        }
        self._away = False
        self._producer = Producer(self._config)
        self._closing = threading.Event()
        self._poller = threading.Thread(target=self._poll, name="log-delivery-reports", daemon=True)
        self._poller.start()

    async def append(self, topic: str, records: Sequence[Record]) -> None:
        if not records:
            return
        loop = asyncio.get_running_loop()
        delivery = _Delivery(loop, len(records))
        carrier: dict[str, str] = {}
        propagate.inject(carrier)
        headers: list[tuple[str, str | bytes | None]] = list(carrier.items())
        deadline = loop.time() + self._acknowledge_seconds
        for record in records:
            while not self._try_produce(topic, record, headers, delivery):
                if loop.time() > deadline:
                    raise _unacknowledged("the queue to the broker is full")
                await asyncio.sleep(_FULL_WAIT_SECONDS)
        error = await delivery.done
        if error is not None:
            raise _unacknowledged(error)
        self._away = False

    def _try_produce(
        self, topic: str, record: Record, headers: list[tuple[str, str | bytes | None]], delivery: _Delivery
    ) -> bool:
        try:
            self._producer.produce(topic, value=record.value, key=record.key, headers=headers, on_delivery=delivery)
        except BufferError:
            return False
        except KafkaException as error:
            raise self._refused(error) from error
        return True

    def _refused(self, error: KafkaException) -> UnavailableError:
        if error.args and error.args[0].fatal():  # an idempotent producer that lost its sequence never recovers
            logger.error("producer failed for good, starting another", extra={"reason": str(error.args[0])})
            self._producer = Producer(self._config)
        return _unacknowledged(str(error.args[0] if error.args else error))

    def _on_error(self, error: KafkaError) -> None:
        """Called in the polling thread, again and again while the broker is away."""
        if not self._away:
            logger.warning("broker away", extra={"reason": str(error)})
        self._away = True

    def reachable(self, timeout_seconds: float) -> bool:
        """Ask the broker for its metadata; blocks up to the time-out."""
        try:
            self._producer.list_topics(timeout=timeout_seconds)
        except KafkaException:
            return False
        return True

    def close(self, timeout_seconds: float) -> None:
        """Deliver what is queued, then stop; blocks up to the time-out."""
        left = self._producer.flush(timeout_seconds)
        if left:
            logger.warning("records left undelivered", extra={"records": left})
        self._closing.set()
        self._poller.join()

    def _poll(self) -> None:
        while not self._closing.is_set():
            self._producer.poll(_POLL_SECONDS)


class _Delivery:
    """Counts the reports of one request; called in the polling thread only."""

    def __init__(self, loop: asyncio.AbstractEventLoop, expected: int) -> None:
        self.done: asyncio.Future[str | None] = loop.create_future()
        self._loop = loop
        self._missing = expected
        self._error: str | None = None

    def __call__(self, error: object | None, _message: object) -> None:
        if error is not None and self._error is None:
            self._error = str(error)
        self._missing -= 1
        if self._missing == 0 and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._resolve)

    def _resolve(self) -> None:
        if not self.done.done():
            self.done.set_result(self._error)


def _unacknowledged(reason: str) -> UnavailableError:
    return UnavailableError(
        f"the broker did not acknowledge the rows: {reason}", where="broker", fix="Send the same rows again in a moment."
    )
