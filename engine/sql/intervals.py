"""INTERVAL constants: months, days and microseconds, as PostgreSQL keeps them.

Source: PostgreSQL documentation, section 8.5.4 (interval input).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal

from engine.sql.errors import SqlError

US_PER_DAY = 86_400_000_000
_UNITS: dict[str, tuple[int, int, int]] = {}
for names, parts in (
    ("millennium millennia", (12_000, 0, 0)),
    ("century centuries", (1_200, 0, 0)),
    ("decade decades", (120, 0, 0)),
    ("y yr yrs year years", (12, 0, 0)),
    ("mon mons month months", (1, 0, 0)),
    ("w week weeks", (0, 7, 0)),
    ("d day days", (0, 1, 0)),
    ("h hr hrs hour hours", (0, 0, 3_600_000_000)),
    ("m min mins minute minutes", (0, 0, 60_000_000)),
    ("s sec secs second seconds", (0, 0, 1_000_000)),
    ("ms msec msecs millisecond milliseconds", (0, 0, 1_000)),
    ("us usec usecs microsecond microseconds", (0, 0, 1)),
):
    for unit_name in names.split():
        _UNITS[unit_name] = parts
_CLOCK = re.compile(r"[+-]?\d+:\d")
_TOKEN = re.compile(r"\s*(?:([+-]?\d+):(\d+)(?::(\d+(?:\.\d+)?))?|([+-]?\d+(?:\.\d+)?)\s*([a-z]+)?)", re.IGNORECASE)


_ISO = re.compile(
    r"P(?:(-?\d+)Y)?(?:(-?\d+)M)?(?:(-?\d+)W)?(?:(-?\d+)D)?(?:T(?:(-?\d+)H)?(?:(-?\d+)M)?(?:(-?\d+(?:\.\d+)?)S)?)?"
)


@dataclass(frozen=True)
class Interval:
    """A span of time whose length may depend on the calendar."""

    months: int = 0
    days: int = 0
    microseconds: int = 0

    @property
    def fixed_us(self) -> int | None:
        """Its length in microseconds with days of 24 hours; None if it has months."""
        return None if self.months else self.days * US_PER_DAY + self.microseconds

    @property
    def duckdb(self) -> str:
        return f"INTERVAL '{self.months} months {self.days} days {self.microseconds} microseconds'"


def parse_interval(text: str, unit: str | None = None, position: int | None = None) -> Interval:
    """Read `5 seconds`, `1 day 02:03:04`, `-1 mon`, or a bare number with `unit`.

    Raises:
        SqlError: SQLSTATE 22007, the text is no interval.
    """
    iso = _ISO.fullmatch(text.strip().upper())
    if iso is not None and len(text.strip()) > 1:
        return _iso(iso)
    months = days = microseconds = 0
    rest = text.strip()
    if not rest:
        raise _invalid(text, position)
    while rest:
        match = _TOKEN.match(rest)
        if match is None:
            raise _invalid(text, position)
        hours, minutes, seconds, number, name = match.groups()
        rest = rest[match.end() :].lstrip()
        if hours is not None:
            sign = -1 if hours.startswith("-") else 1
            span = abs(int(hours)) * 3600 + int(minutes) * 60 + Decimal(seconds or 0)
            microseconds += sign * int(span * 1_000_000)
            continue
        # `3 04:05:06`: a bare number before a clock counts days.
        default = "day" if unit is None and _CLOCK.match(rest) else "second"
        per = _UNITS.get((name or unit or default).lower())
        if per is None:
            raise _invalid(text, position)
        amount = Decimal(number)
        months += int(amount * per[0])
        whole_days = int(amount * per[1])
        days += whole_days
        microseconds += int((amount * per[1] - whole_days) * US_PER_DAY) + int(amount * per[2])
    return Interval(months, days, microseconds)


def _iso(found: re.Match[str]) -> Interval:
    """`P1Y2M3DT4H5M6S`."""
    years, months, weeks, days, hours, minutes = (int(part or 0) for part in found.groups()[:6])
    seconds = int(Decimal(found[7] or 0) * 1_000_000)
    return Interval(years * 12 + months, weeks * 7 + days, (hours * 3600 + minutes * 60) * 1_000_000 + seconds)


def _invalid(text: str, position: int | None) -> SqlError:
    return SqlError(
        f"invalid input syntax for type interval: `{text}`",
        position=position,
        sqlstate="22007",
        fix="Write it as `INTERVAL '10 seconds'`.",
    )
