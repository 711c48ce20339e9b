"""Watermarks through aggregates: old groups are forgotten and stay right; joins of closed windows go out once."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Iterator

import duckdb
import pytest

from engine.plan.stream import operators
from tests.property.engine.harness import EngineBox
from tests.unit.engine.plan.comparison import comparable

_START = dt.datetime(2026, 1, 1)  # noqa: DTZ001  a timestamp without time zone
_WINDOW = "time_bucket(INTERVAL '5 seconds', ts)"
VIEWS = {
    "counts": ("SELECT window_start AS w, count(*) AS n, sum(v) AS s FROM TUMBLE(m, ts, INTERVAL '5 seconds') GROUP BY window_start",
               f"SELECT {_WINDOW} AS w, count(*) AS n, sum(v) AS s FROM m GROUP BY w"),
    "distinct": ("SELECT window_start AS w, count(DISTINCT v) AS n FROM TUMBLE(m, ts, INTERVAL '5 seconds') GROUP BY window_start",
                 f"SELECT {_WINDOW} AS w, count(DISTINCT v) AS n FROM m GROUP BY w"),
}  # fmt: skip
_BEST = (
    "SELECT c.w, c.k, c.n FROM (SELECT window_start AS w, k, count(*) AS n FROM TUMBLE(m, ts, INTERVAL '5 seconds') GROUP BY window_start, k) AS c"
    " JOIN (SELECT window_start AS w, max(v) AS top FROM TUMBLE(m, ts, INTERVAL '5 seconds') GROUP BY window_start) AS t"
    " ON c.w = t.w AND c.n <= t.top"
)
_BEST_ORACLE = (
    f"SELECT c.w, c.k, c.n FROM (SELECT {_WINDOW} AS w, k, count(*) AS n FROM m GROUP BY w, k) AS c"
    f" JOIN (SELECT {_WINDOW} AS w, max(v) AS top FROM m GROUP BY w) AS t ON c.w = t.w AND c.n <= t.top"
)


@pytest.fixture(scope="module")
def box() -> Iterator[EngineBox]:
    made = EngineBox()
    yield made
    made.close()


def test_old_groups_are_forgotten_and_stay_right(box: EngineBox) -> None:
    box.run("CREATE TABLE m (k INT, v INT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '3 seconds') APPEND ONLY")
    for name, (query, _) in VIEWS.items():
        box.run(f"CREATE MATERIALIZED VIEW g_{name} AS {query}")
    box.run(f"CREATE MATERIALIZED VIEW best AS {_BEST} EMIT ON WINDOW CLOSE")
    rand = random.Random(3)
    for epoch in range(40):
        rows = ", ".join(
            f"({rand.randint(0, 2)}, {rand.randint(0, 9)}, '{_START + dt.timedelta(seconds=2 * epoch + rand.randint(-4, 3))}')"
            for _ in range(4)
        )
        box.run(f"INSERT INTO m VALUES {rows}; FLUSH")
        if epoch % 13 == 12:
            _check(box)
    box.run("FLUSH")
    for job in box.engine.jobs.values():
        if not job.object.name.startswith("g_"):
            continue
        aggregate = next(o for o in operators(job.root) if "Aggregate" in o.name)
        assert aggregate.watermarked, job.object.name
        for table in aggregate.state():
            sql = f"SELECT min(c0) FROM {table.name}"
            kept = box.engine.submit(lambda sql=sql: box.engine.store.writer.execute(sql).fetchone())  # type: ignore[misc]
            assert kept.result(10)[0] > _START + dt.timedelta(seconds=20), (
                f"{job.object.name} keeps {table.name} from the start"
            )


def _check(box: EngineBox) -> None:
    oracle = duckdb.connect(config={"threads": 1})
    oracle.execute("CREATE TABLE m (k INT, v INT, ts TIMESTAMP)")
    oracle.executemany("INSERT INTO m VALUES (?, ?, ?)", box.rows("SELECT * FROM m"))
    for name, (_, query) in VIEWS.items():
        assert comparable(box.rows(f"SELECT * FROM g_{name}")) == comparable(oracle.execute(query).fetchall()), name
    ((newest,),) = oracle.execute("SELECT max(ts) FROM m").fetchall()
    mark = newest - dt.timedelta(seconds=3)
    closed = [r for r in oracle.execute(_BEST_ORACLE).fetchall() if r[0] + dt.timedelta(seconds=5) <= mark]
    assert closed
    assert comparable(box.rows("SELECT * FROM best")) == comparable(closed), "a join of two closed windows"
