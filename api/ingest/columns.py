"""Does a JSON value fit a column? As strict as RisingWave reads JSON: no number out of a text, no text out of a number."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import date, datetime, time
from decimal import Decimal, InvalidOperation

Check = Callable[[object], str | None]
"""Returns what is wrong with a value that is not null, or None."""

_INSTANT = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d(:?\d\d)?)", re.ASCII)
_LOCAL_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?", re.ASCII)


def check_for(sql_type: str) -> Check:
    """The check for a column's type as the stream database spells it, e.g. `double precision[]`."""
    name = " ".join(sql_type.lower().split())
    if name.endswith("[]"):
        return _array_of(check_for(name[:-2]))
    return _CHECKS.get(re.split(r"[(<]", name, maxsplit=1)[0].strip(), _anything)


def check_instant(value: object) -> str | None:
    """A `timestamp with time zone`: an ISO 8601 text with a zone."""
    if not isinstance(value, str):
        return "expected an ISO 8601 text with a time zone"
    if not _INSTANT.fullmatch(value):
        return "expected an ISO 8601 time with a time zone and at most microseconds, such as 2026-01-31T08:30:00.5Z"
    try:
        datetime.fromisoformat(value)
    except ValueError as error:
        return f"is no time: {error}"
    return None


def check_text(value: object) -> str | None:
    """A `varchar`: a text that PostgreSQL can hold."""
    if not isinstance(value, str):
        return "expected a text"
    if "\x00" in value:
        return "a text cannot hold the character U+0000"
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return "the text holds half of a surrogate pair"
    return None


def _integer(bits: int) -> Check:
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1

    def check(value: object) -> str | None:
        if isinstance(value, bool) or not isinstance(value, int):
            return "expected a whole number"
        return None if low <= value <= high else f"is out of the range of a {bits}-bit integer"

    return check


def _float(value: object) -> str | None:
    if type(value) is float:
        return None if math.isfinite(value) else "is out of the range of a floating-point number"
    if isinstance(value, bool) or not isinstance(value, int):
        return "expected a number"
    return None if abs(value) < 1 << 1023 else "is out of the range of a floating-point number"


def _numeric(value: object) -> str | None:
    if isinstance(value, str):
        try:
            return None if Decimal(value).is_finite() else "expected a finite number"
        except InvalidOperation:
            return "expected a number"
    return _float(value)


def _boolean(value: object) -> str | None:
    return None if isinstance(value, bool) else "expected true or false"


def _local_timestamp(value: object) -> str | None:
    if not isinstance(value, str) or not _LOCAL_TIME.fullmatch(value):
        return "expected an ISO 8601 time without a time zone"
    return _parsed_by(datetime.fromisoformat, value)


def _date(value: object) -> str | None:
    return _parsed_by(date.fromisoformat, value) if isinstance(value, str) else "expected an ISO 8601 date"


def _time(value: object) -> str | None:
    return _parsed_by(time.fromisoformat, value) if isinstance(value, str) else "expected an ISO 8601 time of day"


def _parsed_by(parse: Callable[[str], object], value: str) -> str | None:
    try:
        parse(value)
    except ValueError:  # its text repeats the value, which may hold what no answer can
        return "is no date or time in ISO 8601"
    return None


def _array_of(check_element: Check) -> Check:
    def check(value: object) -> str | None:
        if not isinstance(value, list):
            return "expected an array"
        for at, element in enumerate(value):
            complaint = check_element(element) if element is not None else None
            if complaint:
                return f"element {at}: {complaint}"
        return None

    return check


def _struct(value: object) -> str | None:
    return None if isinstance(value, dict) else "expected an object"


def _anything(_: object) -> str | None:
    return None


_CHECKS: Mapping[str, Check] = {
    "smallint": _integer(16),
    "integer": _integer(32),
    "int": _integer(32),
    "bigint": _integer(64),
    "real": _float,
    "double precision": _float,
    "numeric": _numeric,
    "decimal": _numeric,
    "boolean": _boolean,
    "character varying": check_text,
    "varchar": check_text,
    "text": check_text,
    "bytea": check_text,
    "timestamp with time zone": check_instant,
    "timestamptz": check_instant,
    "timestamp without time zone": _local_timestamp,
    "timestamp": _local_timestamp,
    "date": _date,
    "time without time zone": _time,
    "time": _time,
    "interval": check_text,
    "struct": _struct,
}
