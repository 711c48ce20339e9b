"""Filters on now(): rows come and go with time alone, exactly at their moment, and the engine wakes for it."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.clock import SystemClock
from core.settings import EngineSettings
from engine.front.session import EngineSession
from engine.runtime.engine import Engine
from engine.sql.errors import SqlError

_NOON = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)


class _Clock(SystemClock):
    """Stands still until it is moved; waiting is real."""

    moment = _NOON

    def now(self) -> dt.datetime:
        return self.moment


class _Box:
    def __init__(self, folder: Path, clock: SystemClock) -> None:
        self.engine = Engine(folder, EngineSettings(epoch_interval_ms=1, memory_limit="300MB", threads=1), clock)
        self.engine.start()
        self._loop = asyncio.new_event_loop()
        self._session = EngineSession(self.engine, "dev", "root", {})

    def run(self, sql: str) -> Any:
        async def all_() -> Any:
            rows = None
            for statement in self._session.parse(sql):
                rows = (await self._session.execute(await self._session.prepare(statement))).rows
            return rows

        return self._loop.run_until_complete(all_())

    def keys(self, view: str) -> list[int]:
        return sorted(self.run(f"SELECT k FROM {view}").column(0).to_pylist())

    def close(self) -> None:
        self._loop.run_until_complete(self._session.close())
        self.engine.close()
        self._loop.close()


@pytest.fixture
def clock() -> _Clock:
    return _Clock()


@pytest.fixture
def box(tmp_path: Path, clock: _Clock) -> Iterator[_Box]:
    made = _Box(tmp_path, clock)
    made.run("CREATE TABLE t (k INT PRIMARY KEY, ts TIMESTAMPTZ, v INT)")
    yield made
    made.close()


def _insert(box: _Box, *offsets: int, first: int = 1) -> None:
    """Keys from `first`, each so many seconds from noon."""
    rows = ", ".join(f"({first + i}, '{_NOON + dt.timedelta(seconds=s)}', 0)" for i, s in enumerate(offsets))
    box.run(f"INSERT INTO t VALUES {rows}; FLUSH")


def test_rows_expire_and_appear_at_their_moment(box: _Box, clock: _Clock) -> None:
    box.run("CREATE MATERIALIZED VIEW recent AS SELECT k FROM t WHERE ts > now() - INTERVAL '10 seconds'")
    box.run("CREATE MATERIALIZED VIEW due AS SELECT k FROM t WHERE ts + INTERVAL '5 seconds' <= now()")
    box.run(
        "CREATE MATERIALIZED VIEW band AS SELECT k FROM t WHERE ts BETWEEN now() - INTERVAL '10 seconds' AND now() - INTERVAL '5 seconds'"
    )
    offsets = [0, -4, -9, -20, 7]
    _insert(box, *offsets)
    for second in range(0, 24, 3):
        clock.moment = _NOON + dt.timedelta(seconds=second)
        box.run("FLUSH")
        ages = {k: second - s for k, s in enumerate(offsets, start=1)}
        assert box.keys("recent") == [k for k, age in ages.items() if age < 10], f"after {second} s"
        assert box.keys("due") == [k for k, age in ages.items() if age >= 5], f"after {second} s"
        assert box.keys("band") == [k for k, age in ages.items() if 5 <= age <= 10], f"after {second} s"


def test_what_reads_the_filter_sees_rows_leave(box: _Box, clock: _Clock) -> None:
    box.run("CREATE MATERIALIZED VIEW n AS SELECT count(*) AS k FROM t WHERE ts > now() - INTERVAL '10 seconds'")
    box.run(
        "CREATE MATERIALIZED VIEW j AS SELECT t.k FROM t JOIN t AS u ON t.k = u.k WHERE u.ts > now() - INTERVAL '10 seconds'"
    )
    _insert(box, 0, -5)
    assert (box.keys("n"), box.keys("j")) == ([2], [1, 2])
    clock.moment = _NOON + dt.timedelta(seconds=6)
    box.run("FLUSH")
    assert (box.keys("n"), box.keys("j")) == ([1], [1])


def test_retractions_of_expired_and_of_waiting_rows(box: _Box, clock: _Clock) -> None:
    box.run("CREATE MATERIALIZED VIEW recent AS SELECT k FROM t WHERE ts > now() - INTERVAL '10 seconds' AND v = 0")
    box.run("CREATE MATERIALIZED VIEW due AS SELECT k FROM t WHERE ts <= now()")
    _insert(box, 0, -8, 5)
    clock.moment = _NOON + dt.timedelta(seconds=4)
    box.run("FLUSH")
    assert (box.keys("recent"), box.keys("due")) == ([1, 3], [1, 2])
    box.run("DELETE FROM t WHERE k IN (2, 3)")
    box.run("UPDATE t SET v = 1 WHERE k = 1; FLUSH")
    clock.moment = _NOON + dt.timedelta(seconds=8)
    box.run("FLUSH")
    assert (box.keys("recent"), box.keys("due")) == ([], [1])


def test_a_view_over_old_rows_and_a_restart(tmp_path: Path, clock: _Clock) -> None:
    box = _Box(tmp_path, clock)
    box.run("CREATE TABLE t (k INT PRIMARY KEY, ts TIMESTAMPTZ, v INT)")
    _insert(box, 0, -8)
    box.run("CREATE MATERIALIZED VIEW recent AS SELECT k FROM t WHERE ts > now() - INTERVAL '10 seconds'")
    assert box.keys("recent") == [1, 2]
    box.close()
    clock.moment = _NOON + dt.timedelta(seconds=5)
    box = _Box(tmp_path, clock)
    try:
        box.run("FLUSH")
        assert box.keys("recent") == [1]
    finally:
        box.close()


def test_the_engine_wakes_by_itself_and_then_sleeps(tmp_path: Path) -> None:
    box = _Box(tmp_path, SystemClock())
    try:
        box.run("CREATE TABLE t (k INT PRIMARY KEY, ts TIMESTAMPTZ)")
        box.run("CREATE MATERIALIZED VIEW recent AS SELECT k FROM t WHERE ts > now() - INTERVAL '1 second'")
        box.run("INSERT INTO t VALUES (1, now()); FLUSH")
        deadline = time.monotonic() + 10
        while box.keys("recent") and time.monotonic() < deadline:
            time.sleep(0.02)
        assert box.keys("recent") == []
        assert all(job.due() is None for job in box.engine.jobs.values()), "nothing is left to wake for"
    finally:
        box.close()


@pytest.mark.parametrize("where", ["random() < 0.5", "ts > now() AND random() < 0.5"])
def test_other_functions_that_change_are_refused(box: _Box, where: str) -> None:
    with pytest.raises(SqlError):
        box.run(f"CREATE MATERIALIZED VIEW r AS SELECT k FROM t WHERE {where}")
