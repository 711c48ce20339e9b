"""Statements under other names: spliced, and exactly where a name means a relation."""

from __future__ import annotations

import pytest

from pipelines import sqltext
from pipelines.difference import semantic, textual
from pipelines.planning import ObjectPlan

MOVE = {"a": "a__next", "s.b": "s.b__next"}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("CREATE VIEW v AS SELECT a.x FROM a", "CREATE VIEW v AS SELECT a.x FROM a__next AS a"),
        ("CREATE VIEW v AS SELECT y.a FROM public.a AS y", "CREATE VIEW v AS SELECT y.a FROM a__next AS y"),
        ("CREATE VIEW v AS SELECT * FROM S.B, c", "CREATE VIEW v AS SELECT * FROM s.b__next AS b, c"),
        ('CREATE VIEW v AS SELECT * FROM "a" y', "CREATE VIEW v AS SELECT * FROM a__next y"),
        ('CREATE VIEW v AS SELECT * FROM "A"', 'CREATE VIEW v AS SELECT * FROM "A"'),
        (
            "CREATE VIEW v AS WITH a AS (SELECT 1 AS x) SELECT a.x FROM a",
            "CREATE VIEW v AS WITH a AS (SELECT 1 AS x) SELECT a.x FROM a",
        ),
        (
            "CREATE VIEW v AS WITH a AS (SELECT * FROM a) SELECT * FROM a",
            "CREATE VIEW v AS WITH a AS (SELECT * FROM a__next AS a) SELECT * FROM a",
        ),
        (
            "CREATE VIEW v AS SELECT 'FROM a', extract(year FROM a) FROM c -- FROM a\nWHERE x IN (SELECT x FROM a)",
            "CREATE VIEW v AS SELECT 'FROM a', extract(year FROM a) FROM c -- FROM a\nWHERE x IN (SELECT x FROM a__next AS a)",
        ),
        (
            "CREATE MATERIALIZED VIEW v AS SELECT window_start FROM TUMBLE(a, t, INTERVAL '1 hour') GROUP BY 1 EMIT ON WINDOW CLOSE",
            "CREATE MATERIALIZED VIEW v AS SELECT window_start FROM TUMBLE(a__next, t, INTERVAL '1 hour') GROUP BY 1 EMIT ON WINDOW CLOSE",
        ),
        (
            "CREATE MATERIALIZED VIEW v AS SELECT * FROM c JOIN a FOR SYSTEM_TIME AS OF PROCTIME() AS r ON r.x = c.x",
            "CREATE MATERIALIZED VIEW v AS SELECT * FROM c JOIN a__next FOR SYSTEM_TIME AS OF PROCTIME() AS r ON r.x = c.x",
        ),
        (
            "CREATE VIEW v AS (SELECT 1 AS x FROM a UNION ALL SELECT 2 FROM a ORDER BY x)",
            "CREATE VIEW v AS (SELECT 1 AS x FROM a__next AS a UNION ALL SELECT 2 FROM a__next AS a ORDER BY x)",
        ),
        ("CREATE SUBSCRIPTION a FROM a WITH (retention = '1 day')", "CREATE SUBSCRIPTION a FROM a__next WITH (retention = '1 day')"),
        ("CREATE INDEX i ON a(x)", "CREATE INDEX i ON a__next(x)"),
        ("CREATE SINK k INTO a AS SELECT * FROM c", "CREATE SINK k INTO a AS SELECT * FROM c"),
    ],
)  # fmt: skip
def test_names_of_relations_are_exchanged_and_nothing_else(text: str, wanted: str) -> None:
    assert sqltext.retarget(text, MOVE, {}) == wanted


def test_calls_are_exchanged_but_not_columns_of_that_name() -> None:
    text = "CREATE MATERIALIZED VIEW f AS SELECT f(f) AS f, F (1), 'f(1)', s.f(2) FROM t"
    wanted = "CREATE MATERIALIZED VIEW f AS SELECT g(f) AS f, g (1), 'f(1)', s.f(2) FROM t"
    assert sqltext.retarget(text, {}, {"f": "g"}) == wanted


