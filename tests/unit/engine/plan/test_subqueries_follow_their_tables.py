"""Subqueries of every kind, in views and ad hoc, equal plain DuckDB after every epoch."""

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


EXISTS = (
    "SELECT * FROM a WHERE EXISTS (SELECT 1 FROM b WHERE b.x = a.x)",
    "SELECT * FROM a WHERE NOT EXISTS (SELECT 1 FROM b WHERE b.x = a.x AND b.z > a.y)",
    "SELECT * FROM a WHERE EXISTS (SELECT 1 FROM b WHERE b.z < a.y)",
    "SELECT * FROM a WHERE EXISTS (SELECT 1 FROM b WHERE z > 2)",
    "SELECT * FROM a WHERE NOT EXISTS (SELECT * FROM b WHERE z > 2) AND y > 0",
    "SELECT k, EXISTS (SELECT 1 FROM b WHERE b.x = a.x) AS e FROM a",
    "SELECT k FROM a WHERE EXISTS (SELECT 1 FROM b WHERE b.x = a.x) OR y = 1",
    "SELECT k FROM a WHERE NOT (NOT EXISTS (SELECT 1 FROM b WHERE b.x = a.x + 1))",
    "SELECT k, EXISTS (SELECT 1 FROM b) AS e FROM a",
)
MEMBERSHIP = (
    "SELECT * FROM a WHERE x IN (SELECT x FROM b)",
    "SELECT * FROM a WHERE x NOT IN (SELECT x FROM b)",
    "SELECT * FROM a WHERE x NOT IN (SELECT z FROM b WHERE b.x = a.y)",
    "SELECT * FROM a WHERE x IN (SELECT z FROM b WHERE b.s = a.s)",
    "SELECT * FROM a WHERE (x, y) IN (SELECT x, z FROM b)",
    "SELECT * FROM a WHERE (x, y) NOT IN (SELECT x, z FROM b WHERE x IS NOT NULL AND z IS NOT NULL)",
    "SELECT k, x IN (SELECT x FROM b) AS e FROM a",
    "SELECT k, x NOT IN (SELECT z FROM b WHERE b.s = a.s) AS e FROM a",
    "SELECT * FROM a WHERE x = ANY (SELECT x FROM b) AND y <> 2",
    "SELECT * FROM a WHERE x > ALL (SELECT z FROM b WHERE z < 2)",
    "SELECT * FROM a WHERE x >= ANY (SELECT z FROM b WHERE b.x = a.y)",
    "SELECT k, x < ALL (SELECT z FROM b) AS e FROM a",
    "SELECT k, x > ANY (SELECT z FROM b WHERE b.s = a.s) AS e FROM a",
    "SELECT k FROM a WHERE x IN (SELECT count(*) FROM b GROUP BY s)",
)
SCALAR = (
    "SELECT k, (SELECT max(z) FROM b) AS m FROM a",
    "SELECT * FROM a WHERE y > (SELECT avg(z) FROM b)",
    "SELECT k, (SELECT count(*) FROM b WHERE b.x = a.x) AS n FROM a",
    "SELECT k, (SELECT sum(z) + 1 FROM b WHERE b.x = a.x AND b.s = a.s) AS n FROM a",
    "SELECT * FROM a WHERE y = (SELECT max(z) FROM b WHERE b.x = a.x)",
    "SELECT k, (SELECT count(*) FROM b WHERE b.z < a.y) AS n FROM a",
    "SELECT k, (SELECT z FROM b WHERE b.k = a.k) AS z FROM a",
    "SELECT k, (SELECT max(b.z + a.y) FROM b WHERE b.x = a.x) AS z FROM a",
    "SELECT k, (SELECT z FROM b WHERE b.x = a.x ORDER BY k DESC LIMIT 1) AS z FROM a",
    "SELECT k, coalesce((SELECT max(z) FROM b WHERE b.x = a.x), -1) + (SELECT count(*) FROM b) AS z FROM a",
    "SELECT s, count(*) AS n FROM a GROUP BY s HAVING count(*) > (SELECT min(z) FROM b)",
    "SELECT s, max(x) AS n, (SELECT count(*) FROM b WHERE b.s = a.s) AS m FROM a GROUP BY s",
    "SELECT s, count(*) AS n FROM a GROUP BY s HAVING max(x) >= (SELECT min(z) FROM b WHERE b.s = a.s)",
    "SELECT a.k, b.k AS l FROM a JOIN b ON a.x = b.x WHERE a.y > (SELECT min(z) FROM b AS c WHERE c.s = b.s)",
    "SELECT k, (SELECT a.x + a.y) AS v FROM a",
    "SELECT k, (SELECT count(DISTINCT z) FROM b WHERE b.x = a.x AND EXISTS (SELECT 1 FROM a AS c WHERE c.y = b.z AND c.s = a.s)) AS n FROM a",
    "SELECT k, CASE WHEN x > 1 THEN (SELECT max(z) FROM b WHERE b.x = a.x) ELSE 0 END AS c FROM a",
    "SELECT k, (SELECT sum(n) FROM (SELECT count(*) AS n FROM b WHERE b.x = a.x GROUP BY b.s) AS t) AS n FROM a",
    "SELECT k, (SELECT max(u) FROM (SELECT z AS u FROM b WHERE b.x = a.x UNION ALL SELECT a.y) AS t) AS n FROM a",
)
LATERAL = (
    "SELECT a.k, t.k AS l, t.z FROM a, LATERAL (SELECT k, z FROM b WHERE b.x = a.x) AS t",
    "SELECT a.k, t.z FROM a LEFT JOIN LATERAL (SELECT z FROM b WHERE b.x = a.x ORDER BY z, k LIMIT 2) AS t ON true",
    "SELECT a.k, t.n FROM a, LATERAL (SELECT count(*) AS n FROM b WHERE b.x = a.x) AS t",
    "SELECT a.k, t.n, t.m FROM a CROSS JOIN LATERAL (SELECT max(z) AS n, a.y + 1 AS m FROM b WHERE b.z < a.y GROUP BY s) AS t",
)

