"""What is refused: with SQLSTATE, place and PostgreSQL's words, and never with anything but an `SqlError`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import engine.sql.parser as parser_package
from engine.sql.errors import SqlError, SqlSyntaxError
from engine.sql.parser import parse, parse_expression
from engine.sql.type_names import parse_type

NEAR = "syntax error at or near"
END = "syntax error at end of input"

SYNTAX = [
    ("SELEC 1", f'{NEAR} "SELEC"', 1),
    ("SELECT", END, 7),
    ("SELECT 1 FROM", END, 14),
    ("SELECT FROM t", f'{NEAR} "FROM"', 8),
    ("SELECT 1,", END, 10),
    ("SELECT 1 +", END, 11),
    ("SELECT a b c", f'{NEAR} "c"', 12),
    ("SELECT (1", END, 10),
    ("SELECT 1)", f'{NEAR} ")"', 9),
    ("SELECT f(1,)", f'{NEAR} ")"', 12),
    ("SELECT a < b < c", f'{NEAR} "<"', 14),
    ("SELECT * FROM t WHERE", END, 22),
    ("SELECT * FROM t WHERE AND a", f'{NEAR} "AND"', 23),
    ("SELECT * FROM t GROUP BY", END, 25),
    ("SELECT * FROM t ORDER a", f'{NEAR} "a"', 23),
    ("SELECT * FROM a JOIN b", END, 23),
    ("SELECT * FROM a LEFT b", f'{NEAR} "b"', 22),
    ("SELECT * FROM t LIMIT 1 LIMIT 2", f'{NEAR} "LIMIT"', 25),
    ("SELECT * FROM t TABLESAMPLE SYSTEM (1)", f'{NEAR} "TABLESAMPLE"', 17),
    ("SELECT TOP 3 a FROM t", f'{NEAR} "3"', 12),
    ("SELECT a FROM t QUALIFY b = 1", f'{NEAR} "b"', 25),
    ("SELECT 1 UNION", END, 15),
    ("SELECT CASE END", f'{NEAR} "END"', 13),
    ("SELECT table FROM t", f'{NEAR} "table"', 8),
    ("SELECT 1 AS", END, 12),
    ("SELECT 123abc", 'trailing junk after numeric literal at or near "123abc"', 8),
    ("SELECT 'abc", 'unterminated quoted string at or near "\'abc"', 8),
    ('SELECT "abc', 'unterminated quoted identifier at or near ""abc"', 8),
    ('SELECT ""', 'zero-length delimited identifier at or near """"', 8),
    ("SELECT /* a", 'unterminated /* comment at or near "/* a"', 8),
    ("SELECT $$a", 'unterminated dollar-quoted string at or near "$$a"', 8),
    ("SELECT ${x}", f'{NEAR} "$"', 8),
    ("SELECT 1; SELEC 2", f'{NEAR} "SELEC"', 11),
    ("CREATE TABLE", END, 13),
    ("CREATE TABLE t", END, 15),
    ("CREATE TABLE t (a)", f'{NEAR} ")"', 18),
    ("CREATE TABLE t (a int", END, 22),
    ("CREATE TABLE t (a int) WITH (x)", f'{NEAR} ")"', 31),
    ("CREATE TABLE t (a int) FORMAT PLAIN", END, 36),
    ("CREATE MATERIALIZED VIEW v SELECT 1", f'{NEAR} "SELECT"', 28),
    ("CREATE MATERIALIZED VIEW v AS SELECT 1 EMIT ON CLOSE", f'{NEAR} "CLOSE"', 48),
    ("CREATE SINK s WITH (a = 'b')", f'{NEAR} "WITH"', 15),
    ("CREATE INDEX i t (a)", f'{NEAR} "t"', 16),
    ("DROP TABLE", END, 11),
    ("DROP THING t", f'{NEAR} "THING"', 6),
    ("ALTER TABLE t FROB", f'{NEAR} "FROB"', 15),
    ("INSERT t VALUES (1)", f'{NEAR} "t"', 8),
    ("INSERT INTO t", END, 14),
    ("UPDATE t SET", END, 13),
    ("UPDATE t SET a", END, 15),
    ("DELETE t", f'{NEAR} "t"', 8),
    ("SET a", END, 6),
    ("SHOW", END, 5),
    ("FETCH FROM c", f'{NEAR} "FROM"', 7),
    ("DECLARE c CURSOR FOR INSERT INTO t VALUES (1)", f'{NEAR} "INSERT"', 22),
    ("DECLARE c SUBSCRIPTION CURSOR FOR s SINCE yesterday", f'{NEAR} "yesterday"', 43),
    ("EXPLAIN", END, 8),
    ("GRANT", END, 6),
    ("SELECT a.b.c.d.e.f", "improper qualified name (too many dotted names): a.b.c.d.e.f", 8),
    ("SELECT * FROM a.b.c.d", "improper qualified name (too many dotted names): a.b.c.d", 15),
    ("UPDATE t SET (a, b) = (1, 2, 3)", "number of columns does not match number of values", 14),
]


