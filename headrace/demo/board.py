"""Gathers what the view shows: rates, lag, what is quarantined, what was predicted last."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import psycopg

from headrace.demo.feedback import Labeller, parse_instant
from headrace.demo.graphql import Follower
from headrace.demo.records import Stream
from headrace.demo.replay import Replay
from headrace.demo.view import Status, StreamStatus
from headrace.supervisor import Supervisor
from headrace.topology import SERVICES

QUARANTINE_SECONDS = 2.0  # asked now and then only: what is measured should not wait for the one who watches
RATE_SAMPLES = 12


@dataclass
class Board:
    """The state of a running demo, as seen from outside the processes.

    Args:
        count_quarantine: rows in quarantine by stream; may fail while the engine is down.
    """

    streams: Sequence[Stream]
    replay: Replay
    labeller: Labeller
    followers: Sequence[Follower]
    supervisor: Supervisor
    count_quarantine: Callable[[], Mapping[str, int]]
    _sent: dict[str, list[tuple[float, int]]] = field(default_factory=dict)
    _quarantined: Mapping[str, int] = field(default_factory=dict)
    _look_again: float = 0.0

    def status(self, phase: str, share: float) -> Status:
        """The screen as it should be now."""
        self._look_into_quarantine()
        processes = {name: "up" if self.supervisor.is_ready(name) else "down" for name in SERVICES}
        frames = sum(follower.frames for follower in self.followers)
        return Status(phase, share, [self._stream(stream) for stream in self.streams], processes, frames)

    def _stream(self, stream: Stream) -> StreamStatus:
        name = stream.pipeline
        sent = sum(count for (pipeline, _), count in self.replay.sent.items() if pipeline == name)
        return StreamStatus(
            name,
            sent,
            self._rate(name, sent),
            self.labeller.seen[name],
            self._behind_seconds(stream),
            self.labeller.sent[name],
            self._quarantined.get(name, 0),
            _told(self.labeller.latest.get(name)),
        )

    def _rate(self, name: str, sent: int) -> float:
        history = self._sent.setdefault(name, [])
        history.append((time.monotonic(), sent))
        del history[:-RATE_SAMPLES]
        (begun, first), (now, last) = history[0], history[-1]
        return (last - first) / (now - begun) if now > begun else 0.0

    def _behind_seconds(self, stream: Stream) -> float | None:
        """How far the newest prediction is behind the newest event, in seconds of replay; a window waits for its end."""
        latest = self.labeller.latest.get(stream.pipeline)
        if latest is None:
            return None
        replayed = min(self.replay.elapsed_seconds, stream.records[-1].at_seconds)
        sent_until = stream.first + timedelta(seconds=replayed * stream.speed)
        return max(0.0, (sent_until - parse_instant(latest["feature_end"])).total_seconds() / stream.speed)

    def _look_into_quarantine(self) -> None:
        if time.monotonic() >= self._look_again:
            self._look_again = time.monotonic() + QUARANTINE_SECONDS
            with contextlib.suppress(psycopg.Error, OSError):  # the engine may be down: then the last counts stand
                self._quarantined = self.count_quarantine()


def _told(prediction: Mapping[str, object] | None) -> str:
    if prediction is None:
        return ""
    score = prediction["score"]
    told = f"{score:.2f}" if isinstance(score, float) else "error"
    return f"{prediction['tenant_id']}/{prediction['entity_id']} {prediction['label']} {told}"
