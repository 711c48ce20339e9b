"""Window functions with frames of every kind, in views and ad hoc, equal plain DuckDB after every epoch.

Ties are broken by the primary key, in DuckDB's text too.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from engine.sql.errors import SqlError
from tests.property.engine.harness import EngineBox
from tests.unit.engine.plan.comparison import alike, follow


@pytest.fixture(scope="module")
def box() -> Iterator[EngineBox]:
    made = EngineBox()
    yield made
    made.close()


_SESSIONS = (
    "(SELECT *, sum(b) OVER (PARTITION BY s ORDER BY x, k ROWS UNBOUNDED PRECEDING) AS i FROM (SELECT *, CASE WHEN x < lag(x)"
    " OVER (PARTITION BY s ORDER BY x, k) + 2 THEN 0 ELSE 1 END AS b FROM a WHERE x IS NOT NULL))"
)
QUERIES = {
    **alike(
        "SELECT k, lag(y, 1, -1) OVER (PARTITION BY s ORDER BY x, k) AS l, lead(y, 2) OVER (PARTITION BY s ORDER BY x, k) AS m FROM a",
        "SELECT k, first_value(y) OVER (PARTITION BY s ORDER BY x, k) AS f, last_value(y) OVER (PARTITION BY s ORDER BY x, k) AS l FROM a",
        "SELECT k, sum(y) OVER (PARTITION BY s ORDER BY x, k ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING) AS t FROM a",
        "SELECT k, sum(y) OVER (ORDER BY x RANGE BETWEEN 1 PRECEDING AND 1 FOLLOWING) AS t FROM a",
        "SELECT k, count(*) OVER (PARTITION BY s ORDER BY x RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS t FROM a",
        "SELECT k, sum(y) OVER (PARTITION BY s ORDER BY k ROWS BETWEEN 2 PRECEDING AND CURRENT ROW EXCLUDE CURRENT ROW) AS t FROM a",
        "SELECT k, max(y) OVER (PARTITION BY s ORDER BY k ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING) AS t FROM a",
        "SELECT k, sum(y) FILTER (WHERE y > 1) OVER (PARTITION BY s ORDER BY k ROWS UNBOUNDED PRECEDING) AS t FROM a",
        "SELECT k, rank() OVER w AS r, count(*) OVER (w ROWS 1 PRECEDING) AS c FROM a WINDOW w AS (PARTITION BY s ORDER BY k)",
        "SELECT k, row_number() OVER (PARTITION BY s ORDER BY k) AS r, dense_rank() OVER (ORDER BY x) AS d FROM a",
        "SELECT s, sum(count(*)) OVER (ORDER BY s ROWS UNBOUNDED PRECEDING) AS t FROM a GROUP BY s",
        "SELECT k, max(t) OVER (PARTITION BY s) AS m FROM (SELECT k, s, sum(y) OVER (PARTITION BY s ORDER BY k ROWS 1 PRECEDING) AS t FROM a) AS u",
    ),
    "session": (
        "SELECT k, sum(y) OVER (PARTITION BY s ORDER BY x SESSION WITH GAP 2) AS t, count(*) OVER (PARTITION BY s ORDER BY x"
        " SESSION WITH GAP 2) AS n FROM a WHERE x IS NOT NULL",
        f"SELECT k, sum(y) OVER (PARTITION BY s, i) AS t, count(*) OVER (PARTITION BY s, i) AS n FROM {_SESSIONS}",
    ),
}


def test_window_functions_equal_duckdb_after_every_epoch(box: EngineBox) -> None:
    follow(box, QUERIES, seed=7)


@pytest.mark.parametrize(
    ("over", "state"),
    [
        ("OVER (ORDER BY v ROWS BETWEEN CURRENT ROW AND 1 PRECEDING)", "42P20"),
        ("OVER (ORDER BY v ROWS BETWEEN UNBOUNDED FOLLOWING AND CURRENT ROW)", "42P20"),
        ("OVER (ORDER BY v GROUPS 1 PRECEDING)", "0A000"),
        ("OVER (RANGE 1 PRECEDING)", "42P20"),
        ("OVER (ORDER BY v, w RANGE 1 PRECEDING)", "42P20"),
        ("OVER (ORDER BY v RANGE INTERVAL '1 day' PRECEDING)", "0A000"),
        ("OVER (ORDER BY v DESC SESSION WITH GAP 1)", "42P20"),
        ("OVER (ORDER BY v ROWS 1 PRECEDING EXCLUDE TIES)", "0A000"),
        ("OVER nothing", "42704"),
    ],
)
def test_what_is_wrong_with_a_frame_is_said(box: EngineBox, over: str, state: str) -> None:
    with pytest.raises(SqlError) as caught:
        box.run(f"SELECT sum(v) {over} FROM (VALUES (1, 2)) AS t (v, w)")
    assert caught.value.sqlstate == state