@pytest.mark.parametrize(("text", "message", "position"), SYNTAX)
def test_a_syntax_error_names_the_token_and_its_place(text: str, message: str, position: int) -> None:
    with pytest.raises(SqlSyntaxError) as caught:
        parse(text)
    assert (caught.value.what, caught.value.position, caught.value.sqlstate) == (message, position, "42601")


REFUSED = [
    ("CREATE TABLE t (a varchar(10))", "0A000", 19),
    ("CREATE TABLE t (a numeric(10, 2))", "0A000", 19),
    ("CREATE TABLE t (a char)", "0A000", 19),
    ("CREATE TABLE t (a map(numeric, int))", "42804", 19),
    ("CREATE TABLE t (a int UNIQUE)", "0A000", 23),
    ("CREATE TABLE t (a int, FOREIGN KEY (a) REFERENCES u (a))", "0A000", 24),
    ("CREATE TABLE t FROM s TABLE 'd.t'", "0A000", 16),
    ("CREATE TABLE t (a int) ENGINE = iceberg", "0A000", 24),
    ("CREATE OR REPLACE TABLE t (a int)", "0A000", 19),
    ("CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql AS 'x'", "0A000", 19),
    ("CREATE SEQUENCE s", "0A000", 8),
    ("CREATE FUNCTION f() RETURNS int LANGUAGE rust AS 'x' USING BASE64 'y'", "0A000", 54),
    ("DROP TABLE a, b", "0A000", 13),
    ("ALTER TABLE t ALTER COLUMN a TYPE int", "0A000", 30),
    ("ALTER TABLE t ADD PRIMARY KEY (a)", "0A000", 19),
    ("INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING", "0A000", 26),
    ("UPDATE t SET a = 1 FROM u", "0A000", 20),
    ("DELETE FROM t USING u", "0A000", 15),
    ("SELECT 1 FOR UPDATE", "0A000", 10),
    ("SELECT B'101'", "0A000", 8),
    ("TRUNCATE t", "0A000", 1),
    ("MERGE INTO t USING u ON true", "0A000", 1),
    ("VACUUM", "0A000", 1),
    ("PREPARE p AS SELECT 1", "0A000", 1),
    ("SAVEPOINT a", "0A000", 1),
    ("EXPLAIN ANALYZE MATERIALIZED VIEW v", "0A000", 17),
    ("ROLLBACK TO a", "0A000", 10),
    ("FETCH PRIOR FROM c", "0A000", 7),
    ("CREATE TABLE t (a int PRIMARY KEY, b int PRIMARY KEY)", "42P16", 17),
    ("CREATE TABLE t (a int PRIMARY KEY, PRIMARY KEY (a))", "42P16", 17),
    ("CREATE TABLE t (a int, WATERMARK FOR a AS a, WATERMARK FOR a AS a)", "42P17", 46),
    ("CREATE SOURCE s (a int, WATERMARK FOR a AS a WITH TTL) WITH (connector = 'x')", "42P17", 17),
    ("CREATE TABLE t (a nothing)", "42704", 19),
    ("CREATE TABLE t (a int) WITH (x = 1, x = 2)", "22023", 37),
    ("FETCH 1 FROM c WITH (timeout = 'soon')", "22023", 16),
    ("CREATE FUNCTION f() RETURNS int LANGUAGE sql", "42P13", 33),
    (r"SELECT E'\xff'", "22021", 8),
    ("SELECT " + "(" * 3000 + "1" + ")" * 3000, "54001", None),
]


@pytest.mark.parametrize(("text", "sqlstate", "position"), REFUSED, ids=[text[:60] for text, _, _ in REFUSED])
def test_what_cannot_be_done_is_refused_with_code_place_and_remedy(text: str, sqlstate: str, position: int | None) -> None:
    with pytest.raises(SqlError) as caught:
        parse(text)
    assert caught.value.sqlstate == sqlstate
    if position is not None:
        assert caught.value.position == position
    if sqlstate == "0A000":
        assert caught.value.fix, "an unsupported construct names the way out"


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("INT", "integer"),
        ("int8", "bigint"),
        ("Double  Precision", "double precision"),
        ("float(20)", "real"),
        ("float(50)", "double precision"),
        ("dec", "numeric"),
        ("string", "character varying"),
        ("character varying", "character varying"),
        ("timestamp", "timestamp without time zone"),
        ("timestamp without time zone", "timestamp without time zone"),
        ("timestamp with time zone", "timestamp with time zone"),
        ("time", "time without time zone"),
        ("jsonb[][]", "jsonb[][]"),
        ("int array", "integer[]"),
        ("STRUCT<a INT, b STRUCT<c varchar[]>>", "struct<a integer, b struct<c character varying[]>>"),
        ("struct<x struct<y int>>[]", "struct<x struct<y integer>>[]"),
        ("pg_catalog.int4", "integer"),
        ("serial", "serial"),
    ],
)
def test_a_type_name_has_one_meaning(written: str, canonical: str) -> None:
    assert parse_type(written).sql == canonical


