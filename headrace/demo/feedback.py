"""The world answers: labels come back late, out of order, sometimes twice, sometimes wrong at first, sometimes never."""

from __future__ import annotations

import heapq
import json
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np
from confluent_kafka import OFFSET_BEGINNING, Producer, TopicPartition

from core.clock import Clock
from headrace.demo.records import FeatureKey, encode
from headrace.demo.replay import build_producer
from headrace.demo.topics import build_consumer, partitions

NEVER = 0.05
CORRECTED = 0.05
LONGEST_DELAY_SECONDS = 8.0


@dataclass
class Labeller:
    """Follows topic `predictions` and sends what is true to topic `feedback` after a random while.

    A twentieth of the predictions is never labelled; another twentieth is first labelled wrongly and corrected later; of
    these the correction may overtake the error, and counts nevertheless, because it is later by `labelled_at`.

    Args:
        truth: pipeline to the truth by what the prediction is about.
        clock: stamps `labelled_at`.

    Attributes:
        seen: predictions read, by pipeline.
        sent: labels sent, by pipeline; corrections count too.
        labelled: ids of the predictions that get a label.
        latest: the last prediction of each pipeline, for the view.
    """

    bootstrap: str
    truth: Mapping[str, Mapping[FeatureKey, str]]
    clock: Clock
    seed: int
    seen: Counter[str] = field(default_factory=Counter)
    sent: Counter[str] = field(default_factory=Counter)
    labelled: set[str] = field(default_factory=set)
    latest: dict[str, Mapping[str, object]] = field(default_factory=dict)
    _classes: dict[str, list[str]] = field(init=False)
    _due: list[tuple[float, int, str, bytes]] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __post_init__(self) -> None:
        self._classes = {pipeline: sorted(set(known.values())) for pipeline, known in self.truth.items()}

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="labeller", daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Read no more predictions, send what is still due at once, and return."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        rng = np.random.default_rng(self.seed)
        consumer, producer = build_consumer(self.bootstrap), build_producer(self.bootstrap)
        try:
            assigned = False
            while not self._stop.is_set():
                if not assigned and (found := partitions(consumer, "predictions")):
                    consumer.assign([TopicPartition("predictions", each, OFFSET_BEGINNING) for each in found])
                    assigned = True
                for message in consumer.consume(1000, timeout=0.1) if assigned else ():
                    if message.error() is None:
                        self._answer(json.loads(message.value() or b"{}"), rng)
                if not assigned:
                    self._stop.wait(0.2)
                self._send_due(producer, time.monotonic())
            self._send_due(producer, float("inf"))
            producer.flush(30)
        finally:
            consumer.close()

    def _answer(self, prediction: Mapping[str, object], rng: np.random.Generator) -> None:
        pipeline = str(prediction["pipeline"])
        self.seen[pipeline] += 1
        self.latest[pipeline] = prediction
        about = FeatureKey(str(prediction["tenant_id"]), str(prediction["entity_id"]), parse_instant(prediction["feature_end"]))
        label = self.truth.get(pipeline, {}).get(about)
        luck = rng.random()
        if label is None or luck < NEVER:
            return
        self.labelled.add(str(prediction["prediction_id"]))
        now = self.clock.now()
        delays = rng.uniform(0.5, LONGEST_DELAY_SECONDS, 2)
        self._put(pipeline, prediction, label, now + timedelta(seconds=LONGEST_DELAY_SECONDS), float(delays[0]))
        wrong = [other for other in self._classes[pipeline] if other != label]
        if luck < NEVER + CORRECTED and wrong:
            self._put(pipeline, prediction, str(rng.choice(wrong)), now, float(delays[1]))

    def _put(self, pipeline: str, prediction: Mapping[str, object], label: str, at: datetime, delay_seconds: float) -> None:
        row = {
            "tenant_id": prediction["tenant_id"],
            "prediction_id": prediction["prediction_id"],
            "label": label,
            "labelled_at": at,
            "source": "demo",
        }
        heapq.heappush(self._due, (time.monotonic() + delay_seconds, len(self._due), pipeline, encode(row)))

    def _send_due(self, producer: Producer, until: float) -> None:
        while self._due and self._due[0][0] <= until:
            _, _, pipeline, value = heapq.heappop(self._due)
            producer.produce("feedback", value)
            self.sent[pipeline] += 1
        producer.poll(0)


def parse_instant(value: object) -> datetime:
    """Read a timestamp as a sink writes it: RFC 3339 text, or unix milliseconds."""
    if isinstance(value, int):
        return datetime.fromtimestamp(value / 1000).astimezone()
    return datetime.fromisoformat(str(value))
