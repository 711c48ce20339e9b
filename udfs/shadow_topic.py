"""Answers of shadows go to the topic `predictions.shadow`, at least once; the stream database takes each once."""

from __future__ import annotations

from collections.abc import Sequence

from confluent_kafka import Producer

from udfs.shadows import ShadowAnswer

TOPIC = "predictions.shadow"
_WAIT_SECONDS = 30.0


class ShadowTopic:
    """Adapter of `udfs.shadows.ShadowSink`.

    Args:
        bootstrap: the brokers.
    """

    def __init__(self, bootstrap: str) -> None:
        self._producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 50, "enable.idempotence": True})

    def write(self, answers: Sequence[ShadowAnswer]) -> None:
        """Send; waits while the broker does not take what was sent before, so that the queue before this fills and sheds."""
        for answer in answers:
            while True:
                try:
                    self._producer.produce(TOPIC, answer.text, key=answer.key)
                    break
                except BufferError:
                    self._producer.poll(1.0)
        self._producer.poll(0)

    def close(self) -> None:
        self._producer.flush(_WAIT_SECONDS)
