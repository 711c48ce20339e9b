"""Comparisons with a value that is a query of its own: the rows between the old and the new value, after every epoch."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.operators.base import CLEANING_EPOCHS
from tests.property.engine.harness import EngineBox
from tests.unit.engine.plan.comparison import alike, follow
from tests.unit.engine.runtime.inprocess import InProcess, running


@pytest.fixture(scope="module")
def box() -> Iterator[EngineBox]:
    made = EngineBox()
    yield made
    made.close()


COMPARED = alike(
    *(
        f"SELECT k, x FROM a WHERE x {sign} (SELECT {call}(z) FROM b)"
        for sign in ("<", "<=", ">", ">=")
        for call in ("max", "min")
    ),
    "SELECT k FROM a WHERE x > (SELECT count(*) FROM b) - 3",
    "SELECT k FROM a WHERE (SELECT max(z) - 1 FROM b) <= x + y",
    "SELECT k, y FROM a WHERE x > (SELECT z FROM b WHERE k = 3)",  # no row at times
    "SELECT k FROM a WHERE x >= (SELECT max(x) FROM a)",
    "SELECT s, count(*) AS n FROM a WHERE x < (SELECT max(z) FROM b) GROUP BY s",
    "SELECT a.k, b.k AS l FROM a JOIN b ON a.x = b.x WHERE a.y > (SELECT min(z) FROM b)",
)


def test_rows_follow_the_value_that_they_are_compared_with(box: EngineBox) -> None:
    follow(box, COMPARED, seed=7, epochs=5)


def test_they_do_when_the_value_also_decides_what_is_shown(box: EngineBox) -> None:
    follow(box, alike("SELECT k, x - m AS d FROM a, (SELECT max(z) AS m FROM b) AS b WHERE x < m"), seed=8)


def test_the_plan_is_a_dynamic_filter(tmp_path: Path) -> None:
    with running(tmp_path) as session:
        session.run("CREATE TABLE e (ts TIMESTAMPTZ, v INT) APPEND ONLY; CREATE TABLE t (k INT PRIMARY KEY, ts TIMESTAMPTZ)")
        over = {
            "SELECT v FROM e WHERE ts > (SELECT max(ts) FROM e)": True,
            "SELECT v FROM e WHERE ts + INTERVAL '1 hour' > (SELECT max(ts) FROM e)": True,
            "SELECT v FROM e WHERE (SELECT max(ts) - INTERVAL '1 hour' FROM e) <= ts": True,
            "SELECT v FROM e WHERE ts > (SELECT max(ts) FROM t)": False,  # a maximum of rows that may go may fall
            "SELECT v FROM e WHERE ts > (SELECT min(ts) FROM e)": False,
            "SELECT v FROM e WHERE ts < (SELECT max(ts) FROM e)": False,
        }
        for query, forgets in over.items():
            plan = "\n".join(str(row[0]) for row in session.rows(f"EXPLAIN CREATE MATERIALIZED VIEW x AS {query}"))
            assert "DynamicFilter" in plan, query
            assert ("forgets" in plan) == forgets, query


SLIDING = """
CREATE TABLE e (id BIGINT, ts TIMESTAMP) APPEND ONLY;
CREATE MATERIALIZED VIEW held AS SELECT id FROM e WHERE ts + INTERVAL '1 minute' > (SELECT max(ts) FROM e)
"""
ROWS, MINUTES = 40, 24


def _kept(session: InProcess) -> int:
    ((rows,),) = session.rows("SELECT sum(rows)::bigint FROM rw_catalog.headrace_state_tables WHERE object_name = 'held'")
    return int(str(rows))


def test_what_a_rising_value_has_passed_is_forgotten_and_comes_not_back(tmp_path: Path) -> None:
    drawn = random.Random(3)
    with running(tmp_path) as session:
        session.run(SLIDING)
        times: dict[int, float] = {}
        for minute in range(MINUTES):
            seconds = [minute * 60 + i * 60 / ROWS - drawn.choice([0, 0, 0, 30, 90, 4000]) for i in range(ROWS)]
            rows = [(minute * ROWS + i, at) for i, at in enumerate(seconds)]
            times.update(rows)
            listed = ", ".join(f"({i}, TIMESTAMP '2026-01-01' + {at!r} * INTERVAL '1 second')" for i, at in rows)
            session.run(f"INSERT INTO e VALUES {listed}; FLUSH")
            now = max(times.values())
            assert {int(str(i)) for (i,) in session.rows("SELECT id FROM held")} == {
                i for i, at in times.items() if at + 60 > now
            }
            assert _kept(session) <= ROWS * (CLEANING_EPOCHS + 3)


def test_a_filter_goes_on_where_it_was_after_a_restart(tmp_path: Path) -> None:
    with running(tmp_path) as session:
        session.run(SLIDING)
        session.run("INSERT INTO e VALUES (1, '2026-01-01 00:00:00'), (2, '2026-01-01 00:00:30'); FLUSH")
    with running(tmp_path) as session:
        assert session.rows("SELECT id FROM held ORDER BY id") == [(1,), (2,)]
        session.run("INSERT INTO e VALUES (3, '2026-01-01 00:01:00'); FLUSH")
        assert session.rows("SELECT id FROM held ORDER BY id") == [(2,), (3,)]