TOGETHER = (
    "SELECT ARRAY(SELECT x FROM b WHERE b.x = a.x ORDER BY k) FROM a",
    "SELECT k FROM a WHERE (SELECT count(*) FROM b WHERE b.x = a.x) > 1",
    "SELECT k FROM a LEFT JOIN b USING (k) WHERE a.x IN (SELECT z FROM b)",
    "SELECT a.k FROM a LEFT JOIN b ON a.x = b.x AND b.z > (SELECT min(y) FROM a)",
    "SELECT a.k FROM a JOIN b ON a.x = b.x AND EXISTS (SELECT 1 FROM a AS c WHERE c.k = b.k)",
    "SELECT sum((SELECT max(z) FROM b WHERE b.x = a.x)) FROM a",
    "SELECT s, sum(x) FROM a GROUP BY s HAVING s IN (SELECT s FROM b)",
    "SELECT * FROM (SELECT k, (SELECT max(z) FROM b WHERE b.k = a.k) AS m FROM a) AS t WHERE m > 1",
    "SELECT k FROM a WHERE x = (SELECT x FROM b ORDER BY k LIMIT 1)",
    "SELECT k FROM a WHERE EXISTS (SELECT 1 FROM b WHERE b.x = a.x AND EXISTS (SELECT 1 FROM a AS c WHERE c.x = b.z AND c.y = a.y))",
    "SELECT k FROM a WHERE NOT EXISTS (SELECT 1 FROM b WHERE b.x = a.x GROUP BY b.s HAVING count(*) > 1)",
    "SELECT k FROM a WHERE x IN (SELECT x FROM b UNION SELECT z FROM b)",
    "SELECT k FROM a WHERE x IN (SELECT max(x) FROM b GROUP BY s)",
    "SELECT k FROM a WHERE EXISTS (SELECT max(x) FROM b WHERE b.k = a.k)",
    "SELECT k, (SELECT count(*) FROM b WHERE b.x = a.x AND b.z IN (SELECT y FROM a AS c WHERE c.s = a.s)) AS n FROM a",
    "WITH t AS (SELECT x, count(*) AS n FROM a GROUP BY x) SELECT b.k, (SELECT n FROM t WHERE t.x = b.x) AS n FROM b",
    "SELECT k, row_number() OVER (ORDER BY (SELECT count(*) FROM b WHERE b.x = a.x), k) AS r FROM a",
    "SELECT k FROM a ORDER BY (SELECT count(*) FROM b WHERE b.x = a.x), k LIMIT 2",
    "SELECT DISTINCT (SELECT count(*) FROM b WHERE b.x = a.x) AS c FROM a",
    "SELECT CASE WHEN x IN (SELECT x FROM b) THEN 'in' WHEN x IS NULL THEN 'null' ELSE 'out' END AS c, count(*) FROM a GROUP BY 1",
    "SELECT k FROM a WHERE (x, y) = ANY (SELECT x, z FROM b)",
    "SELECT k FROM a WHERE x <> ALL (SELECT z FROM b WHERE z IS NOT NULL)",
    "SELECT k FROM a WHERE x <> ANY (SELECT z FROM b)",
    "SELECT t.k FROM a AS t, LATERAL (SELECT max(z) AS m FROM b WHERE b.x = t.x) AS u WHERE u.m > t.y",
    "SELECT a.k, u.n, w.m FROM a, LATERAL (SELECT count(*) AS n FROM b WHERE b.x = a.x) AS u, LATERAL (SELECT max(z) AS m FROM b WHERE b.z <= u.n) AS w",
    "SELECT k, x FROM a EXCEPT SELECT k, x FROM a WHERE y > 1",
    "SELECT count(*) FROM a, b WHERE a.x = b.x OR a.y = b.z",
    "SELECT k FROM a WHERE 1 = 1 AND NOT (x IN (SELECT x FROM b) AND y > 0)",
    "SELECT max(k) FILTER (WHERE x IN (SELECT x FROM b)) FROM a",
    "SELECT s, count(*) FROM a WHERE EXISTS (SELECT 1 FROM b WHERE b.s = a.s) GROUP BY ROLLUP (s)",
    "SELECT k FROM a WHERE (SELECT true)",
    "SELECT (SELECT k FROM b WHERE b.k = a.k AND b.x > 0) IS NULL AS n, k FROM a",
    "SELECT x, y FROM a GROUP BY x, y HAVING EXISTS (SELECT 1 FROM b WHERE b.x = a.x AND b.z = a.y)",
    "SELECT k FROM a WHERE s LIKE (SELECT max(s) FROM b)",
    "SELECT k, (SELECT string_agg(s, ',' ORDER BY k) FROM b WHERE b.x = a.x) AS t FROM a",
    "SELECT k FROM a WHERE EXISTS (SELECT 1 FROM (SELECT x FROM b WHERE b.z = a.y) AS t JOIN b AS c ON t.x = c.x)",
    "SELECT k FROM a WHERE EXISTS (SELECT 1 FROM b LEFT JOIN a AS c ON c.x = b.x AND c.y = a.y WHERE b.x = a.x AND c.k IS NULL)",
    "SELECT k, (SELECT sum(q) FROM (SELECT DISTINCT z AS q FROM b WHERE b.x = a.x) AS t) AS m FROM a",
    "SELECT k, (SELECT sum(r) FROM (SELECT rank() OVER (ORDER BY z) AS r FROM b WHERE b.x = a.x) AS t) AS m FROM a",
)


