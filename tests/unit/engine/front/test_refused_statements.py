"""Statements that are refused: each says why (SQLSTATE), where (position) and what to do instead."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from engine.sql.errors import SqlError
from tests.unit.engine.runtime.inprocess import InProcess, running

OBJECTS = """
CREATE TABLE t (a INT PRIMARY KEY, b VARCHAR);
CREATE MATERIALIZED VIEW m AS SELECT count(*) AS n FROM t;
CREATE VIEW v AS SELECT a FROM t;
"""
# Statement, SQLSTATE, 1-based position; None where the error is about values, a setting or a cursor and no place is known.
REFUSED = (
    ('SELECT nothing FROM t', '42703', 8),
    ('SELECT t.nothing FROM t', '42703', 8),
    ('SELECT x.a FROM t', '42P01', 8),
    ('SELECT a FROM t, t AS u', '42702', 8),
    ('SELECT * FROM nowhere', '42P01', 15),
    ('SELECT a, count(*) FROM t', '42803', 1),
    ('SELECT a FROM t WHERE count(*) > 1', '42803', 23),
    ('SELECT no_such_function(a) FROM t', '42883', 8),
    ("SELECT a + 'x'::varchar FROM t", '42883', 10),
    ('SELECT a::bytea FROM t', '42846', 9),
    ('SELECT a FROM t WHERE a', '42804', 23),
    ('SELECT a FROM t ORDER BY 7', '42P10', 26),
    ('SELECT a FROM t GROUP BY 9', '42P10', 26),
    ('SELECT a FROM t UNION SELECT b, a FROM t', '42601', 23),
    ("SELECT CASE WHEN true THEN 1 ELSE 'x'::varchar END", '42804', 8),
    ("SELECT * FROM TUMBLE(t, a, INTERVAL '1 minute')", '42804', 25),
    ('SELECT row_number() FROM t', '42809', 8),
    ('SELECT sum(a) FILTER (WHERE a) FROM t', '42804', 29),
    ('SELECT FROM WHERE', '42601', 8),
    ('SELEC 1', '42601', 1),
    ('SELECT 1 1', '42601', 10),
    ('INSERT INTO t (nothing) VALUES (1)', '42703', 13),
    ('INSERT INTO t (a, a) VALUES (1, 2)', '42701', 13),
    ('INSERT INTO t VALUES (1, 2, 3, 4, 5)', '42601', 22),
    ('INSERT INTO t (a) VALUES (true)', '42804', 27),
    ('INSERT INTO m VALUES (1)', '42809', 13),
    ('UPDATE t SET nothing = 1', '42703', 24),
    ('UPDATE t SET a = 1', '0A000', 18),
    ('DELETE FROM v', '42809', 13),
    ('CREATE TABLE t (a INT)', '42P07', 14),
    ('CREATE TABLE x (a INT, a INT)', '42701', 24),
    ('CREATE TABLE x ()', '42601', 18),
    ('CREATE TABLE x (a nosuchtype)', '42704', 19),
    ('CREATE TABLE x (a INT, PRIMARY KEY (b))', '42703', 14),
    ('CREATE TABLE x (a INT PRIMARY KEY, b INT PRIMARY KEY)', '42P16', 17),
    ('CREATE TABLE x (a INT REFERENCES t (a))', '0A000', 23),
    ('CREATE TABLE x (a INT, WATERMARK FOR a AS a) APPEND ONLY', '42804', 14),
    ('CREATE SOURCE x (a INT)', '22023', 15),
    ("CREATE SOURCE x (a INT) WITH (connector = 'nosuch') FORMAT PLAIN ENCODE JSON", '22023', 15),
    ('CREATE MATERIALIZED VIEW x AS SELECT a FROM t EMIT ON WINDOW CLOSE', '0A000', 26),
    ('CREATE MATERIALIZED VIEW x AS SELECT a AS y, a AS y FROM t', '42701', 26),
    ('CREATE MATERIALIZED VIEW x (p, q) AS SELECT a FROM t', '42601', 26),
    ('CREATE MATERIALIZED VIEW x AS SELECT * FROM pg_class', '0A000', 26),
    ('CREATE SINK x FROM t', '22023', 13),
    ("CREATE SINK x FROM m WITH (connector = 'nosuch', type = 'append-only')", '0A000', 13),
    ("CREATE SINK x FROM m WITH (connector = 'blackhole', snapshot = 'no')", '22023', 13),
    ("CREATE SINK x AS SELECT a FROM t WITH (connector = 'blackhole', snapshot = 'false')", '22023', 13),
    ('CREATE SINK x INTO v AS SELECT a FROM t', '42809', 20),
    ('CREATE SUBSCRIPTION x FROM t', '22023', 21),
    ("CREATE SUBSCRIPTION x FROM v WITH (retention = '1 day')", '42809', 28),
    ('CREATE INDEX x ON v (a)', '42809', 19),
    ("CREATE AGGREGATE agg(INT) RETURNS INT LANGUAGE python AS 'x'", '42P13', 18),
    ("CREATE AGGREGATE agg(INT) RETURNS INT LANGUAGE javascript AS 'x'", '0A000', 18),
    ("CREATE FUNCTION f(INT) RETURNS INT LANGUAGE rust AS 'x'", '0A000', 17),
    ("CREATE FUNCTION f(INT) RETURNS INT LANGUAGE python AS 'def g(x): return x'", '42P13', 17),
    ("CREATE FUNCTION f(INT) RETURNS INT LANGUAGE sql AS 'SELECT nothing'", '42703', 17),
    ('CREATE SEQUENCE s', '0A000', 8),
    ('CREATE TEMPORARY TABLE x (a INT)', '0A000', 8),
    ('DROP TABLE nothing', '42P01', 12),
    ('DROP TABLE m', '42809', 12),
    ('DROP TABLE t', '2BP01', 12),
    ('DROP SCHEMA public', '2BP01', 13),
    ('DROP SCHEMA nothing', '3F000', 13),
    ('DROP DATABASE dev', '55006', 15),
    ('DROP FUNCTION nothing', '42883', 15),
    ('ALTER TABLE t DROP COLUMN a', '0A000', 13),
    ('ALTER TABLE t ADD COLUMN a INT', '42701', 13),
    ('ALTER TABLE t SWAP WITH m', '42809', 25),
    ('ALTER TABLE t ALTER COLUMN a TYPE BIGINT', '0A000', 30),
    ('TRUNCATE t', '0A000', 1),
    ('MERGE INTO t USING m ON true WHEN MATCHED THEN DELETE', '0A000', 1),
    ('SET nothing TO 1', '42704', None),
    ("SET timezone TO 'Europe/Nowhere'", '22023', None),
    ('SHOW nothing', '42704', None),
    ('FETCH NEXT FROM nothing', '34000', None),
    ('CLOSE nothing', '34000', None),
    ('DECLARE c SUBSCRIPTION CURSOR FOR nothing', '42704', 35),
    ('DESCRIBE nothing', '42P01', 10),
    ('SELECT 1/0', '22012', None),
    ("SELECT 'x'::int", '22P02', None),
    ('COPY nothing FROM STDIN', '42P01', 6),
    ('EXPLAIN DROP TABLE t', '0A000', None),
    ('SELECT $1::int + $3', '42P02', 8),
    ('SAVEPOINT x', '0A000', 1),
)  # fmt: skip


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with running(tmp_path_factory.mktemp("refused")) as found:
        found.run(OBJECTS)
        yield found


@pytest.mark.parametrize(("sql", "sqlstate", "position"), REFUSED, ids=[sql for sql, _, _ in REFUSED])
def test_a_refused_statement_says_why_where_and_what_to_do(
    session: InProcess, sql: str, sqlstate: str, position: int | None
) -> None:
    with pytest.raises(SqlError) as refused:
        session.run(sql)
    assert (refused.value.sqlstate, refused.value.position) == (sqlstate, position)
    assert refused.value.fix
    assert "\n" not in refused.value.what


def test_a_refused_statement_changes_nothing(session: InProcess) -> None:
    before = set(session.engine.catalog.objects)
    for sql, _, _ in REFUSED:
        with pytest.raises(SqlError):
            session.run(sql)
    assert set(session.engine.catalog.objects) == before