def test_the_created_name_is_exchanged_in_every_form() -> None:
    assert sqltext.with_name("CREATE MATERIALIZED VIEW IF NOT EXISTS s.v (a) AS SELECT 1", "s.v__next") == (
        "CREATE MATERIALIZED VIEW IF NOT EXISTS s.v__next (a) AS SELECT 1"
    )
    assert sqltext.with_name('create sink "Out" from a', "Out__next") == 'create sink "Out__next" from a'


def test_a_function_under_another_name_still_finds_its_code() -> None:
    linked = "CREATE FUNCTION f(x int) RETURNS int USING LINK 'http://u'"
    assert sqltext.with_symbol(linked, "f", "f__1") == "CREATE FUNCTION f(x int) RETURNS int AS f USING LINK 'http://u'"
    python = "CREATE FUNCTION f(x int) RETURNS int LANGUAGE python AS $$\ndef f(x):\n    return x\n$$"
    assert sqltext.with_symbol(python, "f", "f__1").endswith("AS $$\ndef f(x):\n    return x\nf__1 = f\n$$")
    sql = "CREATE FUNCTION f(x int) RETURNS int LANGUAGE sql AS $$ SELECT x $$"
    assert sqltext.with_symbol(sql, "f", "f__1") == sql


def test_an_option_is_added_or_replaced() -> None:
    assert sqltext.with_option("CREATE SINK k FROM a WITH (connector = 'x')", "snapshot", "false") == (
        "CREATE SINK k FROM a WITH (snapshot = 'false', connector = 'x')"
    )
    assert sqltext.with_option("CREATE SINK k FROM a WITH (snapshot = 'true')", "snapshot", "false") == (
        "CREATE SINK k FROM a WITH (snapshot = 'false')"
    )


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("CREATE VIEW v AS SELECT x AS y FROM t", "create view V as\n select x y -- why\nfrom T", True),
        ("CREATE VIEW v AS SELECT 'A' AS y", "CREATE VIEW v AS SELECT 'a' AS y", False),
        ("CREATE VIEW v AS SELECT x FROM t", 'CREATE VIEW v AS SELECT "X" FROM t', False),
        ("CREATE MATERIALIZED VIEW v AS SELECT 1 AS x", "CREATE MATERIALIZED VIEW v AS SELECT 1 AS x EMIT ON WINDOW CLOSE", False),
        ("CREATE SINK k FROM a WITH (x = '1')", "CREATE SINK k FROM a WITH (x = '2')", False),
    ],
)  # fmt: skip
def test_layout_is_no_change_and_meaning_is(one: str, other: str, same: bool) -> None:
    assert sqltext.same_meaning(one, other) is same


def test_the_difference_is_told_by_lines_and_by_clauses() -> None:
    old = "CREATE MATERIALIZED VIEW v AS\nSELECT x, sum(y) AS s\nFROM t\nWHERE x > 1\nGROUP BY x"
    new = "CREATE MATERIALIZED VIEW v AS\nSELECT x, max(y) AS s, count(*) AS n\nFROM t\nWHERE x > 2\nGROUP BY x"
    each = ObjectPlan("v", "MATERIALIZED VIEW", "replace", "", old_id=7, sql=new, old_sql=old)
    assert "-WHERE x > 1" in textual(each)
    assert semantic(each) == ["column s: SUM(y) -> MAX(y)", "column n: added COUNT(*)", "WHERE: x > 1 -> x > 2"]
    table = ObjectPlan(
        "t", "TABLE", "alter", "", old_id=8, sql="CREATE TABLE t (a INT, b INT)", old_sql="CREATE TABLE t (a INT)"
    )
    assert semantic(table) == ["column b: added b INT"]
