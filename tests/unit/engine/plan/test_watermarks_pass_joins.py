"""Watermarks through joins: results equal plain DuckDB, state that nothing can meet is dropped, EMIT ON WINDOW CLOSE works."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Iterator

import duckdb
import pytest

from engine.operators.join import Join
from engine.plan.stream import operators
from tests.property.engine.harness import EngineBox
from tests.unit.engine.plan.comparison import comparable

_START = dt.datetime(2026, 1, 1)  # noqa: DTZ001  a timestamp without time zone
_EPOCHS = 36
_ROWS = 4
_INTERVAL = "l.k = r.k AND r.ts BETWEEN l.ts - INTERVAL '6 seconds' AND l.ts + INTERVAL '2 seconds'"
VIEWS = {
    "interval": f"SELECT l.id, r.id AS other, l.ts, r.ts AS ts2 FROM l JOIN r ON {_INTERVAL}",
    "interval_left": f"SELECT l.id, l.ts, r.id AS other FROM l LEFT JOIN r ON {_INTERVAL}",
    "interval_semi": "SELECT l.id, l.ts FROM l WHERE EXISTS (SELECT 1 FROM r WHERE l.k = r.k AND r.ts >= l.ts AND r.ts < l.ts + INTERVAL '4 seconds')",
    "equal": "SELECT l.id, r.id AS other, l.ts FROM l JOIN r ON l.ts = r.ts AND l.k = r.k",
}
CLOSED = {
    "closed_inner": VIEWS["interval"],
    "closed_left": VIEWS["interval_left"],
    "closed_count": f"SELECT window_start, count(*) AS n FROM TUMBLE((SELECT l.ts FROM l JOIN r ON {_INTERVAL}), ts, INTERVAL '5 seconds')"
    " GROUP BY window_start",
}


@pytest.fixture(scope="module")
def box() -> Iterator[EngineBox]:
    made = EngineBox()
    yield made
    made.close()


def _fill(box: EngineBox, rand: random.Random, epoch: int, ids: Iterator[int]) -> None:
    for table in "lr":
        rows = []
        for _ in range(_ROWS):
            moment = _START + dt.timedelta(seconds=2 * epoch + rand.randint(-4, 3))
            rows.append(f"({next(ids)}, {rand.randint(0, 2)}, '{moment}')")
        box.run(f"INSERT INTO {table} VALUES {', '.join(rows)}")
    box.run("FLUSH")


def test_joins_in_time_equal_duckdb_and_forget(box: EngineBox) -> None:
    for table in "lr":
        box.run(
            f"CREATE TABLE {table} (id INT, k INT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '3 seconds') APPEND ONLY"
        )
    for name, query in VIEWS.items():
        box.run(f"CREATE MATERIALIZED VIEW v_{name} AS {query}")
    for name, query in CLOSED.items():
        box.run(f"CREATE MATERIALIZED VIEW v_{name} AS {query} EMIT ON WINDOW CLOSE")
    rand, ids = random.Random(5), iter(range(100_000))
    before: dict[str, int] = {}
    for epoch in range(_EPOCHS):
        _fill(box, rand, epoch, ids)
        if epoch % 6 != 5:
            continue
        oracle = _oracle(box)
        for name, query in VIEWS.items():
            expected = comparable(oracle.execute(query).fetchall())
            assert comparable(box.rows(f"SELECT * FROM v_{name}")) == expected, f"{name} in epoch {epoch}"
            assert sum(expected.values()) > before.get(name, 0), "the stream goes on joining"
            before[name] = sum(expected.values())
        everything = comparable(oracle.execute(VIEWS["interval_left"]).fetchall())
        closed = comparable(box.rows("SELECT * FROM v_closed_left"))
        assert closed, "windows have closed"
        assert closed <= everything, "what was closed is final"
    # Rows of a far future close everything that came before.
    for table in "lr":
        box.run(f"INSERT INTO {table} VALUES (-1, 99, '2026-01-02 00:00:00')")
    box.run("FLUSH; FLUSH")
    oracle = _oracle(box)
    for name in ("interval", "interval_left"):
        expected = comparable([r for r in oracle.execute(VIEWS[name]).fetchall() if r[0] >= 0])
        assert (
            comparable(box.rows(f"SELECT * FROM v_closed_{name.replace('interval_', '').replace('interval', 'inner')}"))
            == expected
        )
    counts = "SELECT time_bucket(INTERVAL '5 seconds', ts) AS w, count(*) FROM ({}) WHERE id >= 0 GROUP BY w"
    expected = comparable(oracle.execute(counts.format(VIEWS["interval"])).fetchall())
    assert comparable(box.rows("SELECT * FROM v_closed_count")) == expected
    assert expected
    _assert_small_state(box)


def _oracle(box: EngineBox) -> duckdb.DuckDBPyConnection:
    """Plain DuckDB with the rows that were not late."""
    oracle = duckdb.connect(config={"threads": 1})
    for table in "lr":
        oracle.execute(f"CREATE TABLE {table} (id INT, k INT, ts TIMESTAMP)")
        oracle.executemany(f"INSERT INTO {table} VALUES (?, ?, ?)", box.rows(f"SELECT * FROM {table}"))
    return oracle


def _assert_small_state(box: EngineBox) -> None:
    for job in box.engine.jobs.values():
        if job.object.name != "v_interval":
            continue
        (join,) = [o for o in operators(job.root) if isinstance(o, Join)]
        assert len(join.watermarked) == 2
        for table in join.state():
            kept = box.engine.submit(
                lambda name=table.name: box.engine.store.writer.execute(f"SELECT count(*) FROM {name}").fetchone()[0]
            )  # type: ignore[misc]
            assert kept.result(10) < _EPOCHS * _ROWS / 1.5, "old rows are dropped"
