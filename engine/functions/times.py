"""Date and time functions and operators. An instant is a plain TIMESTAMP in UTC.

Source: RisingWave documentation, "Date and time functions and operators"; PostgreSQL documentation, 9.9.
"""

from __future__ import annotations

from fractions import Fraction

from engine.functions.casts import interval_parts
from engine.functions.datetimes import US_PER_DAY, US_PER_SECOND, date_of, days_of, from_local, to_local, zone_of
from engine.functions.native import NUMERIC, ValueFault, native
from engine.functions.registry import FunctionTable
from engine.sql import numeric

_UNITS = {
    "us": "microseconds", "microsecond": "microseconds", "ms": "milliseconds", "msec": "milliseconds", "millisecond": "milliseconds",
    "seconds": "second", "minutes": "minute", "hours": "hour", "days": "day", "weeks": "week", "months": "month",
    "quarters": "quarter", "years": "year", "decades": "decade", "centuries": "century", "millenniums": "millennium",
    "millennia": "millennium",
}  # fmt: skip
_JULIAN_1970 = 2_440_588


def _unknown(field: str, type_: str) -> ValueFault:
    return ValueFault("22023", f'unit "{field}" not recognized for type {type_}')


def _exact(us: int, scale: int = 6) -> int:
    return numeric.encode(us, scale)


