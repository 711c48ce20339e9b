"""The sixteen window features of random events, by plain Python: what the template must say after every epoch."""

from __future__ import annotations

import datetime as dt
import math
import random
from collections.abc import Iterable
from dataclasses import dataclass

from features.templates.windows import WINDOWS

START = dt.datetime(2026, 3, 1)  # noqa: DTZ001  instants inside the engine are naive UTC
_STEPS = (0, 0, 1, 60, 3599, 3600, 3601, 7200, 86_400, 3 * 86_400, 9 * 86_400)
_LATE = (0, 0, 0, 0, 1, 1800, 3600, 86_399, 86_400, 6 * 86_400, 29 * 86_400)


@dataclass(frozen=True)
class Event:
    number: int
    user: str
    action: str | None
    value: float | None
    at: dt.datetime

    def row(self) -> str:
        value = "NULL" if self.value is None else repr(self.value)
        action = "NULL" if self.action is None else f"'{self.action}'"
        return f"({self.number}, 'acme', '{self.user}', {action}, {value}, '{self.at.isoformat()}')"


class Stream:
    """Draws events: many share a moment, sit on the very edge of a window, come late, or are corrected."""

    def __init__(self, seed: int) -> None:
        self._drawn = random.Random(seed)
        self.newest = START
        self.number = 0

    def event(self, number: int | None = None) -> Event:
        """A new event, or a new version of an old one."""
        self.newest += dt.timedelta(seconds=self._drawn.choice(_STEPS) if self._drawn.random() < 0.5 else 0)
        self.number += number is None
        return Event(
            self.number if number is None else number,
            self._drawn.choice("abc"),
            self._drawn.choice(["view", "click", "like", None]),
            self._drawn.choice([None, round(self._drawn.uniform(-5, 5), 2), 0.1]),
            self.newest - dt.timedelta(seconds=self._drawn.choice(_LATE)),
        )

    def some(self, most: int) -> int:
        return self._drawn.randint(0, most)

    def pick(self, numbers: Iterable[int]) -> int:
        return self._drawn.choice(sorted(numbers))


Expected = dict[str, list[tuple[int, float | None, float | None, int]]]


def expected(events: Iterable[Event], clock: dt.datetime) -> Expected:
    """For each user with an event in any window: (count, sum, average, kinds) of each window."""
    rows: Expected = {}
    there = list(events)
    for user in sorted({event.user for event in there}):
        windows = []
        for length in WINDOWS.values():
            held = [event for event in there if event.user == user and clock - length < event.at <= clock]
            values = [event.value for event in held if event.value is not None]
            total = math.fsum(values) if values else None
            kinds = {event.action for event in held} - {None}
            windows.append((len(held), total, None if total is None else total / len(values), len(kinds)))
        if windows[-1][0]:
            rows[user] = windows
    return rows
