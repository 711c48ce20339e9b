"""Queries: what is written back is what was read, joins nest as they should, and the odd constructs of streaming SQL."""

from __future__ import annotations

import pytest
from sqlglot import exp, parse_one

from engine.sql.dialect import RisingWave
from engine.sql.parser import parse_query

QUERIES = [
    "SELECT 1",
    "SELECT a, b AS c, t.*, * FROM t",
    "SELECT a / b * c / 2 % d - -e, a ^ b ^ c FROM t",
    "SELECT * EXCEPT (a, b), t.* EXCEPT (c) FROM t",
    "SELECT ALL a FROM t",
    "SELECT DISTINCT a FROM t",
    "SELECT DISTINCT ON (a, b) a, b FROM t ORDER BY a, b DESC NULLS LAST LIMIT 10 OFFSET 5 ROWS",
    "SELECT a FROM t ORDER BY a NULLS FIRST, b DESC FETCH FIRST 5 ROWS WITH TIES",
    "SELECT a FROM t OFFSET 2 LIMIT 3",
    "SELECT a FROM t LIMIT ALL",
    "SELECT a, count(*) FROM t GROUP BY a HAVING count(*) > 1",
    "SELECT a, b FROM t GROUP BY a, ROLLUP (a, b), CUBE (a, (b, c))",
    "SELECT a, b FROM t GROUP BY GROUPING SETS ((a), (a, b), (), ROLLUP (a, b))",
    "SELECT sum(x) OVER w FROM t WINDOW w AS (PARTITION BY a ORDER BY b), v AS (w)",
    "SELECT sum(x) OVER (ORDER BY b RANGE BETWEEN INTERVAL '1 day' PRECEDING AND CURRENT ROW EXCLUDE CURRENT ROW) FROM t",
    "SELECT count(*) OVER (PARTITION BY a ORDER BY b SESSION WITH GAP INTERVAL '5 minutes') FROM t",
    "WITH c AS CHANGELOG FROM s.t SELECT * FROM c",
    "WITH a (x) AS (SELECT 1), b AS (VALUES (1, 2)) SELECT * FROM a, b",
    "WITH RECURSIVE r (a) AS (SELECT 1 UNION ALL SELECT a + 1 FROM r) SELECT * FROM r",
    "SELECT a FROM t UNION ALL CORRESPONDING BY (a) SELECT a FROM u",
    "SELECT a FROM t UNION CORRESPONDING SELECT a FROM u",
    "SELECT a FROM t EXCEPT ALL SELECT b FROM u INTERSECT SELECT c FROM v ORDER BY 1",
    "SELECT 1 UNION SELECT 2 EXCEPT SELECT 3 UNION ALL SELECT 4",
    "(SELECT 1) UNION (SELECT 2 ORDER BY 1 LIMIT 1) UNION (SELECT 3 INTERSECT SELECT 4) LIMIT 2",
    "(SELECT 1 ORDER BY 1) LIMIT 1",
    "VALUES (1, 'a'), (2, DEFAULT)",
    "SELECT * FROM (VALUES (1, 2), (3, 4)) AS t (a, b)",
    "SELECT * FROM (SELECT 1) AS t (a), (SELECT 2)",
    "SELECT * FROM a.b.c AS t",
    "SELECT * FROM t, LATERAL (SELECT * FROM u WHERE u.x = t.x) AS l",
    "SELECT * FROM t LEFT JOIN LATERAL unnest(t.a) WITH ORDINALITY AS u (v, o) ON true",
    "SELECT * FROM unnest(ARRAY[1, 2]) WITH ORDINALITY AS u (v, o), pg_catalog.f() AS g",
    "SELECT * FROM a JOIN b USING (x, y) NATURAL JOIN c CROSS JOIN d RIGHT JOIN e ON true FULL JOIN f ON false",
    "SELECT * FROM a ASOF LEFT JOIN b ON a.k = b.k AND a.t >= b.t",
    "SELECT * FROM (a JOIN b ON a.x = b.x) LEFT JOIN (c CROSS JOIN d) ON true",
    "SELECT * FROM TUMBLE(s.t, ts, INTERVAL '1 minute') AS w",
    "SELECT * FROM HOP(t, ts, INTERVAL '1 minute', INTERVAL '5 minutes', INTERVAL '30 seconds')",
    "SELECT * FROM a LEFT JOIN b FOR SYSTEM_TIME AS OF PROCTIME() AS c ON a.x = c.x",
    "SELECT * FROM t FOR SYSTEM_VERSION AS OF 123",
    "SELECT * FROM t FOR SYSTEM_TIME AS OF NOW() - '10' SECOND AS x",
    "SELECT a FROM t WHERE ts > now() - INTERVAL '1' HOUR AND (a, b) IN (SELECT c, d FROM u)",
    "SELECT (SELECT max(x) FROM t), EXISTS(SELECT 1), a = ANY(ARRAY[1]), b <> ALL(SELECT 1), ARRAY(SELECT 1)",
    "SELECT j -> 'a' ->> 'b', j #> '{a}', j ? 'a', j @> '{}', (x).*, ((x).y).z, m['k'], ROW(1), ROW(1, 2), MAP {'a': 1}",
    "SELECT array_transform(a, |x| x * 2), AGGREGATE:array_sum(v), first_value(x) IGNORE NULLS OVER (ORDER BY y)",
    "SELECT trim(x), extract(epoch FROM ts), position('a' IN x), current_date, f(VARIADIC a), g(b => 1), h(DISTINCT a, b ORDER BY c)",
    "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY x DESC) FILTER (WHERE y) FROM t",
    'SELECT a::struct<x int, y struct<z varchar[]>>[], b::map(varchar, int), c::rw_int256, d::bytea, e::regclass, f::"char"',
    'SELECT "Select", "a b"."c" AS "D" FROM "T" AS "U"',
]


