"""Four features of when something happened, where it happened: hour_of_day, day_of_week, is_weekend, is_business_hours.

They follow event time in a time zone, of the row, of its tenant, or one for all; never the clock of the machine. Monday is 0;
Saturday and Sunday (5 and 6) are the weekend; business hours are 09:00:00 to 17:59:59 local, on any day.

`local_sql` gives the SQL, `local_time` says the same in Python: both know every change of summer time.

Source: document 004, "time features" (which took the wall clock; CONTRACTS 6, trap 6).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from core.errors import InvalidInputError

COLUMNS = ("hour_of_day", "day_of_week", "is_weekend", "is_business_hours")
BUSINESS_HOURS = (9, 17)
"""First and last hour of the day that count; the last one counts whole."""
WEEKEND = 5
"""The first day of it."""

_NAME = re.compile(r"[a-z_][a-z0-9_]*")


class LocalTime(NamedTuple):
    """The features of one instant."""

    hour_of_day: int
    day_of_week: int
    is_weekend: bool
    is_business_hours: bool


def local_time(instant: datetime, zone: str) -> LocalTime:
    """The features of an instant where the clocks are those of `zone`.

    Args:
        instant: timezone-aware.
        zone: a name of the time zone database, e.g. `Europe/Berlin`.

    Raises:
        InvalidInputError: there is no such zone, or the instant has none.
    """
    if instant.tzinfo is None:
        raise InvalidInputError(f"`{instant}` is no instant", fix="Give it a time zone: UTC, as a rule.")
    there = instant.astimezone(_zone(zone))
    first, last = BUSINESS_HOURS
    return LocalTime(there.hour, there.weekday(), there.weekday() >= WEEKEND, first <= there.hour <= last)


def local_times(instants: Sequence[datetime], zones: str | Sequence[str]) -> list[LocalTime]:
    """`local_time` of each; one zone for all, or one each."""
    each = [zones] * len(instants) if isinstance(zones, str) else zones
    return [local_time(instant, zone) for instant, zone in zip(instants, each, strict=True)]


@dataclass(frozen=True)
class LocalTimeFeatures:
    """What the template is filled with.

    Attributes:
        view: the relation that holds the features.
        source: relation of events.
        columns: of the source, to be kept in front of the features.
        time: column of event time, TIMESTAMPTZ.
        zone: name of the zone of all rows; the one of rows that name none.
        zone_column: column of the source that names the row's zone.
        zone_table: relation of (`tenant_id`, `zone`): the zone of each tenant.
    """

    view: str
    source: str
    columns: tuple[str, ...] = ("tenant_id", "entity_id")
    time: str = "event_time"
    zone: str = "UTC"
    zone_column: str | None = None
    zone_table: str | None = None

    def __post_init__(self) -> None:
        for name in [self.view, self.source, *self.columns, self.time, self.zone_column, self.zone_table]:
            if name is not None and not _NAME.fullmatch(name):
                raise InvalidInputError(f"`{name}` is no name of SQL", fix="Use lower-case letters, digits and `_`.")
        if self.zone_column and self.zone_table:
            raise InvalidInputError("a row's zone comes from a column or from a table, not from both", fix="Name one.")
        _zone(self.zone)


def local_sql(f: LocalTimeFeatures) -> str:
    """The statement that keeps the features up to date, for RisingWave and the embedded engine alike."""
    kept = [f"e.{name}" for name in dict.fromkeys((*f.columns, f.time))]
    zone = f"'{f.zone}'"
    source = f"{f.source} AS e"
    if f.zone_column:
        zone = f"coalesce(e.{f.zone_column}, {zone})"
    if f.zone_table:
        zone = f"coalesce(z.zone, {zone})"
        source += f"\n    LEFT JOIN {f.zone_table} AS z ON z.tenant_id = e.tenant_id"
    names = ",\n    ".join(dict.fromkeys((*f.columns, f.time)))
    first, last = BUSINESS_HOURS
    return f"""\
-- When it happened, where it happened: event time on the local clock, Monday is 0, business hours are {first:02}:00 to {last}:59.
-- Printed by `headrace features template local-time`; see docs/how-to/use-window-features.md.
CREATE MATERIALIZED VIEW {f.view} AS
SELECT
    {names},
    extract(hour FROM local_time)::INT              AS hour_of_day,
    (extract(isodow FROM local_time) - 1)::INT      AS day_of_week,
    extract(isodow FROM local_time) > {WEEKEND}             AS is_weekend,
    extract(hour FROM local_time) BETWEEN {first} AND {last} AS is_business_hours
FROM (
    SELECT {", ".join(kept)}, e.{f.time} AT TIME ZONE {zone} AS local_time
    FROM {source}
) AS events;
"""


@lru_cache(maxsize=1024)
def _zone(name: str) -> ZoneInfo:
    if name.upper() == "UTC":
        return ZoneInfo("UTC")
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise InvalidInputError(f"there is no time zone `{name}`", fix="Use a name such as `Europe/Berlin`.") from error
