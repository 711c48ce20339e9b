"""GROUPING SETS, ROLLUP, CUBE and CORRESPONDING, in views and ad hoc, equal plain DuckDB after every epoch."""

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


QUERIES = {
    **alike(
        "SELECT s, x, count(*) AS n, sum(y) AS t FROM a GROUP BY GROUPING SETS ((s, x), (s), ())",
        "SELECT s, x, max(y) AS n FROM a GROUP BY ROLLUP (s, x)",
        "SELECT s, x, y, count(*) AS n FROM a GROUP BY CUBE (s, x), y",
        "SELECT s, grouping(s) AS g, grouping(s, x) AS h, count(*) AS n FROM a GROUP BY CUBE (s, x)",
        "SELECT s, x, count(DISTINCT y) AS n FROM a GROUP BY ROLLUP ((s, x)) HAVING count(*) > 1",
        "SELECT x + 1 AS z, count(*) AS n FROM a GROUP BY ROLLUP (x + 1)",
        "SELECT a.s, b.s AS r, count(*) AS n FROM a JOIN b ON a.x = b.x GROUP BY GROUPING SETS ((a.s), (b.s))",
    ),
    "corresponding": (
        "SELECT x, s, k FROM a UNION ALL CORRESPONDING SELECT s, z, x FROM b",
        "SELECT x, s FROM a UNION ALL SELECT x, s FROM b",
    ),
    "corresponding_by": (
        "SELECT x, s, k FROM a UNION CORRESPONDING BY (s) SELECT s, z, x FROM b",
        "SELECT s FROM a UNION SELECT s FROM b",
    ),
    "row_of_an_unused_aggregate": ("SELECT 1 AS one FROM (SELECT count(*) FROM a) AS t", "SELECT 1 AS one"),
    "having_alone": ("SELECT 7 AS seven FROM a HAVING count(*) > 2", "SELECT 7 AS seven FROM a HAVING count(*) > 2"),
}


def test_grouping_sets_equal_duckdb_after_every_epoch(box: EngineBox) -> None:
    follow(box, QUERIES, seed=3)


@pytest.mark.parametrize(
    ("sql", "state"),
    [
        ("SELECT grouping(k) FROM (VALUES (1, 2)) AS t (k, v) GROUP BY v", "42803"),
        ("SELECT v FROM (VALUES (1, 2)) AS t (k, v) GROUP BY ROLLUP (k)", "42803"),
        ("SELECT count(*) FROM (VALUES (1)) AS t (k) GROUP BY CUBE (k, k + 1, k + 2, k + 3, k + 4, k + 5, k + 6)", "54000"),
        ("SELECT 1 AS p UNION ALL CORRESPONDING SELECT 1 AS q", "42601"),
        ("SELECT 1 AS p UNION ALL CORRESPONDING BY (q) SELECT 1 AS q", "42703"),
    ],
)
def test_what_is_wrong_with_a_grouping_is_said(box: EngineBox, sql: str, state: str) -> None:
    with pytest.raises(SqlError) as caught:
        box.run(sql)
    assert caught.value.sqlstate == state