@pytest.mark.parametrize(
    ("kind", "queries"),
    [("exists", EXISTS), ("in", MEMBERSHIP), ("scalar", SCALAR), ("lateral", LATERAL), ("together", TOGETHER)],
)
def test_subqueries_equal_duckdb_after_every_epoch(box: EngineBox, kind: str, queries: tuple[str, ...]) -> None:
    follow(box, alike(*queries), seed=len(kind))


SET_OPERATIONS = (
    "SELECT x, s FROM a INTERSECT SELECT x, s FROM b",
    "SELECT x FROM a EXCEPT SELECT z FROM b",
    "SELECT x, s FROM a UNION SELECT x, s FROM b EXCEPT SELECT y, s FROM a",
    "SELECT x FROM a INTERSECT (SELECT z FROM b EXCEPT SELECT y FROM a)",
)


def test_set_operations_equal_duckdb_after_every_epoch(box: EngineBox) -> None:
    follow(box, alike(*SET_OPERATIONS), seed=5)


def test_arrays_are_compared_in_three_values(box: EngineBox) -> None:
    rows = box.rows(
        "SELECT 1 = ANY(ARRAY[1, 2]), 3 = ANY(ARRAY[1, 2]), 3 = ANY(ARRAY[1, NULL]), NULL::int = ANY(ARRAY[1]),"
        " 3 > ALL(ARRAY[1, 2]), 2 > ALL(ARRAY[1, 2]), 3 > ALL(ARRAY[1, NULL]), 0 > ALL(ARRAY[1, NULL]),"
        " 1 = ANY(NULL::int[]), 'b' = ANY(ARRAY['a', 'b']), 'x' LIKE ANY(ARRAY['x%', 'y%'])"
    )
    assert rows == [(True, False, None, None, True, False, None, False, None, True, True)]


@pytest.mark.parametrize(
    ("sql", "state", "text"),
    [
        ("SELECT (SELECT 1, 2)", "42601", "only one column"),
        ("SELECT 1 IN (SELECT 1, 2)", "42601", "too many columns"),
        ("SELECT (1, 2) IN (SELECT 1)", "42601", "too few columns"),
        ("SELECT (SELECT v FROM (VALUES (1), (2)) AS t (v))", "21000", "more than one row"),
        ("SELECT 1 = ANY(2)", "42809", "requires array"),
        ("SELECT (SELECT nothing FROM (VALUES (1)) AS t (v))", "42703", "nothing"),
    ],
)
def test_what_is_wrong_with_a_subquery_is_said(box: EngineBox, sql: str, state: str, text: str) -> None:
    with pytest.raises(SqlError) as caught:
        box.run(sql)
    assert caught.value.sqlstate == state
    assert text in str(caught.value)


def test_a_view_is_refused_where_a_scalar_subquery_could_give_two_rows(box: EngineBox) -> None:
    box.run("CREATE TABLE two (k INT)")
    with pytest.raises(SqlError, match="more than one row"):
        box.run("CREATE MATERIALIZED VIEW v_two AS SELECT k, (SELECT k FROM two) AS l FROM two")
    box.run("DROP TABLE two")
