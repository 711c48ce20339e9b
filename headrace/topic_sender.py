"""Sends rows to a topic and waits for the acknowledgement of each."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from confluent_kafka import KafkaError, Message, Producer

from core.errors import UnavailableError

_SECONDS = 30.0


class TopicSender:
    """One topic of one broker; the idempotent producer repeats what was not acknowledged without doubling it."""

    def __init__(self, kafka: str, topic: str) -> None:
        self._topic = topic
        settings = {
            "bootstrap.servers": kafka,
            "enable.idempotence": True,
            "linger.ms": 5,
            "message.timeout.ms": int(_SECONDS * 1000),
        }
        self._producer = Producer({**settings, "log_level": 0})

    def send(self, rows: Sequence[Mapping[str, Any]]) -> dict[int, int]:
        """Send rows as JSON; returns the last offset by partition when all are acknowledged.

        Raises:
            UnavailableError: the broker does not acknowledge them.
        """
        last: dict[int, int] = {}
        problems: list[str] = []

        def arrived(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                problems.append(error.str())
            else:
                partition, offset = int(message.partition() or 0), int(message.offset() or 0)
                last[partition] = max(last.get(partition, -1), offset)

        for row in rows:
            self._producer.produce(self._topic, json.dumps(row).encode(), callback=arrived)
            self._producer.poll(0)
        left = self._producer.flush(_SECONDS)
        if left or problems:
            what = f"{left or len(problems)} of {len(rows)} events were not acknowledged"
            raise UnavailableError(f"{what}: {problems[0] if problems else 'no answer'}", where=self._topic)
        return last
