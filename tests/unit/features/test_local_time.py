"""Features of local time: the same in SQL and in Python at every change of the clocks, and never the wall clock."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from core.errors import InvalidInputError
from core.fakes.clock import ManualClock
from features.templates.local_time import COLUMNS, LocalTimeFeatures, local_sql, local_time, local_times
from tests.property.engine.harness import EngineBox
from tests.unit.engine.runtime.inprocess import running

# Half hours, both hemispheres, a country that skipped a day, one that changes by half an hour, one without summer time.
ZONES = (
    "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "Asia/Kathmandu", "Pacific/Apia",
    "America/St_Johns", "Africa/Casablanca", "UTC",
)  # fmt: skip
FIRST, LAST = datetime(1995, 1, 1, tzinfo=UTC), datetime(2037, 1, 1, tzinfo=UTC)


def _changes(zone: str) -> Iterator[datetime]:
    """The instants at which the offset changes, to the second."""
    there = ZoneInfo(zone)

    def offset(at: datetime) -> timedelta | None:
        return at.astimezone(there).utcoffset()

    day = FIRST
    while day < LAST:
        low, high = day, day + timedelta(days=7)
        if offset(low) != offset(high):
            while high - low > timedelta(seconds=1):
                middle = low + (high - low) // 2
                low, high = (middle, high) if offset(middle) == offset(low) else (low, middle)
            yield high.replace(microsecond=0)
        day += timedelta(days=7)


def test_sql_and_python_agree_at_every_change_of_the_clocks() -> None:
    asked = [
        (zone, change + timedelta(seconds=step))
        for zone in ZONES
        for change in [*_changes(zone), datetime(2026, 3, 1, 8, 59, 59, tzinfo=UTC)]
        for step in (-3601, -1, 0, 1, 3600, 9 * 3600, 18 * 3600)
    ]
    assert len(asked) > 3000
    box = EngineBox()
    try:
        box.run("CREATE TABLE ev (n BIGINT, zone VARCHAR, event_time TIMESTAMPTZ) APPEND ONLY")
        box.run(local_sql(LocalTimeFeatures(view="v", source="ev", columns=("n",), zone_column="zone")))
        for start in range(0, len(asked), 1000):
            rows = ", ".join(
                f"({start + i}, '{zone}', '{at.isoformat()}')" for i, (zone, at) in enumerate(asked[start : start + 1000])
            )
            box.run(f"INSERT INTO ev VALUES {rows}")
        box.run("FLUSH")
        found = box.rows(f"SELECT {', '.join(COLUMNS)} FROM v ORDER BY n")
    finally:
        box.close()
    expected = local_times([at for _, at in asked], [zone for zone, _ in asked])
    assert [each for each in zip(asked, found, expected, strict=True) if each[1] != tuple(each[2])] == []


def test_event_time_counts_and_not_the_clock_on_the_wall(tmp_path: Path) -> None:
    """Document 004 took `utcnow()`: then a replay at another hour gives other features."""
    wall = datetime(2026, 6, 7, 3, 0, tzinfo=UTC)  # a Sunday, at night
    with running(tmp_path, ManualClock(wall)) as session:
        session.run("CREATE TABLE ev (entity_id VARCHAR, event_time TIMESTAMPTZ) APPEND ONLY")
        session.run(local_sql(LocalTimeFeatures(view="v", source="ev", columns=("entity_id",))))
        session.run("INSERT INTO ev VALUES ('a', '2026-06-03 17:59:59Z'), ('b', '2026-06-03 18:00:00Z'); FLUSH")
        rows = session.rows(f"SELECT {', '.join(COLUMNS)} FROM v ORDER BY entity_id")
    assert rows == [(17, 2, False, True), (18, 2, False, False)]
    assert local_time(wall, "UTC") == (3, 6, True, False)


def test_a_tenants_zone_comes_from_a_table_and_its_change_changes_the_features() -> None:
    box = EngineBox()
    try:
        box.run("CREATE TABLE ev (tenant_id VARCHAR, entity_id VARCHAR, event_time TIMESTAMPTZ) APPEND ONLY")
        box.run("CREATE TABLE tenant_zones (tenant_id VARCHAR PRIMARY KEY, zone VARCHAR)")
        box.run(local_sql(LocalTimeFeatures(view="v", source="ev", zone="Asia/Tokyo", zone_table="tenant_zones")))
        box.run("INSERT INTO tenant_zones VALUES ('acme', 'Europe/Berlin')")
        box.run(
            "INSERT INTO ev VALUES ('acme', 'a', '2026-03-29 00:59:59Z'), ('acme', 'b', '2026-03-29 01:00:00Z'), ('globex', 'a', '2026-03-29 01:00:00Z'); FLUSH"
        )
        asked = "SELECT tenant_id, entity_id, hour_of_day, day_of_week FROM v ORDER BY 1, 2"
        assert box.rows(asked) == [("acme", "a", 1, 6), ("acme", "b", 3, 6), ("globex", "a", 10, 6)]
        box.run("UPDATE tenant_zones SET zone = 'America/New_York'; FLUSH")
        assert box.rows(asked)[:2] == [("acme", "a", 20, 5), ("acme", "b", 21, 5)]
    finally:
        box.close()


@pytest.mark.parametrize(
    ("hour", "minute", "business"), [(8, 59, False), (9, 0, True), (17, 59, True), (18, 0, False), (0, 0, False)]
)
def test_business_hours_end_with_the_minute_17_59(hour: int, minute: int, business: bool) -> None:
    assert local_time(datetime(2026, 6, 3, hour, minute, 59, tzinfo=UTC), "UTC").is_business_hours is business


def test_an_unknown_zone_and_an_instant_without_one_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="no time zone `Mars/Olympus`"):
        LocalTimeFeatures(view="v", source="ev", zone="Mars/Olympus")
    with pytest.raises(InvalidInputError, match="no instant"):
        local_time(datetime(2026, 6, 3), "UTC")  # noqa: DTZ001
    with pytest.raises(InvalidInputError, match="not from both"):
        LocalTimeFeatures(view="v", source="ev", zone_column="z", zone_table="t")
    with pytest.raises(InvalidInputError, match="no name of SQL"):
        LocalTimeFeatures(view="v; DROP TABLE x", source="ev")
