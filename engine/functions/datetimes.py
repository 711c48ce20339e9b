"""Dates and times from text and to text, outside what DuckDB writes as RisingWave does: far years, zones, strict input.

Instants are microseconds since 1970 (UTC where there is a zone), days are days since 1970, a time of day is microseconds.

Source: PostgreSQL documentation, 8.5.1 "Date/Time Input".
"""

from __future__ import annotations

import datetime as dt
import functools
import re
from zoneinfo import ZoneInfo, available_timezones

from engine.functions.native import ValueFault, native
from engine.functions.texts import wrong_input

US_PER_SECOND = 1_000_000
US_PER_DAY = 86_400 * US_PER_SECOND
_EPOCH = dt.date(1970, 1, 1).toordinal()
_CYCLE_DAYS = 146_097
"""The calendar repeats after 400 years of so many days."""

_DATE = re.compile(r"(\d{4,7})-(\d{1,2})-(\d{1,2})|(\d{4})(\d{2})(\d{2})|(\d{4})/(\d{1,2})/(\d{1,2})")
_CLOCK = re.compile(r"(\d{1,2}):(\d{1,2})(?::(\d{1,2})(?:\.(\d{1,9}))?)?(?:\s*(am|pm)(?![a-z]))?", re.IGNORECASE)
_ZONE = re.compile(
    r"\s*(?:([zZ]|utc|gmt)|([+-])(\d{1,2})(?::?(\d{2}))?(?::?(\d{2}))?|([a-z]+(?:/[a-z_+\-0-9]+)*))", re.IGNORECASE
)


def days_of(year: int, month: int, day: int) -> int:
    """Days since 1970; years before 1 are 0 (1 BC), -1 (2 BC) ... Raises ValueError for a day that does not exist."""
    cycles, near = divmod(year - 1, 400)
    return dt.date(near + 1, month, day).toordinal() + cycles * _CYCLE_DAYS - _EPOCH


def date_of(days: int) -> tuple[int, int, int]:
    """Year (0 is 1 BC), month and day of days since 1970."""
    cycles, rest = divmod(days + _EPOCH - 1, _CYCLE_DAYS)
    near = dt.date.fromordinal(rest + 1)
    return near.year + 400 * cycles, near.month, near.day


@functools.lru_cache(maxsize=256)
def zone_of(name: str) -> dt.tzinfo:
    """A time zone by name or offset.

    Raises:
        ValueFault: 22023, there is none.
    """
    found = re.fullmatch(r"([+-])(\d{1,2})(?::?(\d{2}))?", name.strip())
    if found:
        minutes = int(found[2]) * 60 + int(found[3] or 0)
        return dt.timezone(dt.timedelta(minutes=-minutes if found[1] == "-" else minutes))
    known = _zone_names().get(name.strip().lower())
    if known is None:
        raise ValueFault("22023", f'time zone "{name}" not recognized')
    return ZoneInfo(known)


@functools.cache
def _zone_names() -> dict[str, str]:
    return {name.lower(): name for name in available_timezones()}


def to_local(us: int, zone: dt.tzinfo) -> int:
    """Microseconds of the wall clock in a zone at an instant."""
    near = us % (_CYCLE_DAYS * US_PER_DAY)  # the zone's rules of 1970 to 2369 stand for all time
    moment = dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=near if not -62e15 < us < 250e15 else us)
    offset = moment.astimezone(zone).utcoffset() or dt.timedelta()
    return us + offset // dt.timedelta(microseconds=1)


def from_local(us: int, zone: dt.tzinfo) -> int:
    """The instant of a wall clock in a zone; the first of two, the one before the gap where there is none."""
    wall = dt.datetime(1970, 1, 1) + dt.timedelta(microseconds=us if -62e15 < us < 250e15 else us % (_CYCLE_DAYS * US_PER_DAY))  # noqa: DTZ001  # a wall clock has no zone
    offset = wall.replace(tzinfo=zone).utcoffset() or dt.timedelta()
    return us - offset // dt.timedelta(microseconds=1)


def read_clock(text: str) -> tuple[int, int] | None:
    """Microseconds since midnight and where the text goes on."""
    found = _CLOCK.match(text)
    if found is None:
        return None
    hour, minute, second = int(found[1]), int(found[2]), int(found[3] or 0)
    if found[5]:
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + (12 if found[5].lower() == "pm" else 0)
    if hour > 24 or minute > 59 or second > 60 or (hour == 24 and (minute or second)):
        raise ValueFault("22008", f'date/time field value out of range: "{text}"')
    fraction = (found[4] or "").ljust(6, "0")
    us = int(fraction[:6]) + (1 if len(fraction) > 6 and fraction[6] >= "5" else 0)
    return (hour * 3600 + minute * 60 + second) * US_PER_SECOND + us, found.end()


