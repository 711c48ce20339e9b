"""Sixteen features of an entity: how many events, their sum, their mean and how many kinds, in 1h, 24h, 7d and 30d.

A window of length W at the moment t holds the events with `t - W < event_time <= t`: an event is in it from the moment it
happened until it is exactly W old, and not then. t is the event clock, the largest event time that the source has shown; or,
by choice, the time of day. Both slide exactly; nothing is rounded to steps.

      event --- once for each window ---> (leaves_at = event_time + W) --- WHERE leaves_at > clock ---> what the windows hold
                                                                                  |
                      one row an entity  <--- count, sum, mean --- one row an entity, action and window

The filter is a dynamic filter (`now()`: a temporal one): a moving clock costs the events that leave, not those that stay, and
an event that every window has left is forgotten. Events late and out of order enter the windows that they belong to, and no
others; retractions leave them. With `tile`, a long window keeps sums of tiles instead of events; it then holds up to one tile
more than its length, and the page that is printed says so.

The same declaration gives the query that computes the features from raw events alone, at any moments (`history_sql`).

Source: Chronon documentation, "Windowed aggregations" (tiles; there the tail of a window moves in steps, here it does not).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from core.errors import InvalidInputError

WINDOWS: Mapping[str, timedelta] = {
    "1h": timedelta(hours=1),
    "24h": timedelta(hours=24),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
}
"""The windows of document 004, by the endings of their features' names."""

AGGREGATES = ("count", "sum_value", "avg_value", "unique_actions")

_NAME = re.compile(r"[a-z_][a-z0-9_]*")
_HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class WindowFeatures:
    """What the template is filled with.

    Attributes:
        view: the relation that holds the features; what is below it is called `<view>_spans`.
        source: relation of events: a source, a table, or a view, whether its rows are ever taken back or not.
        keys: columns that make the entity.
        time: column of event time, TIMESTAMPTZ.
        value: numeric column to sum; a NULL is an event without a value.
        action: column whose distinct values are counted; a NULL is none.
        clock: relation whose largest `time` is now; by default the source. It must be append-only for events to be forgotten.
            `now()` stands for the time of day.
        windows: ending of the names to length, ascending.
        tiles: ending to the length of its tiles, 1 or 24 hours; a window without one is exact.
        exact: sum as NUMERIC. The embedded engine sums floats anew, in one order, so that nothing drifts; RisingWave adds and
            subtracts, which leaves a rest in the last digits.
    """

    view: str
    source: str
    keys: tuple[str, ...] = ("tenant_id", "entity_id")
    time: str = "event_time"
    value: str = "value"
    action: str = "action"
    clock: str | None = None
    windows: Mapping[str, timedelta] = field(default_factory=lambda: dict(WINDOWS))
    tiles: Mapping[str, timedelta] = field(default_factory=dict)
    exact: bool = False

    def __post_init__(self) -> None:
        names = [self.view, self.source, *self.keys, self.time, self.value, self.action, *([self.clock] if self.clock else [])]
        for name in names:
            if name != "now()" and not _NAME.fullmatch(name):
                raise InvalidInputError(f"`{name}` is no name of SQL", fix="Use lower-case letters, digits and `_`.")
        if not self.keys or len({*self.keys, self.time, self.value, self.action}) < len(self.keys) + 3:
            raise InvalidInputError("keys, time, value and action are not columns of their own", fix="Name each once.")
        unknown = sorted(self.tiles.keys() - self.windows.keys())
        if unknown or not self.windows:
            raise InvalidInputError(f"there is no window `{unknown[0] if unknown else ''}`", fix="Name one of the windows.")
        for name, length in self.windows.items():
            tile = self.tiles.get(name, _HOUR)
            if tile not in (_HOUR, 24 * _HOUR) or length < tile or length % tile:
                raise InvalidInputError(
                    f"window `{name}` of {length} is no whole number of tiles of {tile}",
                    fix="Use tiles of 1 hour or of 24 hours, and a window that is a multiple.",
                )

    @property
    def longest(self) -> timedelta:
        return max(self.windows.values())

    def columns(self) -> list[str]:
        """The features' names in order, `count_1h` first."""
        return [f"{aggregate}_{window}" for window in self.windows for aggregate in AGGREGATES]


def stream_sql(features: WindowFeatures) -> str:
    """The statements that keep the features up to date, for RisingWave and the embedded engine alike."""
    return f"{_spans(features)}\n{_pivot(features)}"


def history_sql(features: WindowFeatures, *, points: str = "points", events: str = "events", moment: str = "moment") -> str:
    """The same features at given moments from raw events alone, by DuckDB; windows are exact, tiles or not.

    Args:
        points: relation of the keys and `moment`; a row comes back for each, also where no event is in any window.
        events: relation of raw events; what was corrected is in it as it is now.
    """
    at = f"p.{moment}"
    items = [f"p.{key}" for key in features.keys] + [at]
    for window, length in features.windows.items():
        within = f"FILTER (WHERE e.{features.time} > {at} - {_interval(length)})"
        items += [
            f"count(e.{features.time}) {within} AS count_{window}",
            f"sum(e.{features.value}) {within} AS sum_value_{window}",
            f"avg(e.{features.value}) {within} AS avg_value_{window}",
            f"count(DISTINCT e.{features.action}) {within} AS unique_actions_{window}",
        ]
    on = [f"e.{key} = p.{key}" for key in features.keys]
    on += [f"e.{features.time} <= {at}", f"e.{features.time} > {at} - {_interval(features.longest)}"]
    listed = ",\n    ".join(items)
    return f"SELECT\n    {listed}\nFROM {points} AS p\nLEFT JOIN {events} AS e\n    ON {' AND '.join(on)}\nGROUP BY ALL\n"


