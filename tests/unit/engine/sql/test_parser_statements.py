"""Every statement but queries, as the dataclass it becomes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from engine.sql import statements as st
from engine.sql import types
from engine.sql.dialect import RisingWave
from engine.sql.parser import parse
from engine.sql.statements import ObjectName
from engine.sql.types import INT4, VARCHAR, list_of, struct_of


def named(name: str, schema: str | None = None, database: str | None = None) -> ObjectName:
    return ObjectName(name, schema, database)


def plain(value: Any) -> Any:
    """A statement without places, and with its trees as text, so that it can be compared."""
    if isinstance(value, ObjectName):
        return replace(value, position=None)
    if isinstance(value, st.ColumnDefinition):
        return replace(value, position=None, default=plain(value.default), generated=plain(value.generated))
    if isinstance(value, st.WatermarkDefinition):
        return replace(value, expression=plain(value.expression))
    if isinstance(value, tuple):
        return tuple(plain(item) for item in value)
    if isinstance(value, st.Statement):
        return replace(value, **{key: plain(item) for key, item in vars(value).items()})
    return value.sql(dialect=RisingWave) if hasattr(value, "sql") and hasattr(value, "args") else value


def only(text: str) -> Any:
    (statement,) = parse(text)
    assert statement.text == text
    return plain(replace(statement, text=""))


def tree(text: str) -> Any:
    """A query or expression written as `plain` writes it."""
    return text


T, S = named("t"), named("s")
STATEMENTS: list[tuple[str, st.Statement]] = [
    # CREATE TABLE and SOURCE
    (
        "CREATE TABLE IF NOT EXISTS d.s.T (a int PRIMARY KEY, b varchar NOT NULL DEFAULT 'x', \"C\" int AS (a + 1))",
        st.CreateTable(
            "",
            named("t", "s", "d"),
            (
                st.ColumnDefinition("a", INT4, primary_key=True),
                st.ColumnDefinition("b", VARCHAR, not_null=True, default=tree("'x'")),
                st.ColumnDefinition("C", INT4, generated=tree("(a + 1)")),
            ),
            primary_key=("a",),
            if_not_exists=True,
        ),
    ),
    (
        "CREATE TABLE t (a int, b timestamptz, PRIMARY KEY (a), WATERMARK FOR b AS b - INTERVAL '5' SECOND WITH TTL) ON CONFLICT OVERWRITE",
        st.CreateTable(
            "",
            T,
            (st.ColumnDefinition("a", INT4), st.ColumnDefinition("b", types.TIMESTAMPTZ)),
            primary_key=("a",),
            watermark=st.WatermarkDefinition("b", tree("b - INTERVAL '5' SECOND"), with_ttl=True),
            on_conflict="overwrite",
        ),
    ),
    (
        "CREATE TABLE t (a int) APPEND ONLY ON CONFLICT DO NOTHING",
        st.CreateTable("", T, (st.ColumnDefinition("a", INT4),), append_only=True, on_conflict="ignore"),
    ),
    (
        "CREATE TABLE t (a int, PRIMARY KEY (a)) ON CONFLICT DO UPDATE IF NOT NULL WITH VERSION COLUMN (a)",
        st.CreateTable(
            "", T, (st.ColumnDefinition("a", INT4),), primary_key=("a",), on_conflict="do update if not null", version_columns=("a",)
        ),
    ),
    (
        "CREATE TABLE t (*, PRIMARY KEY (k)) INCLUDE KEY AS k INCLUDE header 'h' varchar AS x INCLUDE timestamp "
        "WITH (connector = 'kafka', a.b-c = 1, on = true, n = -1.5,) FORMAT UPSERT ENCODE AVRO (schema.registry = 'u') KEY ENCODE TEXT",
        st.CreateTable(
            "",
            T,
            (),
            primary_key=("k",),
            include=(st.IncludeColumn("key", "k"), st.IncludeColumn("header", "x", "h", VARCHAR), st.IncludeColumn("timestamp")),
            options={"connector": "kafka", "a.b-c": "1", "on": "true", "n": "-1.5"},
            format=st.Format("UPSERT", "AVRO", {"schema.registry": "u"}, "TEXT"),
            wildcard=True,
        ),
    ),
    (
        "CREATE TABLE t (s struct<x int>, a AS (s).x)",
        st.CreateTable(
            "",
            T,
            (
                st.ColumnDefinition("s", struct_of(("x", INT4))),
                st.ColumnDefinition("a", types.UNKNOWN, generated=tree("(s).x")),
            ),
        ),
    ),
    ("CREATE TABLE t AS SELECT 1 AS a", st.CreateTable("", T, (), query=tree("SELECT 1 AS a"))),
    (
        "CREATE SOURCE s (a int) WITH ('connector' = 'datagen') FORMAT PLAIN ENCODE JSON",
        st.CreateSource(
            "", S, (st.ColumnDefinition("a", INT4),), options={"connector": "datagen"}, format=st.Format("PLAIN", "JSON")
        ),
    ),
    # Views, indexes, sinks, subscriptions
    (
        "CREATE MATERIALIZED VIEW IF NOT EXISTS v (x, y) WITH (a = 'b') AS SELECT 1, 2 EMIT ON WINDOW CLOSE",
        st.CreateMaterializedView(
            "", named("v"), tree("SELECT 1, 2"), ("x", "y"), emit_on_window_close=True, if_not_exists=True, options={"a": "b"}
        ),
    ),
    (
        "CREATE MATERIALIZED VIEW v WITH (backfill_order = FIXED(t1 -> t2, s.t2 -> t3)) AS SELECT 1",
        st.CreateMaterializedView("", named("v"), tree("SELECT 1"), options={"backfill_order": "FIXED(t1 -> t2, s.t2 -> t3)"}),
    ),
    ("CREATE OR REPLACE VIEW v AS SELECT 1", st.CreateView("", named("v"), tree("SELECT 1"), or_replace=True)),
    (
        "CREATE INDEX i ON s.t (a, b DESC, lower(c)) INCLUDE (d) DISTRIBUTED BY (a)",
        st.CreateIndex(
            "",
            named("i"),
            named("t", "s"),
            (tree("a"), tree("b DESC"), tree("lower(c)")),
            include=("d",),
            distributed_by=("a",),
        ),
    ),
    ("CREATE INDEX ON t (a)", st.CreateIndex("", named("t_a_idx"), T, (tree("a"),))),
    (
        "CREATE SINK k INTO t (a) AS SELECT 1 EMIT ON WINDOW CLOSE",
        st.CreateSink("", named("k"), query=tree("SELECT 1"), into=T, into_columns=("a",), emit_on_window_close=True),
    ),
    (
        "CREATE SINK k FROM v WITH (connector = 'kafka') FORMAT DEBEZIUM ENCODE JSON",
        st.CreateSink("", named("k"), source=named("v"), options={"connector": "kafka"}, format=st.Format("DEBEZIUM", "JSON")),
    ),
    (
        "CREATE SUBSCRIPTION IF NOT EXISTS s FROM t WITH (retention = '1D')",
        st.CreateSubscription("", S, T, {"retention": "1D"}, if_not_exists=True),
    ),
    # Functions
    (
        "CREATE FUNCTION f(a int, double precision, b character varying[]) RETURNS struct<x int, y varchar[]> AS g USING LINK 'http://h:1'",
        st.CreateFunction(
            "",
            named("f"),
            (("a", INT4), (None, types.FLOAT8), ("b", list_of(VARCHAR))),
            struct_of(("x", INT4), ("y", list_of(VARCHAR))),
            body="g",
            link="http://h:1",
        ),
    ),
    (
        "CREATE FUNCTION f(int) RETURNS TABLE (x int, y varchar) LANGUAGE python AS $$ def f(a): pass $$",
        st.CreateFunction(
            "",
            named("f"),
            ((None, INT4),),
            None,
            returns_table=(("x", INT4), ("y", VARCHAR)),
            language="python",
            body=" def f(a): pass ",
        ),
    ),
    (
        "CREATE FUNCTION f(a int) RETURNS int LANGUAGE SQL RETURN a + 1",
        st.CreateFunction("", named("f"), (("a", INT4),), INT4, language="sql", body="SELECT a + 1"),
    ),
    (
        "CREATE AGGREGATE a(v int) RETURNS int LANGUAGE python AS $$x$$",
        st.CreateFunction("", named("a"), (("v", INT4),), INT4, language="python", body="x", aggregate=True),
    ),
    ("CREATE SCHEMA IF NOT EXISTS s", st.CreateSchema("", S, if_not_exists=True)),
    ("CREATE DATABASE d", st.CreateDatabase("", named("d"))),
    ("CREATE SECRET x WITH (backend = 'meta') AS 'v'", st.CreateSecret("", named("x"), "v", {"backend": "meta"})),
    ("CREATE USER u WITH PASSWORD 'p'", st.CreateUser("", named("u"))),
    ("CREATE USER IF NOT EXISTS u SUPERUSER NOCREATEDB", st.CreateUser("", named("u"), {"superuser": True, "createdb": False}, if_not_exists=True)),
    ("ALTER USER u RENAME TO v", st.AlterUser("", named("u"), new_name="v")),
    ("ALTER USER u WITH NOLOGIN ENCRYPTED PASSWORD 'p'", st.AlterUser("", named("u"), {"login": False})),
    # DROP and ALTER
    ("DROP TABLE IF EXISTS s.t CASCADE", st.Drop("", "table", named("t", "s"), if_exists=True, cascade=True)),
    ("DROP MATERIALIZED VIEW v RESTRICT", st.Drop("", "materialized view", named("v"))),
    ("DROP FUNCTION f(int, varchar)", st.Drop("", "function", named("f"), arguments=(INT4, VARCHAR))),
    ("DROP AGGREGATE f", st.Drop("", "aggregate", named("f"))),
    ("DROP DATABASE d", st.Drop("", "database", named("d"))),
    ("DROP SUBSCRIPTION s", st.Drop("", "subscription", S)),
    ("ALTER TABLE t RENAME TO u", st.Alter("", "table", T, "rename", new_name="u")),
    ("ALTER TABLE t RENAME COLUMN a TO b", st.Alter("", "table", T, "rename column", new_name="b", column_name="a")),
    (
        "ALTER TABLE t ADD COLUMN a int DEFAULT 1",
        st.Alter("", "table", T, "add column", column=st.ColumnDefinition("a", INT4, default=tree("1")), column_name="a"),
    ),
    (
        "ALTER TABLE t DROP COLUMN IF EXISTS a CASCADE",
        st.Alter("", "table", T, "drop column", column_name="a", column_if_exists=True, cascade=True),
    ),
    ("ALTER MATERIALIZED VIEW v SWAP WITH s.w", st.Alter("", "materialized view", named("v"), "swap", other=named("w", "s"))),
    ("ALTER SINK k SET SCHEMA s", st.Alter("", "sink", named("k"), "set schema", new_name="s")),
    ("ALTER SCHEMA s OWNER TO u", st.Alter("", "schema", S, "owner", new_name="u")),
    ("ALTER SOURCE s SET source_rate_limit TO default", st.Alter("", "source", S, "set", options={"source_rate_limit": "default"})),
    ("ALTER TABLE t SET PARALLELISM = 8", st.Alter("", "table", T, "set", options={"parallelism": "8"})),
    ("ALTER SOURCE s REFRESH SCHEMA", st.Alter("", "source", S, "refresh schema")),
    ("ALTER TABLE t DROP CONNECTOR", st.Alter("", "table", T, "drop connector")),
    ("ALTER SOURCE s CONNECTOR WITH ('a.b' = 'c')", st.Alter("", "source", S, "connector", options={"a.b": "c"})),
    ("ALTER VIEW v AS SELECT 1", st.Alter("", "view", named("v"), "as", query=tree("SELECT 1"))),
    # Data
    (
        "INSERT INTO t (a, b) VALUES (1, DEFAULT) RETURNING a, b AS c, *",
        st.Insert("", T, ("a", "b"), tree("SELECT * FROM (VALUES (1, DEFAULT))"), (tree("a"), tree("b AS c"), tree("*"))),
    ),
    ("INSERT INTO t (SELECT 1)", st.Insert("", T, (), tree("SELECT 1"))),
    ("INSERT INTO t WITH x AS (SELECT 1) SELECT * FROM x", st.Insert("", T, (), tree("WITH x AS (SELECT 1) SELECT * FROM x"))),
    (
        "UPDATE t SET a = 1, (b, c) = (2, DEFAULT) WHERE a = 3 RETURNING *",
        st.Update("", T, (("a", tree("1")), ("b", tree("2")), ("c", tree("DEFAULT"))), tree("a = 3"), (tree("*"),)),
    ),
    ("DELETE FROM t WHERE a = 1", st.Delete("", T, tree("a = 1"))),
    ("COPY t (a) FROM STDIN WITH (FORMAT csv, HEADER true)", st.Copy("", "from", T, ("a",), options={"format": "csv", "header": "true"})),
    (
        "COPY (SELECT 1) TO STDOUT CSV HEADER DELIMITER AS '|'",
        st.Copy("", "to", query=tree("SELECT 1"), options={"format": "csv", "header": "true", "delimiter": "|"}),
    ),
    ("FLUSH", st.Flush("")),
    ("WAIT", st.Wait("")),
    # The session
    ("SHOW TABLES FROM s LIKE 'a%'", st.Show("", "tables", S, "a%")),
    ("SHOW materialized views", st.Show("", "materialized views")),
    ("SHOW TIME ZONE", st.Show("", "timezone")),
    ("SHOW TRANSACTION ISOLATION LEVEL", st.Show("", "transaction_isolation")),
    ("SHOW search_path", st.Show("", "search_path")),
    ("SHOW CREATE MATERIALIZED VIEW s.v", st.ShowCreate("", "materialized view", named("v", "s"))),
    ("DESC t", st.Describe("", T)),
    ("SET a TO 'x', b", st.SetVariable("", "a", "x, b")),
    ("SET RW_IMPLICIT_FLUSH = true", st.SetVariable("", "rw_implicit_flush", "true")),
    ("SET LOCAL a = -1", st.SetVariable("", "a", "-1", local=True)),
    ("SET SESSION a TO DEFAULT", st.SetVariable("", "a", None)),
    ("SET TIME ZONE 'UTC'", st.SetVariable("", "timezone", "UTC")),
    ("SET TIME ZONE LOCAL", st.SetVariable("", "timezone", None)),
    ("RESET ALL", st.SetVariable("", "all", None)),
    ("SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE", st.Utility("", "set transaction")),
    ("BEGIN TRANSACTION ISOLATION LEVEL READ COMMITTED, READ ONLY", st.Transaction("", "begin", read_only=True)),
    ("START TRANSACTION READ WRITE", st.Transaction("", "begin")),
    ("END", st.Transaction("", "commit")),
    ("ROLLBACK WORK", st.Transaction("", "rollback")),
    ("DECLARE c CURSOR FOR SELECT 1", st.DeclareCursor("", "c", tree("SELECT 1"))),
    ("DECLARE c SUBSCRIPTION CURSOR FOR s.x", st.DeclareSubscriptionCursor("", "c", named("x", "s"))),
    ("DECLARE c SUBSCRIPTION CURSOR FOR s FULL", st.DeclareSubscriptionCursor("", "c", S, "full")),
    ("DECLARE c SUBSCRIPTION CURSOR FOR s SINCE begin()", st.DeclareSubscriptionCursor("", "c", S, "begin")),
    ("DECLARE c SUBSCRIPTION CURSOR FOR s SINCE proctime()", st.DeclareSubscriptionCursor("", "c", S, "now")),
    ("DECLARE c SUBSCRIPTION CURSOR FOR s SINCE 1700000000000", st.DeclareSubscriptionCursor("", "c", S, 1700000000000)),
    ("FETCH NEXT FROM c", st.Fetch("", "c")),
    ("FETCH 10 FROM c WITH (timeout = '1 min 500ms')", st.Fetch("", "c", 10, 60.5)),
    ("CLOSE ALL", st.CloseCursor("", None)),
    ("CLOSE c", st.CloseCursor("", "c")),
    ("COMMENT ON TABLE t IS 'x'", st.Comment("", T, comment="x")),
    ("COMMENT ON COLUMN s.t.c IS NULL", st.Comment("", named("t", "s"), column="c")),
    ("GRANT SELECT ON TABLE t TO u", st.Utility("", "grant")),
    ("DISCARD ALL", st.Utility("", "discard")),
    ("DEALLOCATE p", st.Utility("", "deallocate")),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), STATEMENTS, ids=[text[:60] for text, _ in STATEMENTS])
def test_a_statement_becomes_its_dataclass(text: str, expected: st.Statement) -> None:
    assert only(text) == expected


def test_explain_holds_the_statement_with_its_own_text() -> None:
    (statement,) = parse("EXPLAIN (VERBOSE, trace FALSE, type LOGICAL) CREATE VIEW v AS SELECT 1;")
    assert isinstance(statement, st.Explain)
    assert statement.options == {"verbose": "true", "trace": "false", "type": "logical"}
    assert isinstance(statement.statement, st.CreateView)
    assert statement.statement.text == "CREATE VIEW v AS SELECT 1"


def test_an_explained_query_may_stand_in_parentheses() -> None:
    (statement,) = parse("EXPLAIN (SELECT 1)")
    assert isinstance(statement, st.Explain)
    assert statement.options == {}
    assert isinstance(statement.statement, st.QueryStatement)


def test_texts_are_exact_slices_without_semicolons_and_outer_comments() -> None:
    statements = parse(" /* one */ SELECT 1 -- x\n ;; ; SELECT ';' /* in */ , $$;$$;\n-- end")
    assert [statement.text for statement in statements] == ["SELECT 1", "SELECT ';' /* in */ , $$;$$"]


@pytest.mark.parametrize("text", ["", " ", ";", ";;\n;", "-- nothing", "/* a /* nested */ comment */"])
def test_a_text_without_statements_is_an_empty_list(text: str) -> None:
    assert parse(text) == []


def test_names_know_their_place() -> None:
    (statement,) = parse("  DROP TABLE s.t")
    assert isinstance(statement, st.Drop)
    assert statement.name.position == 14


def test_a_secret_does_not_show_in_its_representation() -> None:
    (statement,) = parse("CREATE SECRET x AS 'hidden'")
    assert "hidden" not in repr(replace(statement, text=""))
