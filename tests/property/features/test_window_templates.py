"""After every epoch the window features equal what Python works out from all events, and so does the query for the lake."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest

from core.fakes.clock import ManualClock
from features.templates.windows import WindowFeatures, history_sql, stream_sql
from tests.property.engine.harness import EngineBox
from tests.property.features.window_oracle import START, Event, Expected, Stream, expected
from tests.unit.engine.runtime.inprocess import running

FEATURES = WindowFeatures(view="w", source="ev", keys=("tenant_id", "user_id"))
_COLUMNS = "id BIGINT{key}, tenant_id VARCHAR, user_id VARCHAR, action VARCHAR, value DOUBLE PRECISION, event_time {time}"


@pytest.fixture
def box() -> Iterator[EngineBox]:
    made = EngineBox()
    yield made
    made.close()


def _start(box: EngineBox, features: WindowFeatures, *, corrected: bool) -> None:
    columns = _COLUMNS.format(key=" PRIMARY KEY" if corrected else "", time="TIMESTAMPTZ")
    box.run(f"CREATE TABLE ev ({columns}){'' if corrected else ' APPEND ONLY'}")
    box.run(stream_sql(features))


def _found(rows: list[tuple[Any, ...]]) -> Expected:
    return {row[0]: [(row[i], row[i + 1], row[i + 2], row[i + 3]) for i in range(1, 17, 4)] for row in rows}


def _alike(found: Expected, wanted: Expected, names: Sequence[str] = tuple(FEATURES.windows)) -> None:
    assert found.keys() == wanted.keys()
    for user, windows in wanted.items():
        for window, one, other in zip(names, found[user], windows, strict=True):
            assert one[0] == other[0], (user, window, "count")
            for a, b in zip(one[1:3], other[1:3], strict=True):
                assert (a is None) == (b is None), (user, window)
                assert a is None or a == pytest.approx(b, rel=1e-12, abs=1e-12), (user, window)
            assert one[3] == other[3], (user, window, "kinds")


def _online(box: EngineBox) -> Expected:
    return _found(box.rows(f"SELECT user_id, {', '.join(FEATURES.columns())} FROM w"))


@pytest.mark.parametrize("seed", range(2))
def test_events_that_only_come_late_or_not(box: EngineBox, seed: int) -> None:
    stream, events = Stream(seed), list[Event]()
    _start(box, FEATURES, corrected=False)
    for _ in range(10):
        new = [stream.event() for _ in range(stream.some(8))]
        events += new
        if new:
            box.run(f"INSERT INTO ev VALUES {', '.join(event.row() for event in new)}")
        box.run("FLUSH")
        _alike(_online(box), expected(events, max((event.at for event in events), default=START)))


@pytest.mark.parametrize("seed", range(2))
def test_events_that_are_corrected_and_deleted(box: EngineBox, seed: int) -> None:
    stream, events = Stream(100 + seed), dict[int, Event]()
    _start(box, FEATURES, corrected=True)
    for _ in range(10):
        for _ in range(stream.some(6)):
            event = stream.event()
            if events and stream.some(3) == 0:
                number = stream.pick(events)
                if stream.some(1):
                    event = stream.event(number)
                else:
                    del events[number]
                    box.run(f"DELETE FROM ev WHERE id = {number}")
                    continue
            events[event.number] = event
            box.run(f"INSERT INTO ev VALUES {event.row()}")
        box.run("FLUSH")
        clock = max((event.at for event in events.values()), default=START)
        _alike(_online(box), expected(events.values(), clock))


def test_numeric_sums_are_exact_and_tiles_hold_at_most_one_tile_more(box: EngineBox) -> None:
    stream, events = Stream(7), list[Event]()
    hour = dt.timedelta(hours=1)
    features = WindowFeatures(
        view="w", source="ev", keys=("tenant_id", "user_id"), tiles={"7d": hour, "30d": 24 * hour}, exact=True
    )
    _start(box, features, corrected=False)
    for _ in range(10):
        new = [stream.event() for _ in range(1 + stream.some(8))]
        events += new
        box.run(f"INSERT INTO ev VALUES {', '.join(event.row() for event in new)}; FLUSH")
        clock = max(event.at for event in events)
        wanted, found = expected(events, clock), _online(box)
        exact = ("1h", "24h")
        kept = {user: windows[:2] for user, windows in found.items() if user in wanted}
        _alike(kept, {user: windows[:2] for user, windows in wanted.items()}, exact)
        for place, tile in ((2, hour), (3, 24 * hour)):
            length = list(FEATURES.windows.values())[place]
            for user in found:
                most = sum(event.user == user and event.at > clock - length - tile for event in events)
                least = wanted[user][place][0] if user in wanted else 0
                assert least <= found[user][place][0] <= most


def test_the_same_features_at_any_moment_from_raw_events(box: EngineBox) -> None:
    """The query for the lake, at each moment at which the stream database was looked at, over what had come by then."""
    stream, events = Stream(42), list[Event]()
    lake = duckdb.connect()
    lake.execute(f"CREATE TABLE events ({_COLUMNS.format(key='', time='TIMESTAMP')})")
    _start(box, FEATURES, corrected=False)
    for _ in range(8):
        new = [stream.event() for _ in range(1 + stream.some(8))]
        events += new
        rows = ", ".join(event.row() for event in new)
        box.run(f"INSERT INTO ev VALUES {rows}; FLUSH")
        lake.execute(f"INSERT INTO events VALUES {rows}")
        lake.execute(
            "CREATE OR REPLACE TABLE points AS SELECT DISTINCT tenant_id, user_id, (SELECT max(event_time) FROM events) AS moment"
            " FROM events"
        )
        columns = ", ".join(FEATURES.columns())
        offline = lake.execute(f"SELECT user_id, {columns} FROM ({history_sql(FEATURES)}) WHERE count_30d > 0").fetchall()
        _alike(_online(box), _found(offline))
        early = {moment: expected(events, moment) for moment in {event.at for event in events}}
        lake.execute(
            "CREATE OR REPLACE TABLE points AS SELECT DISTINCT tenant_id, user_id, e.event_time AS moment FROM events, (SELECT event_time FROM events) AS e"
        )
        for moment, wanted in early.items():
            asked = f"SELECT user_id, {columns} FROM ({history_sql(FEATURES)}) WHERE count_30d > 0 AND moment = ?"
            _alike(_found(lake.execute(asked, [moment]).fetchall()), wanted)


def test_with_the_clock_of_the_day_windows_slide_without_any_event(tmp_path: Path) -> None:
    clock = ManualClock(dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC))
    with running(tmp_path, clock) as session:
        session.run(f"CREATE TABLE ev ({_COLUMNS.format(key='', time='TIMESTAMPTZ')}) APPEND ONLY")
        session.run(stream_sql(replace(FEATURES, clock="now()")))
        session.run(
            "INSERT INTO ev VALUES (1, 'acme', 'a', 'view', 2.0, '2026-01-01 11:00:01Z'), (2, 'acme', 'a', 'view', 3.0, '2026-01-01 11:00:00Z'); FLUSH"
        )
        asked = "SELECT count_1h, sum_value_1h, count_24h FROM w"
        assert session.rows(asked) == [(1, 2.0, 2)]
        clock.advance(dt.timedelta(seconds=1))
        session.run("FLUSH")
        assert session.rows(asked) == [(0, None, 2)]
        clock.advance(dt.timedelta(days=30))
        session.run("FLUSH")
        assert session.rows(asked) == []