@pytest.mark.parametrize("text", QUERIES)
def test_what_is_written_back_reads_as_the_same_tree(text: str) -> None:
    tree = parse_query(text)
    written = tree.sql(dialect=RisingWave)
    assert parse_query(written) == tree, written
    assert parse_one(written, dialect=RisingWave) == tree


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("select a from t union select b from u intersect select c from v", "SELECT a FROM t UNION SELECT b FROM u INTERSECT SELECT c FROM v"),
        ("select T.A from S.T x where A ilike 'b' ", "SELECT t.a FROM s.t AS x WHERE a ILIKE 'b'"),
        ("select * from a join b join c on 1=1 on 2=2", "SELECT * FROM a JOIN (b JOIN c ON 1 = 1) ON 2 = 2"),
        ("select * from a, b full join c on true", "SELECT * FROM a CROSS JOIN (b FULL JOIN c ON TRUE)"),
        ("select * from a, b left join c on true, d", "SELECT * FROM a CROSS JOIN b LEFT JOIN c ON TRUE CROSS JOIN d"),
        ("select * from a for system_time as of proctime() b", "SELECT * FROM a FOR SYSTEM_TIME AS OF proctime() AS b"),
    ],
)  # fmt: skip
def test_a_query_is_written_in_one_way(text: str, written: str) -> None:
    assert parse_query(text).sql(dialect=RisingWave) == written


def test_intersect_binds_tighter_than_union_and_both_to_the_left() -> None:
    tree = parse_query("SELECT 1 UNION SELECT 2 INTERSECT SELECT 3 EXCEPT ALL SELECT 4")
    assert isinstance(tree, exp.Except)
    assert tree.args["distinct"] is False
    assert isinstance(tree.this, exp.Union)
    assert isinstance(tree.this.expression, exp.Intersect)


def test_order_and_limit_hang_on_the_whole_set_operation() -> None:
    tree = parse_query("SELECT 1 AS a UNION ALL SELECT 2 ORDER BY a LIMIT 3")
    assert isinstance(tree, exp.Union)
    assert tree.args["order"].expressions[0].this.name == "a"
    assert tree.args["limit"].expression.name == "3"
    assert not tree.expression.args.get("order")


def test_nulls_sort_as_the_largest_values_unless_written_otherwise() -> None:
    tree = parse_query("SELECT 1 ORDER BY a, b DESC, c NULLS FIRST, d DESC NULLS LAST")
    ordering = [(item.args["desc"], item.args["nulls_first"]) for item in tree.args["order"].expressions]
    assert ordering == [(False, False), (True, True), (False, True), (True, False)]


def test_with_ties_is_told_from_only() -> None:
    ties = parse_query("SELECT 1 FETCH NEXT 3 ROWS WITH TIES").args["limit"]
    only = parse_query("SELECT 1 FETCH FIRST ROW ONLY").args["limit"]
    assert isinstance(ties, exp.Fetch)
    assert ties.args["limit_options"].args["with_ties"] is True
    assert (only.args["count"].name, only.args["limit_options"].args.get("with_ties")) == ("1", None)


def test_parentheses_around_a_plain_query_are_dropped_and_others_are_kept() -> None:
    assert isinstance(parse_query("((SELECT 1))"), exp.Select)
    union = parse_query("(SELECT 1) UNION (SELECT 2 LIMIT 1)")
    assert isinstance(union.args["this"], exp.Select)
    assert isinstance(union.args["expression"], exp.Subquery)


def test_values_alone_is_a_select_of_everything_from_it() -> None:
    tree = parse_query("VALUES (1), (2)")
    assert isinstance(tree, exp.Select)
    assert isinstance(tree.args["from_"].this, exp.Values)
    assert len(tree.args["from_"].this.expressions) == 2


def test_a_changelog_is_a_common_table_over_a_relation() -> None:
    tree = parse_query("WITH c AS CHANGELOG FROM s.t SELECT * FROM c")
    (table,) = tree.args["with_"].expressions
    assert table.meta["changelog"] is True
    assert isinstance(table.this, exp.Table)
    assert (table.this.db, table.this.name, table.alias) == ("s", "t", "c")
