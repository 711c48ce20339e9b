"""to_char, to_timestamp and to_date: template patterns of dates and times.

Source: PostgreSQL documentation, 9.8, table "Template Patterns for Date/Time Formatting"; RisingWave documentation, `to_char`.
"""

from __future__ import annotations

import functools
import re

from engine.functions.casts import interval_parts
from engine.functions.datetimes import US_PER_DAY, US_PER_SECOND, date_of, days_of, to_local, zone_of
from engine.functions.native import ValueFault, native
from engine.functions.registry import FunctionTable

_MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
_DAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
_TOKEN = re.compile(
    r'"((?:[^"\\]|\\.)*)"|(FM)|(HH24|HH12|HH|MI|SSSSS|SSSS|SS|MS|US|NS|FF[1-6]|Y,YYY|YYYY|YYY|YY|Y|IYYY|IYY|IY|IDDD|ID|IW|I|MONTH|MON|MM|DAY|DDD|'
    r"DY|DD|D|WW|W|CC|J|Q|RM|TZH|TZM|TZ|OF|AM|PM|A\.M\.|P\.M\.|BC|AD)(TH|th)?",
    re.IGNORECASE,
)


@functools.lru_cache(maxsize=256)
def _tokens(pattern: str) -> tuple[tuple[str, str, bool, str], ...]:
    """(kind, text as written, whether FM stands before it, ordinal suffix); kind "" is plain text."""
    out: list[tuple[str, str, bool, str]] = []
    at, fill = 0, False
    while at < len(pattern):
        found = _TOKEN.match(pattern, at)
        if found is None:
            out.append(("", pattern[at], False, ""))
            at += 1
            continue
        at = found.end()
        if found[1] is not None:
            out.append(("", found[1].replace('\\"', '"'), False, ""))
        elif found[2]:
            fill = True
        else:
            out.append((found[3].upper(), found[3], fill, found[4] or ""))
            fill = False
    return tuple(out)


def _case(word: str, written: str) -> str:
    letters = [c for c in written if c.isalpha()]
    if all(c.islower() for c in letters):
        return word.lower()
    return word.upper() if len(letters) > 1 and letters[1].isupper() else word


def _ordinal(text: str, suffix: str) -> str:
    number = int(text)
    ending = "th" if 10 < number % 100 < 14 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return text + (ending.upper() if suffix.isupper() else ending)


def _word(kind: str, written: str, filled: bool, year: int, month: int, weekday: int, hour: int) -> str | None:
    names = {"MONTH": _MONTHS[month - 1], "MON": _MONTHS[month - 1][:3], "DAY": _DAYS[weekday], "DY": _DAYS[weekday][:3]}
    if kind in names:
        word = _case(names[kind], written)
        return word.ljust(9) if kind in ("MONTH", "DAY") and not filled else word
    if kind in ("AM", "PM", "A.M.", "P.M."):
        word = ("P" if hour >= 12 else "A") + ("." if "." in kind else "") + "M" + ("." if "." in kind else "")
        return word.lower() if written[0].islower() else word
    if kind in ("BC", "AD"):
        word = "AD" if year > 0 else "BC"
        return word.lower() if written[0].islower() else word
    return {"TZ": "UTC" if written.isupper() else "utc", "TZH": "+00", "TZM": "00", "OF": "+00"}.get(kind)


