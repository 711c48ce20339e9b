"""Window functions with EMIT ON WINDOW CLOSE: each row once, as soon as its frame is complete, equal to plain DuckDB in the end."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Iterator

import duckdb
import pytest

from engine.operators.window_close_over import WindowCloseOver
from engine.plan.stream import operators
from engine.sql.errors import SqlError
from tests.property.engine.harness import EngineBox
from tests.unit.engine.plan.comparison import comparable

_START = dt.datetime(2026, 1, 1)  # noqa: DTZ001  a timestamp without time zone
_OVER = "OVER (PARTITION BY k ORDER BY ts{tie}"
VIEWS = {
    "numbered": "SELECT id, ts, row_number() {over}) AS r FROM e",
    "lag": "SELECT id, ts, lag(v) {over}) AS p, lag(v, 2) {over}) AS q FROM e",
    "lead": "SELECT id, ts, lead(v, 2) {over}) AS n FROM e",
    "around": "SELECT id, ts, sum(v) {over} ROWS BETWEEN 2 PRECEDING AND 1 FOLLOWING) AS t FROM e",
    "so_far": "SELECT id, ts, max(v) {over} ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS t FROM e",
    "first": "SELECT id, ts FROM (SELECT id, ts, row_number() {over}) AS r FROM e) AS t WHERE r <= 2",
}


@pytest.fixture(scope="module")
def box() -> Iterator[EngineBox]:
    made = EngineBox()
    yield made
    made.close()


def test_rows_leave_when_their_frame_is_complete(box: EngineBox) -> None:
    box.run(
        "CREATE TABLE e (id INT PRIMARY KEY, k INT, v INT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '4 seconds')"
        " APPEND ONLY ON CONFLICT DO NOTHING"
    )
    for name, query in VIEWS.items():
        box.run(f"CREATE MATERIALIZED VIEW w_{name} AS {query.format(over=_OVER.format(tie=''))} EMIT ON WINDOW CLOSE")
    rand = random.Random(2)
    sent: dict[str, int] = {}
    number = 0
    for epoch in range(14):
        rows = []
        for _ in range(5):
            moment = _START + dt.timedelta(seconds=2 * epoch + rand.randint(-4, 4))
            rows.append(f"({number}, {rand.randint(0, 1)}, {rand.randint(0, 50)}, '{moment}')")
            number += 1
        box.run(f"INSERT INTO e VALUES {', '.join(rows)}; FLUSH")
        _check(box, sent)
    assert sent.pop("first") == 4
    assert all(count > 10 for count in sent.values()), sent
    (over,) = [
        o
        for j in box.engine.jobs.values()
        if j.object.name == "w_around"
        for o in operators(j.root)
        if isinstance(o, WindowCloseOver)
    ]
    table = over.state()[0].name
    kept = box.engine.submit(lambda: box.engine.store.writer.execute(f"SELECT count(*) FROM {table} WHERE sent").fetchone())
    found = kept.result(10)
    assert found is not None
    assert found[0] <= 2 * 2, "of what went out, two rows a partition are kept"


def _check(box: EngineBox, sent: dict[str, int]) -> None:
    """What went out is right over all rows that were not late, and stays."""
    oracle = duckdb.connect(config={"threads": 1})
    oracle.execute("CREATE TABLE e (id INT, k INT, v INT, ts TIMESTAMP)")
    oracle.executemany("INSERT INTO e VALUES (?, ?, ?, ?)", box.rows("SELECT * FROM e"))
    ((newest,),) = oracle.execute("SELECT max(ts) FROM e").fetchall()
    for name, query in VIEWS.items():
        everything = comparable(oracle.execute(query.format(over=_OVER.format(tie=", id"))).fetchall())
        found = comparable(box.rows(f"SELECT * FROM w_{name}"))
        assert found <= everything, f"{name}: {dict(found - everything)} is not right"
        assert sum(found.values()) >= sent.get(name, 0), f"{name}: a row was taken back"
        sent[name] = sum(found.values())
        if name in ("numbered", "lag", "so_far", "first"):
            mark = newest - dt.timedelta(seconds=4)
            due = comparable([r for r in everything.elements() if r[1] < mark])
            assert due <= found, f"{name}: {dict(due - found)} should be out"


@pytest.mark.parametrize(
    "over",
    [
        "OVER (PARTITION BY k ORDER BY v)",
        "OVER (PARTITION BY k ORDER BY ts DESC)",
        "OVER (PARTITION BY k)",
        "OVER (PARTITION BY k ORDER BY ts ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING)",
    ],
)
def test_windows_that_never_close_are_refused(box: EngineBox, over: str) -> None:
    box.run("CREATE TABLE IF NOT EXISTS f (k INT, v INT, ts TIMESTAMP, WATERMARK FOR ts AS ts) APPEND ONLY")
    with pytest.raises(SqlError) as caught:
        box.run(f"CREATE MATERIALIZED VIEW no AS SELECT sum(v) {over} AS s FROM f EMIT ON WINDOW CLOSE")
    assert caught.value.sqlstate == "0A000"
