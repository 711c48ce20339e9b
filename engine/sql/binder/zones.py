"""The session's time zone: where it decides what an instant means.

An instant is kept in UTC, so that a wall clock is asked for only where text, a date, a time or a plain timestamp meets it, and
where its parts are taken or calendar days are added. In UTC all of this is as it stands in the function table.

Source: RisingWave documentation, "SET TIME ZONE", "Date and time functions and operators".
"""

from __future__ import annotations

from engine.sql.expressions import Call, Cast, Expr, Literal
from engine.sql.types import DATE, INTERVAL, TIME, TIMESTAMP, TIMESTAMPTZ, VARCHAR, SqlType

_WALL = (DATE, TIME, TIMESTAMP)


def zoned_cast(expr: Expr, target: SqlType, zone: str) -> Expr:
    """The cast, by way of the wall clock in `zone` where one is needed."""
    source = expr.type
    if zone == "UTC" or TIMESTAMPTZ not in (source, target) or source == target:
        return Cast(target, expr)
    if source == VARCHAR:
        return Call(TIMESTAMPTZ, "timestamptz in", (expr, _zone(zone)), "make_timestamp(hr_timestamptz_in({0}, {1}))")
    if target == VARCHAR:
        return Call(VARCHAR, "timestamptz text", (expr, _zone(zone)), "hr_timestamptz_text_in(epoch_us({0}), {1})")
    if source in (DATE, TIMESTAMP):
        return instant(expr if source == TIMESTAMP else Cast(TIMESTAMP, expr), zone)
    if target in _WALL:
        wall = wall_clock(expr, zone)
        return wall if target == TIMESTAMP else Cast(target, wall)
    return Cast(target, expr)


def wall_clock(expr: Expr, zone: str) -> Expr:
    return Call(TIMESTAMP, "at time zone", (expr, _zone(zone)), "make_timestamp(hr_at_zone(epoch_us({0}), {1}))")


def instant(expr: Expr, zone: str) -> Expr:
    return Call(TIMESTAMPTZ, "at time zone", (expr, _zone(zone)), "make_timestamp(hr_from_zone(epoch_us({0}), {1}))")


def zoned_arguments(name: str, args: list[Expr], zone: str) -> list[Expr]:
    """The arguments of a function of the table, instants as wall clocks where it looks at their parts."""
    if name in ("extract", "date_part") and len(args) == 2 and args[1].type == TIMESTAMPTZ:
        field = args[0].value if isinstance(args[0], Literal) else None
        return args if str(field).lower() == "epoch" else [args[0], wall_clock(args[1], zone)]
    if name == "date_trunc" and len(args) == 2 and args[1].type == TIMESTAMPTZ:
        return [*args, _zone(zone)]
    if name == "to_char" and len(args) == 2 and args[0].type == TIMESTAMPTZ:
        return [*args, _zone(zone)]
    if name == "make_timestamptz" and len(args) == 6:
        return [*args, _zone(zone)]
    if name in ("+", "-") and len(args) == 2 and {a.type for a in args} == {TIMESTAMPTZ, INTERVAL}:
        return [wall_clock(a, zone) if a.type == TIMESTAMPTZ else a for a in args]
    return args


def zoned_result(name: str, args: list[Expr], result: Expr, zone: str) -> Expr:
    """What a function gave, back as an instant where its arguments were taken to the wall clock."""
    adds_days = name in ("+", "-") and any(isinstance(a, Call) and a.name == "at time zone" for a in args)
    if adds_days and result.type == TIMESTAMP and any(a.type == INTERVAL for a in args):
        return instant(result, zone)
    if name == "to_timestamp" and len(args) == 2:
        return instant(result, zone)
    if name in ("current_date", "localtimestamp", "current_time", "localtime") and isinstance(result, Call):
        moment = wall_clock(Call(TIMESTAMPTZ, "now", (), "CAST(now() AS TIMESTAMP)", volatile=True), zone)
        return moment if result.type == TIMESTAMP else Cast(result.type, moment)
    return result


def _zone(zone: str) -> Literal:
    return Literal(VARCHAR, zone)
