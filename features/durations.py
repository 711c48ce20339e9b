"""Lengths of time as people write them in declarations: `10 seconds`, `1 day`, `1.5 hours`."""

from __future__ import annotations

import re
from datetime import timedelta

_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400, "week": 604_800}
_WRITTEN = re.compile(r"(\d+(?:\.\d+)?)\s*(second|minute|hour|day|week)s?")


def parse_duration(text: str) -> timedelta:
    """Read `NUMBER UNIT`.

    Raises:
        ValueError: it is written otherwise, or is not longer than nothing.
    """
    found = _WRITTEN.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"`{text}` is no length of time; write e.g. `10 seconds` or `1 day`")
    length = timedelta(seconds=float(found[1]) * _SECONDS[found[2]])
    if length <= timedelta():
        raise ValueError(f"`{text}` is not longer than nothing")
    return length


def write_duration(length: timedelta) -> str:
    """The shortest way that `parse_duration` reads back."""
    seconds = length.total_seconds()
    unit = next(
        unit for unit in ("week", "day", "hour", "minute", "second") if seconds % _SECONDS[unit] == 0 or unit == "second"
    )
    count = seconds / _SECONDS[unit]
    return f"{count:g} {unit}{'' if count == 1 else 's'}"