def _read(text: str, type_: str) -> tuple[int, int, dt.tzinfo | None]:
    """Days, microseconds since midnight, and the zone if one is written."""
    rest = text.strip()
    if rest.lower() == "epoch":
        return 0, 0, dt.UTC
    era = re.search(r"\s+(bc|ad)$", rest, re.IGNORECASE)
    if era:
        rest = rest[: era.start()]
    found = _DATE.match(rest)
    if found is None:
        raise wrong_input(type_, text, "22007")
    year, month, day = (int(part) for part in found.groups() if part is not None)
    try:
        days = days_of(1 - year if era and era[1].lower() == "bc" else year, month, day)
    except ValueError as error:
        raise ValueFault("22008", f'date/time field value out of range: "{text}"') from error
    rest = rest[found.end() :]
    us = 0
    zone: dt.tzinfo | None = None
    if rest:
        clock = read_clock(rest[1:].lstrip()) if rest[0] in "Tt " else None
        if clock is None:
            raise wrong_input(type_, text, "22007")
        us, used = clock
        rest = rest[1:].lstrip()[used:]
        if rest:
            written = _ZONE.fullmatch(rest)
            if written is None:
                raise wrong_input(type_, text, "22007")
            if written[1]:
                zone = dt.UTC
            elif written[2]:
                size = dt.timedelta(hours=int(written[3]), minutes=int(written[4] or 0), seconds=int(written[5] or 0))
                zone = dt.timezone(-size if written[2] == "-" else size)
            else:
                zone = zone_of(written[6])
    return days, us, zone


@native("hr_timestamp", "VARCHAR", returns="BIGINT")
def _timestamp(text: str) -> int:
    days, us, _ = _read(text, "timestamp")
    return days * US_PER_DAY + us


@native("hr_timestamptz", "VARCHAR", returns="BIGINT")
def _timestamptz(text: str) -> int:
    days, us, zone = _read(text, "timestamp with time zone")
    wall = days * US_PER_DAY + us
    return wall if zone is None else from_local(wall, zone)


@native("hr_timestamptz_in", "VARCHAR", "VARCHAR", returns="BIGINT")
def _timestamptz_in(text: str, home: str) -> int:
    """A text without a zone is of the session's."""
    days, us, zone = _read(text, "timestamp with time zone")
    return from_local(days * US_PER_DAY + us, zone_of(home) if zone is None else zone)


@native("hr_date", "VARCHAR", returns="INTEGER")
def _date(text: str) -> int:
    return _read(text, "date")[0]


@native("hr_time", "VARCHAR", returns="BIGINT")
def _time(text: str) -> int:
    stripped = text.strip()
    clock = read_clock(stripped)
    if clock is None or (stripped[clock[1] :] and not _ZONE.fullmatch(stripped[clock[1] :])):
        if _DATE.match(stripped):
            return _read(text, "time")[1]
        raise wrong_input("time", text, "22007")
    return clock[0] % US_PER_DAY


def clock_text(us: int) -> str:
    """`01:02:03`, with three or six decimals where there is a fraction."""
    seconds, fraction = divmod(us, US_PER_SECOND)
    text = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    if not fraction:
        return text
    return f"{text}.{fraction:06d}" if fraction % 1000 else f"{text}.{fraction // 1000:03d}"


native("hr_time_text", "BIGINT", returns="VARCHAR")(clock_text)


@native("hr_date_text", "BIGINT", returns="VARCHAR")
def _date_text(days: int) -> str:
    year, month, day = date_of(days)
    return f"{year:04d}-{month:02d}-{day:02d}" if year > 0 else f"{1 - year:04d}-{month:02d}-{day:02d} BC"


@native("hr_timestamp_text", "BIGINT", returns="VARCHAR")
def _timestamp_text(us: int, zone: str = "") -> str:
    day, _, era = _date_text(us // US_PER_DAY).partition(" ")
    return f"{day} {clock_text(us % US_PER_DAY)}{zone}{' ' + era if era else ''}"


@native("hr_timestamptz_text", "BIGINT", returns="VARCHAR")
def _timestamptz_text(us: int) -> str:
    return _timestamp_text(us, "+00:00")


@native("hr_timestamptz_text_in", "BIGINT", "VARCHAR", returns="VARCHAR")
def zoned_text(us: int, zone: str) -> str:
    """Microseconds since 1970 on the wall clock of a zone, with its offset then."""
    wall = to_local(us, zone_of(zone))
    sign, minutes = ("-", (us - wall) // 60_000_000) if wall < us else ("+", (wall - us) // 60_000_000)
    return _timestamp_text(wall, f"{sign}{minutes // 60:02d}:{minutes % 60:02d}")