def _clock_field(field: str, us: int) -> int | None:
    """A field of the time of day, as a numeric key."""
    second = us % (60 * US_PER_SECOND)
    if field == "hour":
        return numeric.encode(us // (3600 * US_PER_SECOND), 0)
    if field == "minute":
        return numeric.encode(us // (60 * US_PER_SECOND) % 60, 0)
    if field == "second":
        return _exact(second)
    if field == "milliseconds":
        return _exact(second, 3)
    return numeric.encode(second, 0) if field == "microseconds" else None


def _date_field(field: str, days: int) -> int | None:
    year, month, day = date_of(days)
    shown = year if year > 0 else year - 1
    weekday = (days + 4) % 7
    if field in ("isoyear", "week"):
        thursday = days - (weekday + 6) % 7 + 3
        iso_year = date_of(thursday)[0]
        week = (thursday - days_of(iso_year, 1, 1)) // 7 + 1
        return (iso_year if iso_year > 0 else iso_year - 1) if field == "isoyear" else week
    values = {
        "year": shown, "month": month, "day": day, "quarter": (month + 2) // 3, "dow": weekday, "isodow": weekday or 7,
        "doy": days - days_of(year, 1, 1) + 1, "decade": year // 10, "century": -(-year // 100) if year > 0 else -((100 - year) // 100),
        "millennium": -(-year // 1000) if year > 0 else -((1000 - year) // 1000), "julian": days + _JULIAN_1970,
    }  # fmt: skip
    return values.get(field)


@native("hr_extract_timestamp", "VARCHAR", "BIGINT", "BOOLEAN", returns=NUMERIC)
def _extract_timestamp(name: str, us: int, zoned: bool) -> int:
    field = _UNITS.get(name.lower(), name.lower())
    days, clock = divmod(us, US_PER_DAY)
    if field == "epoch":
        return _exact(us)
    if field == "julian":
        return numeric.add(
            numeric.encode(days + _JULIAN_1970, 0), numeric.divide(numeric.encode(clock, 0), numeric.encode(US_PER_DAY, 0))
        )
    if zoned and field in ("timezone", "timezone_hour", "timezone_minute"):
        return numeric.encode(0, 0)
    found = _clock_field(field, clock)
    if found is not None:
        return found
    value = _date_field(field, days)
    if value is None:
        raise _unknown(name, f"timestamp {'with' if zoned else 'without'} time zone")
    return numeric.encode(value, 0)


@native("hr_extract_date", "VARCHAR", "BIGINT", returns=NUMERIC)
def _extract_date(name: str, days: int) -> int:
    field = _UNITS.get(name.lower(), name.lower())
    value = days * 86_400 if field == "epoch" else _date_field(field, days)
    if value is None:
        raise _unknown(name, "date")
    return numeric.encode(value, 0)


@native("hr_extract_time", "VARCHAR", "BIGINT", returns=NUMERIC)
def _extract_time(name: str, us: int) -> int:
    field = _UNITS.get(name.lower(), name.lower())
    found = _exact(us) if field == "epoch" else _clock_field(field, us)
    if found is None:
        raise _unknown(name, "time without time zone")
    return found


@native("hr_extract_interval", "VARCHAR", "BIGINT", "BIGINT", "BIGINT", returns=NUMERIC)
def _extract_interval(name: str, months: int, days: int, us: int) -> int:
    field = _UNITS.get(name.lower(), name.lower())
    years = int(months / 12)
    if field == "epoch":
        # A year has 365.25 days, a month 30.
        seconds = years * 31_557_600 + (months - years * 12) * 2_592_000 + days * 86_400
        return _exact(seconds * US_PER_SECOND + us)
    sign, size = (-1, -us) if us < 0 else (1, us)
    clock = _clock_field(field, size)
    if clock is not None:
        return numeric.negate(clock) if sign < 0 else clock
    values = {
        "year": years, "month": months - years * 12, "day": days, "quarter": (months - years * 12) // 3 + 1,
        "decade": int(years / 10), "century": int(years / 100), "millennium": int(years / 1000),
    }  # fmt: skip
    if field not in values:
        raise _unknown(name, "interval")
    return numeric.encode(values[field], 0)


@native("hr_date_trunc", "VARCHAR", "BIGINT", returns="BIGINT")
def _date_trunc(name: str, us: int) -> int:
    field = _UNITS.get(name.lower(), name.lower())
    unit = {
        "microseconds": 1,
        "milliseconds": 1000,
        "second": US_PER_SECOND,
        "minute": 60 * US_PER_SECOND,
        "hour": 3600 * US_PER_SECOND,
        "day": US_PER_DAY,
    }.get(field)
    if unit:
        return us - us % unit
    days = us // US_PER_DAY
    if field == "week":
        return (days - (days + 3) % 7) * US_PER_DAY
    year, month, _ = date_of(days)
    starts = {
        "month": (year, month), "quarter": (year, (month - 1) // 3 * 3 + 1), "year": (year, 1), "decade": (year // 10 * 10, 1),
        "century": ((year - 1) // 100 * 100 + 1, 1), "millennium": ((year - 1) // 1000 * 1000 + 1, 1),
    }  # fmt: skip
    if field not in starts:
        raise ValueFault("22023", f'unit "{name}" not recognized for type timestamp')
    return days_of(*starts[field], 1) * US_PER_DAY


@native("hr_date_trunc_interval", "VARCHAR", "BIGINT", "BIGINT", "BIGINT", returns="VARCHAR")
def _trunc_interval(name: str, months: int, days: int, us: int) -> str:
    field = _UNITS.get(name.lower(), name.lower())
    sizes = {"month": 1, "quarter": 3, "year": 12, "decade": 120, "century": 1200, "millennium": 12000}
    clocks = {
        "microseconds": 1,
        "milliseconds": 1000,
        "second": US_PER_SECOND,
        "minute": 60 * US_PER_SECOND,
        "hour": 3600 * US_PER_SECOND,
    }
    if field in sizes:
        months, days, us = int(months / sizes[field]) * sizes[field], 0, 0
    elif field == "day":
        us = 0
    elif field in clocks:
        us = int(Fraction(us, clocks[field])) * clocks[field]
    else:
        raise ValueFault("22023", f'unit "{name}" not recognized for type interval')
    return f"{months} months {days} days {us} microseconds"


@native("hr_at_zone", "BIGINT", "VARCHAR", returns="BIGINT")
def _at_zone(us: int, zone: str) -> int:
    return to_local(us, zone_of(zone))


@native("hr_from_zone", "BIGINT", "VARCHAR", returns="BIGINT")
def _from_zone(us: int, zone: str) -> int:
    return from_local(us, zone_of(zone))


@native("hr_date_bin", "BIGINT", "BIGINT", "BIGINT", "BIGINT", "BIGINT", returns="BIGINT")
def _date_bin(months: int, days: int, us: int, moment: int, origin: int) -> int:
    stride = days * US_PER_DAY + us
    if months:
        raise ValueFault("0A000", "timestamps cannot be binned into intervals containing months or years")
    if stride <= 0:
        raise ValueFault("22008", "stride must be greater than zero")
    return origin + (moment - origin) // stride * stride


@native("hr_make_date", "INTEGER", "INTEGER", "INTEGER", returns="INTEGER")
def _make_date(year: int, month: int, day: int) -> int:
    try:
        if year == 0:
            raise ValueError("there is no year 0")
        return days_of(year if year > 0 else year + 1, month, day)
    except ValueError as error:
        raise ValueFault("22008", f"date field value out of range: {year}-{month:02d}-{day:02d}") from error


@native("hr_make_time", "INTEGER", "INTEGER", "DOUBLE", returns="BIGINT")
def _make_time(hour: int, minute: int, second: float) -> int:
    if not (0 <= hour <= 24 and 0 <= minute <= 59 and 0 <= second <= 60):
        raise ValueFault("22008", f"time field value out of range: {hour}:{minute:02d}:{second:02g}")
    return (hour * 3600 + minute * 60) * US_PER_SECOND + round(second * US_PER_SECOND)


@native("hr_age", "BIGINT", "BIGINT", returns="VARCHAR")
def _age(later: int, earlier: int) -> str:
    """The difference in years, months and days, with the month lengths of the earlier date."""
    sign = 1
    if later < earlier:
        later, earlier, sign = earlier, later, -1
    (d1, u1), (d2, u2) = divmod(later, US_PER_DAY), divmod(earlier, US_PER_DAY)
    (y1, m1, day1), (y2, m2, day2) = date_of(d1), date_of(d2)
    months, days, us = (y1 - y2) * 12 + m1 - m2, day1 - day2, u1 - u2
    if us < 0:
        us, days = us + US_PER_DAY, days - 1
    if days < 0:
        following = days_of(y2 + m2 // 12, m2 % 12 + 1, 1)
        days += following - days_of(y2, m2, 1)
        months -= 1
    return f"{sign * months} months {sign * days} days {sign * us} microseconds"


@native("hr_interval_scale", "BIGINT", "BIGINT", "BIGINT", "DOUBLE", returns="VARCHAR")
def _scale(months: int, days: int, us: int, factor: float) -> str:
    """A fraction of a month becomes days of a 30-day month, one of a day becomes time."""
    exact = Fraction(factor).limit_denominator(10**12) if factor == factor and abs(factor) != float("inf") else None
    if exact is None:
        raise ValueFault("22008", "interval out of range")
    whole_months = int(months * exact)
    all_days = days * exact + (months * exact - whole_months) * 30
    whole_days = int(all_days)
    return f"{whole_months} months {whole_days} days {round(us * exact + (all_days - whole_days) * US_PER_DAY)} microseconds"


def declare(t: FunctionTable) -> None:
    parts = ", ".join(interval_parts("{0}"))
    second_parts = ", ".join(interval_parts("{1}"))
    for type_ in ("timestamp", "timestamptz"):
        zoned = "true" if type_ == "timestamptz" else "false"
        for sign in ("+", "-"):
            t.add(sign, f"{type_}, interval -> {type_}", f"({{0}} {sign} {{1}})")
        t.add("+", f"interval, {type_} -> {type_}", "({1} + {0})")
        t.add("-", f"{type_}, {type_} -> interval", "({0} - {1})")
        t.add("extract", f"varchar, {type_} -> numeric", f"hr_extract_timestamp({{0}}, epoch_us({{1}}), {zoned})")
        t.add(
            "date_part",
            f"varchar, {type_} -> float8",
            f"hr_numeric_float(hr_extract_timestamp({{0}}, epoch_us({{1}}), {zoned}))",
        )
        common = "lower({0}) IN ('second', 'minute', 'hour', 'day', 'week', 'month', 'quarter', 'year')"
        plain = f"CAST(date_trunc(CASE WHEN {common} THEN {{0}} ELSE 'day' END, {{1}}) AS TIMESTAMP)"
        t.add(
            "date_trunc",
            f"varchar, {type_} -> {type_}",
            f"(CASE WHEN {common} THEN {plain} ELSE make_timestamp(hr_date_trunc({{0}}, epoch_us({{1}}))) END)",
        )
        t.add("age", f"{type_}, {type_} -> interval", "CAST(hr_age(epoch_us({0}), epoch_us({1})) AS INTERVAL)")
        t.add(
            "age",
            f"{type_} -> interval",
            "CAST(hr_age(epoch_us(CAST(current_date AS TIMESTAMP)), epoch_us({0})) AS INTERVAL)",
            volatile=True,
        )
        t.add("isfinite", f"{type_} -> bool", "isfinite({0})")
    zone = "hr_from_zone(hr_date_trunc({0}, hr_at_zone(epoch_us({1}), {2})), {2})"
    t.add("date_trunc", "varchar, timestamptz, varchar -> timestamptz", f"make_timestamp({zone})")
    t.add("date_trunc", "varchar, interval -> interval", f"CAST(hr_date_trunc_interval({{0}}, {second_parts}) AS INTERVAL)")
    part = "hr_numeric_float(hr_extract_timestamp({0}, hr_at_zone(epoch_us({1}), {2}), false))"
    t.add("date_part", "varchar, timestamptz, varchar -> float8", part)
    for type_ in ("timestamp", "timestamptz"):
        bins = f"hr_date_bin({parts}, epoch_us({{1}}), epoch_us({{2}}))"
        t.add("date_bin", f"interval, {type_}, {type_} -> {type_}", f"make_timestamp({bins})")
    for type_, call in (
        ("date", "hr_extract_date({0}, CAST({1} - DATE '1970-01-01' AS BIGINT))"),
        ("time", "hr_extract_time({0}, epoch_us({1}))"),
        ("interval", f"hr_extract_interval({{0}}, {second_parts})"),
    ):
        t.add("extract", f"varchar, {type_} -> numeric", call)
        t.add("date_part", f"varchar, {type_} -> float8", f"hr_numeric_float({call})")
    for sign in ("+", "-"):
        t.add(sign, "date, interval -> timestamp", f"(CAST({{0}} AS TIMESTAMP) {sign} {{1}})")
        t.add(sign, "date, int4 -> date", f"({{0}} {sign} {{1}})")
        t.add(sign, "interval, interval -> interval", f"({{0}} {sign} {{1}})")
        t.add(sign, "time, interval -> time", f"({{0}} {sign} {{1}})")
    t.add("+", "int4, date -> date", "({1} + {0})")
    t.add("+", "interval, date -> timestamp", "(CAST({1} AS TIMESTAMP) + {0})")
    t.add("+", "interval, time -> time", "({1} + {0})")
    t.add("+", "date, time -> timestamp", "(CAST({0} AS TIMESTAMP) + to_microseconds(epoch_us({1})))")
    t.add("+", "time, date -> timestamp", "(CAST({1} AS TIMESTAMP) + to_microseconds(epoch_us({0})))")
    t.add("-", "date, date -> int4", "CAST({0} - {1} AS INTEGER)")
    t.add("-", "time, time -> interval", "to_microseconds(epoch_us({0}) - epoch_us({1}))")
    t.add("neg", "interval -> interval", "(-{0})")
    scaled = f"CAST(hr_interval_scale({parts}, {{1}}) AS INTERVAL)"
    reverse = f"CAST(hr_interval_scale({second_parts}, {{0}}) AS INTERVAL)"
    t.add("*", "interval, float8 -> interval", scaled)
    t.add("*", "float8, interval -> interval", reverse)
    for number in ("int2", "int4", "int8"):
        t.add("*", f"interval, {number} -> interval", "({0} * {1})")
        t.add("*", f"{number}, interval -> interval", "({1} * {0})")
    zero = "CASE WHEN {1} = 0 THEN CAST(CAST(hr_fail('22012', 'division by zero') AS VARCHAR) AS INTERVAL) ELSE"
    t.add("/", "interval, float8 -> interval", f"({zero} CAST(hr_interval_scale({parts}, 1 / {{1}}) AS INTERVAL) END)")
    t.add("make_date", "int4, int4, int4 -> date", "(DATE '1970-01-01' + hr_make_date({0}, {1}, {2}))")
    t.add("make_time", "int4, int4, float8 -> time", "(TIME '00:00:00' + to_microseconds(hr_make_time({0}, {1}, {2})))")
    stamp = "make_timestamp(CAST(hr_make_date({0}, {1}, {2}) AS BIGINT) * 86400000000 + hr_make_time({3}, {4}, {5}))"
    t.add("make_timestamp", "int4, int4, int4, int4, int4, float8 -> timestamp", stamp)
    t.add("make_timestamptz", "int4, int4, int4, int4, int4, float8 -> timestamptz", stamp)
    wall = stamp.removeprefix("make_timestamp(").removesuffix(")")
    t.add(
        "make_timestamptz",
        "int4, int4, int4, int4, int4, float8, varchar -> timestamptz",
        f"make_timestamp(hr_from_zone({wall}, {{6}}))",
    )
    t.add(
        "make_interval",
        "int4, int4, int4, int4, int4, int4, float8 -> interval",
        "(to_months({0} * 12 + {1}) + to_days({2} * 7 + {3}) + to_hours({4}) + to_minutes({5}) + to_microseconds(CAST(round({6} * 1000000) AS BIGINT)))",
    )
    t.add(
        "justify_hours",
        "interval -> interval",
        "(to_months(CAST(datepart('year', {0}) * 12 + datepart('month', {0}) AS INTEGER)) + to_days(CAST(datepart('day', {0}) + datepart('hour', {0}) // 24 AS INTEGER)) + to_hours(datepart('hour', {0}) % 24) + to_minutes(datepart('minute', {0})) + to_microseconds(datepart('microseconds', {0})))",
    )
    t.add(
        "justify_days",
        "interval -> interval",
        "(to_months(CAST(datepart('year', {0}) * 12 + datepart('month', {0}) + datepart('day', {0}) // 30 AS INTEGER)) + to_days(CAST(datepart('day', {0}) % 30 AS INTEGER)) + to_hours(datepart('hour', {0})) + to_minutes(datepart('minute', {0})) + to_microseconds(datepart('microseconds', {0})))",
    )
    t.add("to_timestamp", "float8 -> timestamptz", "make_timestamp(CAST(round({0} * 1000000) AS BIGINT))")
    for name in ("at time zone", "timezone"):
        order = ("{0}", "{1}") if name == "at time zone" else ("{1}", "{0}")
        for source, target, function in (
            ("timestamptz", "timestamp", "hr_at_zone"),
            ("timestamp", "timestamptz", "hr_from_zone"),
        ):
            types = f"{source}, varchar" if name == "at time zone" else f"varchar, {source}"
            t.add(name, f"{types} -> {target}", f"make_timestamp({function}(epoch_us({order[0]}), {order[1]}))")
    for name in ("now", "proctime", "current_timestamp", "transaction_timestamp", "statement_timestamp", "clock_timestamp"):
        t.add(name, "-> timestamptz", "CAST(now() AS TIMESTAMP)", volatile=True)
    t.add("localtimestamp", "-> timestamp", "CAST(now() AS TIMESTAMP)", volatile=True)
    t.add("current_date", "-> date", "CAST(CAST(now() AS TIMESTAMP) AS DATE)", volatile=True)
    for name in ("current_time", "localtime"):
        t.add(name, "-> time", "CAST(CAST(now() AS TIMESTAMP) AS TIME)", volatile=True)
    t.add("date", "timestamp -> date", "CAST({0} AS DATE)")
