"""What a watermark has made unreachable is forgotten, and the space of deleted rows is used again: state does not follow time."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.operators.base import CLEANING_EPOCHS
from engine.operators.leaf import ValuesLeaf
from engine.plan.algebra import Values
from tests.unit.engine.runtime.inprocess import InProcess, running

ROWS = 300  # of one epoch, over one minute of event time
KEYS = 20
TABLES = """
CREATE TABLE e (id BIGINT, k INT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '10 seconds') APPEND ONLY;
CREATE TABLE f (id BIGINT, k INT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '10 seconds') APPEND ONLY
"""
VIEWS = {
    "windows": "SELECT window_start, k, count(*) AS n, sum(id) AS s FROM TUMBLE(e, ts, INTERVAL '1 minute') GROUP BY window_start, k",
    "ordered": "SELECT window_start, string_agg(k::varchar, ',' ORDER BY id) AS s FROM TUMBLE(e, ts, INTERVAL '1 minute') GROUP BY window_start",
    "closed": "SELECT window_start, k, max(id) AS n FROM TUMBLE(e, ts, INTERVAL '1 minute') GROUP BY window_start, k EMIT ON WINDOW CLOSE",
    "seen": "SELECT DISTINCT window_start, k FROM TUMBLE(e, ts, INTERVAL '1 minute')",
    "joined": "SELECT e.id, f.id AS other FROM e JOIN f ON e.k = f.k AND e.ts BETWEEN f.ts - INTERVAL '1 minute' AND f.ts + INTERVAL '1 minute'",
}
PER_MINUTE = {"windows": KEYS, "ordered": ROWS + 1, "closed": ROWS, "seen": KEYS, "joined": 2 * ROWS}
KEPT_MINUTES = 20  # rows are dropped in every sixteenth epoch, and two minutes are open


def _minutes(session: InProcess, first: int, count: int) -> None:
    """An epoch for every minute of event time."""
    for minute in range(first, first + count):
        row = f"{minute * ROWS} + i, i % {KEYS}, TIMESTAMP '2026-01-01' + {minute} * INTERVAL '1 minute' + i * INTERVAL '0.2 second'"
        for table in ("e", "f"):
            session.run(f"INSERT INTO {table} SELECT {row} FROM generate_series(0, {ROWS - 1}) AS s(i)")
        session.run("FLUSH")


def _state(session: InProcess) -> dict[str, int]:
    rows = session.rows("SELECT object_name, sum(rows)::bigint FROM rw_catalog.headrace_state_tables GROUP BY object_name")
    return {str(name): int(str(count)) for name, count in rows}


def _follow(folder: Path, minutes: int) -> None:
    with running(folder) as session:
        session.run(TABLES)
        for name, query in VIEWS.items():
            session.run(f"CREATE MATERIALIZED VIEW {name} AS {query}")
        _minutes(session, 0, minutes)
        state = _state(session)
        assert set(state) == set(VIEWS)
        for name, count in state.items():
            assert 0 < count <= PER_MINUTE[name] * KEPT_MINUTES, f"{name} keeps {count} rows"
        ((groups,),) = session.rows("SELECT count(*) FROM windows")
        assert groups == KEYS * minutes, "what went out stays"


def test_state_is_bounded_by_watermarks(tmp_path: Path) -> None:
    _follow(tmp_path, 50)


@pytest.mark.parametrize("phase", range(CLEANING_EPOCHS))
def test_an_operator_cleans_whatever_the_numbers_of_the_epochs_that_bring_it_rows(phase: int) -> None:
    operator = ValuesLeaf(Values((), ()))
    due = [operator.cleaning_due(number) for number in range(phase, 5 * CLEANING_EPOCHS, CLEANING_EPOCHS)]
    assert due == [False, True, True, True, True]


@pytest.mark.nightly
@pytest.mark.timeout(3600)
def test_state_is_bounded_by_watermarks_over_a_quarter_million_events(tmp_path: Path) -> None:
    _follow(tmp_path, 420)


def test_the_file_does_not_grow_with_updates_of_the_same_rows(tmp_path: Path) -> None:
    sizes = []
    with running(tmp_path) as session:
        session.run("CREATE TABLE t (id INT PRIMARY KEY, v BIGINT)")
        session.run("CREATE MATERIALIZED VIEW v AS SELECT v % 10 AS g, count(*) AS n, max(id) AS m FROM t GROUP BY v % 10")
        session.run(
            "CREATE MATERIALIZED VIEW w AS SELECT id, v, row_number() OVER (PARTITION BY v % 1000 ORDER BY id) AS r FROM t"
        )
        for turn in range(12):
            session.run(f"INSERT INTO t SELECT i, i * 7919 + {turn} FROM generate_series(1, 20000) AS s(i); FLUSH")
            session.engine.submit(session.engine.store.checkpoint).result(60)
            sizes.append(session.engine.store.path.stat().st_size)
        assert session.rows("SELECT count(*) FROM w") == [(20000,)]
    assert max(sizes[6:]) <= 1.5 * max(sizes[:6]), f"the file grows: {sizes}"