def _number(kind: str, year: int, month: int, day: int, days: int, us: int) -> tuple[int, int]:
    """The value and the width that it is padded to."""
    hour, second = us // (3600 * US_PER_SECOND), us // US_PER_SECOND
    shown = year if year > 0 else 1 - year
    weekday = (days + 4) % 7
    day_of_year = days - days_of(year, 1, 1) + 1
    thursday = days - (weekday + 6) % 7 + 3
    iso_year = date_of(thursday)[0]
    iso_week = (thursday - days_of(iso_year, 1, 1)) // 7 + 1
    values = {
        "HH24": (hour, 2), "HH12": (hour % 12 or 12, 2), "HH": (hour % 12 or 12, 2), "MI": (second // 60 % 60, 2), "SS": (second % 60, 2),
        "SSSS": (second % 86_400, 1), "SSSSS": (second % 86_400, 1), "MS": (us // 1000 % 1000, 3), "US": (us % US_PER_SECOND, 6),
        "NS": (us % US_PER_SECOND * 1000, 9), "YYYY": (shown, 4), "YYY": (shown % 1000, 3), "YY": (shown % 100, 2), "Y": (shown % 10, 1),
        "IYYY": (iso_year, 4), "IYY": (iso_year % 1000, 3), "IY": (iso_year % 100, 2), "I": (iso_year % 10, 1), "MM": (month, 2),
        "DD": (day, 2), "DDD": (day_of_year, 3), "IDDD": ((iso_week - 1) * 7 + (weekday or 7), 3), "D": (weekday + 1, 1), "ID": (weekday or 7, 1),
        "WW": ((day_of_year - 1) // 7 + 1, 2), "IW": (iso_week, 2), "W": ((day - 1) // 7 + 1, 1), "CC": ((shown + 99) // 100, 2),
        "J": (days + 2_440_588, 1), "Q": ((month + 2) // 3, 1),
    }  # fmt: skip
    if kind.startswith("FF"):
        digits = int(kind[2])
        return us % US_PER_SECOND // 10 ** (6 - digits), digits
    return values[kind]


@native("hr_to_char_in", "BIGINT", "VARCHAR", "VARCHAR", returns="VARCHAR")
def _to_char_in(us: int, pattern: str, zone: str) -> str:
    """An instant on the wall clock of a zone."""
    wall = to_local(us, zone_of(zone))
    return _formatted(wall, pattern, (wall - us) // (60 * US_PER_SECOND))


@native("hr_to_char", "BIGINT", "VARCHAR", returns="VARCHAR")
def _to_char(us: int, pattern: str) -> str:
    return _formatted(us, pattern, 0)


def _formatted(us: int, pattern: str, offset_minutes: int) -> str:
    days, clock = divmod(us, US_PER_DAY)
    year, month, day = date_of(days)
    out = []
    for kind, written, filled, suffix in _tokens(pattern):
        if not kind:
            out.append(written)
            continue
        word = _word(kind, written, filled, year, month, (days + 4) % 7, clock // (3600 * US_PER_SECOND))
        if kind in ("TZH", "TZM", "OF") and offset_minutes:
            sign = "-" if offset_minutes < 0 else "+"
            hours, minutes = divmod(abs(offset_minutes), 60)
            out.append(f"{minutes:02d}" if kind == "TZM" else f"{sign}{hours:02d}")
        elif word is not None:
            out.append(word)
        elif kind == "Y,YYY":
            out.append(f"{year:,}")
        elif kind == "RM":
            out.append(
                (["I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII"][month - 1]).ljust(
                    0 if filled else 4
                )
            )
        else:
            value, width = _number(kind, year, month, day, days, clock)
            text = str(value) if filled else str(value).zfill(width)
            out.append(_ordinal(text, suffix) if suffix else text)
    return "".join(out)


@native("hr_to_char_interval", "BIGINT", "BIGINT", "BIGINT", "VARCHAR", returns="VARCHAR")
def _to_char_interval(months: int, days: int, us: int, pattern: str) -> str:
    hour = us // (3600 * US_PER_SECOND)
    values = {"YYYY": (months // 12, 4), "YY": (months // 12, 2), "MM": (months % 12, 2), "DD": (days, 2), "HH24": (hour, 2), "HH12": (hour % 12 or 12, 2),
              "HH": (hour % 12 or 12, 2), "MI": (us // (60 * US_PER_SECOND) % 60, 2), "SS": (us // US_PER_SECOND % 60, 2), "MS": (us // 1000 % 1000, 3),
              "US": (us % US_PER_SECOND, 6)}  # fmt: skip
    out = []
    for kind, written, filled, _ in _tokens(pattern):
        if kind in values:
            value, width = values[kind]
            out.append(str(value) if filled else str(value).zfill(width))
        elif kind in ("AM", "PM"):
            out.append(_word(kind, written, filled, 1, 1, 0, hour % 24) or "")
        else:
            out.append(written)
    return "".join(out)


_DIGITS = {
    "YYYY": 4, "YYY": 3, "YY": 2, "Y": 1, "IYYY": 4, "MM": 2, "DD": 2, "DDD": 3, "HH24": 2, "HH12": 2, "HH": 2, "MI": 2, "SS": 2,
    "MS": 3, "US": 6, "NS": 9, "SSSS": 5, "SSSSS": 5, "J": 7,
}  # fmt: skip


@native("hr_parse_time", "VARCHAR", "VARCHAR", returns="BIGINT")
def _parse(text: str, pattern: str) -> int:
    """Microseconds of a text written after a template; what is missing is 0 or the first."""
    fields: dict[str, int] = {}
    at, zone, afternoon = 0, 0, None
    for kind, written, _, _ in _tokens(pattern):
        if not kind:
            if written.isspace():
                while text[at : at + 1].isspace():
                    at += 1
            elif at < len(text):
                at += len(written)
            continue
        while text[at : at + 1].isspace():
            at += 1
        if kind in _DIGITS:
            found = re.compile(rf"[+-]?\d{{1,{_DIGITS[kind]}}}").match(text, at)
            if found is None:
                raise ValueFault("22007", f'invalid value "{text[at:]}" for "{written}"')
            fields[kind] = int(found[0]) * (10 ** (_DIGITS[kind] - len(found[0])) if kind in ("MS", "US", "NS") else 1)
            at = found.end()
        elif kind in ("MONTH", "MON"):
            names = [m if kind == "MONTH" else m[:3] for m in _MONTHS]
            matches = [i for i, name in enumerate(names) if text[at:].lower().startswith(name.lower())]
            if not matches:
                raise ValueFault("22007", f'invalid value "{text[at:]}" for "{written}"')
            fields["MM"] = matches[0] + 1
            at += len(names[matches[0]])
        elif kind in ("DAY", "DY"):
            found = re.compile(r"[A-Za-z]+").match(text, at)
            at = found.end() if found else at
        elif kind in ("AM", "PM", "A.M.", "P.M."):
            afternoon = text[at : at + 1].lower() == "p"
            at += len(kind)
        elif kind in ("TZH", "OF"):
            found = re.compile(r"([+-]?)(\d{1,2})(?::(\d\d))?").match(text, at)
            if found:
                zone = (int(found[2]) * 60 + int(found[3] or 0)) * (-1 if found[1] == "-" else 1)
                at = found.end()
        elif kind == "TZM":
            found = re.compile(r":?(\d{1,2})").match(text, at)
            if found:
                zone += int(found[1]) * (-1 if zone < 0 else 1)
                at = found.end()
    return _assemble(fields, text, afternoon) - zone * 60 * US_PER_SECOND


def _assemble(fields: dict[str, int], text: str, afternoon: bool | None) -> int:
    year = fields.get("YYYY", fields.get("IYYY", 1))
    if "YY" in fields:
        year = fields["YY"] + (2000 if fields["YY"] < 70 else 1900)
    hour = fields.get("HH24", 0)
    for name in ("HH12", "HH"):
        if name in fields:
            hour = fields[name] if afternoon is None else fields[name] % 12 + (12 if afternoon else 0)
    minute, second = fields.get("MI", 0), fields.get("SS", 0)
    try:
        days = days_of(year, fields.get("MM", 1), fields.get("DD", 1))
        if "DDD" in fields:
            days = days_of(year, 1, 1) + fields["DDD"] - 1
        if not (0 <= hour <= 23 and 0 <= minute <= 59 and 0 <= second <= 59):
            raise ValueError("out of range")
    except ValueError as error:
        raise ValueFault("22008", f'date/time field value out of range: "{text}"') from error
    us = fields.get("MS", 0) * 1000 + fields.get("US", 0) + fields.get("NS", 0) // 1000
    return days * US_PER_DAY + (hour * 3600 + minute * 60 + second) * US_PER_SECOND + us


def declare(t: FunctionTable) -> None:
    for type_ in ("timestamp", "timestamptz"):
        t.add("to_char", f"{type_}, varchar -> varchar", "hr_to_char(epoch_us({0}), {1})")
    t.add("to_char", "timestamptz, varchar, varchar -> varchar", "hr_to_char_in(epoch_us({0}), {1}, {2})")
    t.add("to_char", "date, varchar -> varchar", "hr_to_char(epoch_us(CAST({0} AS TIMESTAMP)), {1})")
    t.add("to_char", "interval, varchar -> varchar", f"hr_to_char_interval({', '.join(interval_parts('{0}'))}, {{1}})")
    t.add("to_timestamp", "varchar, varchar -> timestamptz", "make_timestamp(hr_parse_time({0}, {1}))")
    t.add("to_date", "varchar, varchar -> date", "CAST(make_timestamp(hr_parse_time({0}, {1})) AS DATE)")
