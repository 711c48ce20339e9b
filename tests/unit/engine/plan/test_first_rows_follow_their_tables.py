"""Top-N, group top-N, WITH TIES, DISTINCT ON and deduplication equal plain DuckDB after every epoch."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import pytest

from engine.operators.base import EpochContext
from engine.operators.top_n import TopN
from engine.plan.stream import operators
from engine.sql.errors import SqlError
from tests.property.engine.harness import EngineBox
from tests.unit.engine.plan.comparison import alike, comparable, follow


@pytest.fixture(scope="module")
def box() -> Iterator[EngineBox]:
    made = EngineBox()
    yield made
    made.close()


_RANKED = "SELECT {columns} FROM (SELECT k, s, x, {call} OVER (PARTITION BY s ORDER BY {order}) AS r FROM a) AS t WHERE {where}"
QUERIES = alike(
    _RANKED.format(columns="k, s, r", call="row_number()", order="x DESC, k", where="r <= 2"),
    _RANKED.format(columns="k, s", call="row_number()", order="x, k", where="r < 3 AND x > 0"),
    _RANKED.format(columns="k, s, x", call="row_number()", order="x, k", where="r = 1"),
    _RANKED.format(columns="k, r", call="row_number()", order="x, k", where="2 = r"),
    _RANKED.format(columns="k, r", call="rank()", order="x", where="r <= 1"),
    _RANKED.format(columns="k, r", call="row_number()", order="x, k", where="r > 1 AND r <= 3"),
    "SELECT k, r FROM (SELECT k, row_number() OVER (ORDER BY x DESC, k) AS r FROM a) AS t WHERE r <= 3",
    "SELECT DISTINCT ON (s) s, k, x FROM a ORDER BY s, x DESC, k",
    "SELECT DISTINCT ON (s, x) k FROM a ORDER BY s, x, k",
    "SELECT k, x FROM a ORDER BY x, k LIMIT 3",
    "SELECT k, x FROM a ORDER BY x DESC, k LIMIT 2 OFFSET 1",
    "SELECT count(*) FROM (SELECT k FROM a LIMIT 3) AS t",
    "SELECT s, count(*) AS n FROM (SELECT s, row_number() OVER (PARTITION BY s ORDER BY x, k) AS r FROM a) AS t WHERE r <= 2 GROUP BY s",
) | {
    "ties": (
        "SELECT k, x FROM a ORDER BY x FETCH FIRST 2 ROWS WITH TIES",
        "SELECT k, x FROM a QUALIFY rank() OVER (ORDER BY x NULLS LAST) <= 2",
    )
}


def test_first_rows_equal_duckdb_after_every_epoch(box: EngineBox) -> None:
    follow(box, QUERIES, seed=13, epochs=6)


APPEND_ONLY = (
    "SELECT DISTINCT ON (g) g, v FROM log ORDER BY g, v DESC",
    "SELECT g, v FROM (SELECT g, v, row_number() OVER (PARTITION BY g ORDER BY v) AS r FROM log) AS t WHERE r <= 2",
    "SELECT g, v FROM (SELECT g, v, rank() OVER (PARTITION BY g ORDER BY v) AS r FROM log) AS t WHERE r <= 2",
    "SELECT g, v FROM log ORDER BY v LIMIT 2",
    "SELECT DISTINCT g FROM log",
    "SELECT DISTINCT g, v % 2 AS m FROM log",
)


def test_first_rows_of_an_append_only_table(box: EngineBox) -> None:
    oracle = duckdb.connect(config={"default_null_order": "postgres"})
    oracle.execute("CREATE TABLE log (g VARCHAR, v INT)")
    box.run("CREATE TABLE log (g VARCHAR, v INT) APPEND ONLY")
    for number, query in enumerate(APPEND_ONLY):
        box.run(f"CREATE MATERIALIZED VIEW l{number} AS {query}")
    for epoch in range(4):
        rows = ", ".join(f"('{'pqr'[(epoch * i) % 3]}', {(7 * i + 11 * epoch) % 13})" for i in range(5))
        for target in (box.run, oracle.execute):
            target(f"INSERT INTO log VALUES {rows}")
        box.run("FLUSH")
        for number, query in enumerate(APPEND_ONLY):
            expected = comparable(oracle.execute(query).fetchall())
            assert comparable(box.rows(f"SELECT * FROM l{number}")) == expected, f"{query} in epoch {epoch}"
    plans = {job.object.name: [o.name for o in operators(job.root)] for job in box.engine.jobs.values()}
    assert "GroupTopN" in plans["l0"]
    assert "Deduplicate" in plans["l4"]
    kept = next(
        o for o in operators(next(j for j in box.engine.jobs.values() if j.object.name == "l1").root) if o.name == "GroupTopN"
    )
    assert len(kept.state()) == 1, "an append-only input is not kept"


def test_ties_with_an_offset_are_refused(box: EngineBox) -> None:
    with pytest.raises(SqlError) as caught:
        box.run("SELECT 1 AS x ORDER BY x OFFSET 1 FETCH FIRST 1 ROW WITH TIES")
    assert caught.value.sqlstate == "0A000"


def test_distinct_on_must_match_the_order(box: EngineBox) -> None:
    with pytest.raises(SqlError) as caught:
        box.run("SELECT DISTINCT ON (x) x FROM (VALUES (1, 2)) AS t (x, y) ORDER BY y, x")
    assert caught.value.sqlstate == "42P10"


def test_first_rows_stay_right_when_the_head_runs_dry_or_over(box: EngineBox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.operators.top_n._SPARE", 0)
    dry: list[bool] = []
    plain = TopN._store

    def watched(self: TopN, epoch: EpochContext, ranked: str, kept: int, more: bool) -> str:
        dry.append(more and self._need is not None and kept < self._need)
        return plain(self, epoch, ranked, kept, more)

    monkeypatch.setattr(TopN, "_store", watched)
    queries = {name: pair for name, pair in QUERIES.items() if "LIMIT" in pair[0] or "TIES" in pair[0]}
    queries["all"] = ("SELECT k, x FROM a ORDER BY x, k OFFSET 2", "SELECT k, x FROM a ORDER BY x, k OFFSET 2")
    follow(box, queries, seed=5, epochs=10)
    assert any(dry), "the head never ran dry: this shows nothing"
    assert not all(dry)