def _spans(f: WindowFeatures) -> str:
    """One row an entity, action and window, of the events that are in it."""
    keys = ", ".join(f.keys)
    exact = [window for window in f.windows if window not in f.tiles]
    now = "now()" if f.clock == "now()" else f"(SELECT max({f.time}) FROM {f.clock or f.source})"
    branches = ([_events(f, exact)] if exact else []) + [_tiles(f, window) for window in f.windows if window in f.tiles]
    entries = "\n    UNION ALL\n".join(branches)
    total = "sum(total)"
    return f"""\
-- What each window holds, by {", ".join(f.keys)} and {f.action}. An event leaves a window when it is exactly as old as the window is long.
{_told(f)}
CREATE MATERIALIZED VIEW {f.view}_spans AS
SELECT
    {keys},
    {f.action},
    span,
    sum(events)::INT                                AS events,
    sum(valued)::INT                                AS valued,
    {total + ("::DOUBLE PRECISION" if f.exact else ""):<48}AS total,
    max(seen_at)                                    AS seen_at
FROM (
{entries}
) AS entries
WHERE leaves_at > {now}
GROUP BY {keys}, {f.action}, span;
"""


def _events(f: WindowFeatures, windows: Sequence[str]) -> str:
    names = ", ".join(f"'{window}'" for window in windows)
    lengths = "\n".join(f"            WHEN '{window}' THEN {_interval(f.windows[window])}" for window in windows)
    value = f"{f.value}::NUMERIC" if f.exact else f.value
    inner = [*f.keys, f.action, f"{f.time} AS seen_at", f"{value} AS total", f"unnest(ARRAY[{names}]) AS span"]
    outer = [
        *f.keys,
        f.action,
        "span",
        "seen_at",
        "1 AS events",
        "CASE WHEN total IS NULL THEN 0 ELSE 1 END AS valued",
        "total",
    ]
    return f"""\
    SELECT
        {", ".join(outer)},
        seen_at + CASE span
{lengths}
        END AS leaves_at
    FROM (
        SELECT {", ".join(inner)}
        FROM {f.source}
    ) AS each_window"""


def _tiles(f: WindowFeatures, window: str) -> str:
    tile = f.tiles[window]
    start = f"date_trunc('{'hour' if tile == _HOUR else 'day'}', {f.time})"
    value = f"{f.value}::NUMERIC" if f.exact else f.value
    keys = ", ".join(f.keys)
    return f"""\
    SELECT
        {keys}, {f.action}, '{window}' AS span, max({f.time}) AS seen_at, count(*)::INT AS events, count({f.value})::INT AS valued,
        sum({value}) AS total,
        tile + {_interval(tile + f.windows[window])} AS leaves_at
    FROM (SELECT *, {start} AS tile FROM {f.source}) AS tiled
    GROUP BY {keys}, {f.action}, tile"""


def _pivot(f: WindowFeatures) -> str:
    """One row an entity; an entity of which no window holds an event has none."""
    items = []
    for window in f.windows:
        here = f"FILTER (WHERE span = '{window}')"
        total, valued = f"sum(total) {here}", f"sum(valued) {here}"
        items += [
            f"coalesce(sum(events) {here}, 0) AS count_{window}",
            f"{total} AS sum_value_{window}",
            f"{total} / nullif({valued}, 0)::DOUBLE PRECISION AS avg_value_{window}",
            f"count({f.action}) {here} AS unique_actions_{window}",
        ]
    keys = ", ".join(f.keys)
    listed = ",\n    ".join(items)
    return f"""\
-- One row an entity; `seen_at` is its latest event. Who has done nothing in any window has no row.
CREATE MATERIALIZED VIEW {f.view} AS
SELECT
    {keys},
    max(seen_at) AS seen_at,
    {listed}
FROM {f.view}_spans
GROUP BY {keys};
"""


def _told(f: WindowFeatures) -> str:
    clock = "the time of day" if f.clock == "now()" else f"the largest {f.time} of {f.clock or f.source}"
    told = [f"-- Now is {clock}."]
    told += [
        f"-- Window {name} is kept by tiles of {_hours(tile)}: it may hold up to that much more."
        for name, tile in f.tiles.items()
    ]
    told.append("-- Printed by `headrace features template windows`; see docs/how-to/use-window-features.md.")
    return "\n".join(told)


def _interval(length: timedelta) -> str:
    """In hours: a day of a calendar may have 23 or 25."""
    return f"INTERVAL '{_hours(length)}'"


def _hours(length: timedelta) -> str:
    hours = length // _HOUR
    return f"{hours} hour{'' if hours == 1 else 's'}"