@pytest.mark.parametrize("written", ["", "int int", "struct<>", "struct<a>", "struct<a int", "map(int)", "numeric(", "1"])
def test_what_is_no_type_name_is_a_syntax_error(written: str) -> None:
    with pytest.raises(SqlSyntaxError):
        parse_type(written)


def _split(text: str) -> list[str]:
    return text.split()


WORDS = _split(
    """select from where group by order having limit offset fetch first rows only with ties union all except intersect
corresponding as on using join left right full cross natural asof lateral values insert into update set delete returning create table
source materialized view index sink function aggregate subscription schema database drop alter rename to column add swap owner show
describe explain begin commit declare cursor for since next close copy stdin stdout watermark append conflict overwrite ignore include
format encode emit window over partition range session gap between and or not in is null distinct like ilike similar escape case when
then else end cast array row map interval extract trim substring position overlay exists any some true false at time zone within filter
changelog recursive language returns link primary key default a b c t int varchar struct timestamp double precision"""
)
SYMBOLS = list("()[]{},;:.+-*/%^<>=~@#&|?$") + _split("-> ->> :: => <= <> || >> #> @> !~ /* */ -- $$")
LITERALS = ["1", "1.5e3", "'x'", "E'\\n'", '"Q"', "$1", "$x$y$x$", "0xF", "'", '"', "E'\\", "U&'\\00"]
TEXTS = st.lists(st.sampled_from(WORDS + SYMBOLS + LITERALS), max_size=25).map(" ".join)
VALID = [
    "CREATE TABLE t (a int PRIMARY KEY, b struct<x int[]> DEFAULT 1, WATERMARK FOR a AS a - INTERVAL '1' DAY) APPEND ONLY WITH (a.b = 'c')",
    "WITH c AS CHANGELOG FROM t SELECT *, f(DISTINCT x ORDER BY y) FILTER (WHERE z) OVER (PARTITION BY a ROWS 1 PRECEDING) FROM c",
    "SELECT (a).b, ARRAY[1][1:2], CASE WHEN x THEN 1 END FROM a LEFT JOIN b FOR SYSTEM_TIME AS OF PROCTIME() ON a.x = ANY(SELECT 1)",
    "CREATE FUNCTION f(a int) RETURNS TABLE (x int) LANGUAGE python AS $$ x $$",
    "DECLARE c SUBSCRIPTION CURSOR FOR s SINCE begin(); FETCH 1 FROM c WITH (timeout = '1s')",
]


def _parses_or_is_refused(text: str) -> None:
    refusal = None
    try:
        statements = parse(text)
    except SqlError as error:
        refusal, statements = error, []
    if refusal is not None and refusal.position is not None:
        assert 1 <= refusal.position <= len(text) + 1
    assert all(statement.text in text for statement in statements)


@given(TEXTS)
@settings(max_examples=300, deadline=None)
def test_any_text_of_tokens_parses_or_is_refused(text: str) -> None:
    _parses_or_is_refused(text)


@given(st.text(max_size=40))
@settings(max_examples=150, deadline=None)
def test_any_text_at_all_parses_or_is_refused(text: str) -> None:
    _parses_or_is_refused(text)


@given(st.sampled_from(VALID), st.data())
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_damaged_statement_parses_or_is_refused(text: str, data: st.DataObject) -> None:
    tokens = text.split(" ")
    place = data.draw(st.integers(0, len(tokens) - 1))
    kind = data.draw(st.sampled_from(["drop", "twice", "swap", "cut", "replace"]))
    if kind == "drop":
        del tokens[place]
    elif kind == "twice":
        tokens.insert(place, tokens[place])
    elif kind == "swap":
        tokens[place], tokens[-place] = tokens[-place], tokens[place]
    elif kind == "cut":
        tokens = tokens[:place]
    else:
        tokens[place] = data.draw(st.sampled_from(WORDS + SYMBOLS + LITERALS))
    _parses_or_is_refused(" ".join(tokens))


@given(st.text(alphabet=st.characters(blacklist_categories=("Cs",), blacklist_characters="\x00"), max_size=30))
@settings(max_examples=100, deadline=None)
def test_a_quoted_string_or_name_has_exactly_its_characters(text: str) -> None:
    literal = parse_expression("'" + text.replace("'", "''") + "'")
    assert literal.this == text
    if text:
        assert parse_expression('"' + text.replace('"', '""') + '"').name == text


MODULES = sorted(path.stem for path in Path(parser_package.__file__).parent.glob("*.py") if path.stem != "__init__")


@pytest.mark.parametrize("module", [*(f"parser.{name}" for name in MODULES), "dialect", "type_names"])
def test_each_module_can_be_the_first_to_be_imported(module: str) -> None:
    # Expressions and queries need each other, so the order of imports must not matter.
    subprocess.run([sys.executable, "-c", f"import engine.sql.{module}"], check=True, timeout=60)
