"""Statements put together at random over a catalog: whatever comes out, a client gets an error of SQL and never ours."""

from __future__ import annotations

import random
from pathlib import Path

import duckdb
import pytest

from engine.sql.errors import SqlError
from tests.unit.engine.runtime.inprocess import InProcess, running

_TYPES = (
    "INT",
    "BIGINT",
    "SMALLINT",
    "VARCHAR",
    "DOUBLE PRECISION",
    "NUMERIC",
    "BOOLEAN",
    "TIMESTAMP",
    "DATE",
    "JSONB",
    "INT[]",
    "BYTEA",
)
_LITERALS = (
    "1",
    "-3.5",
    "'x'",
    "NULL",
    "true",
    "INTERVAL '1 day'",
    "'2024-01-01'::timestamp",
    "ARRAY[1, 2]",
    "2147483648",
    "''",
)
_FUNCTIONS = (
    "abs",
    "length",
    "upper",
    "coalesce",
    "round",
    "sum",
    "count",
    "max",
    "to_char",
    "array_length",
    "now",
    "nothing",
    "regclass",
)
_SIGNS = ("+", "-", "*", "/", "||", "=", "<", "AND", "LIKE", "IS DISTINCT FROM", "->", "%")
# What DuckDB would say of SQL that we should not have sent: a mistake of ours, whatever the client is told.
_OURS = (duckdb.ParserException, duckdb.CatalogException, duckdb.BinderException, duckdb.InternalException)


class _Generator:
    """Statements over the names that earlier ones may have created."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def _pick(self, choices: tuple[str, ...]) -> str:
        return self._random.choice(choices)

    def _table(self) -> str:
        return self._pick(("t1", "t2", "t3", "m1", "m2", "v1", "pg_class", "nowhere", "public.t1", "s1.t1"))

    def _column(self) -> str:
        return self._pick(("a", "b", "c", "d", "x", "t1.a"))

    def _expression(self, depth: int = 0) -> str:
        kind = self._random.randrange(8 if depth < 3 else 3)
        if kind < 2:
            return self._column()
        if kind == 2:
            return self._pick(_LITERALS)
        if kind < 5:
            return f"({self._expression(depth + 1)} {self._pick(_SIGNS)} {self._expression(depth + 1)})"
        if kind == 5:
            return f"{self._pick(_FUNCTIONS)}({self._expression(depth + 1)})"
        if kind == 6:
            return f"CAST({self._expression(depth + 1)} AS {self._pick(_TYPES)})"
        return (
            f"CASE WHEN {self._expression(depth + 1)} THEN {self._expression(depth + 1)} ELSE {self._expression(depth + 1)} END"
        )

    def _query(self) -> str:
        items = ", ".join(f"{self._expression()} AS {name}" for name in "abc"[: self._random.randint(1, 3)])
        query = f"SELECT {items} FROM {self._table()}"
        if self._random.random() < 0.3:
            query += f" JOIN {self._table()} AS j ON {self._expression(2)}"
        if self._random.random() < 0.4:
            query += f" WHERE {self._expression(1)}"
        if self._random.random() < 0.3:
            query += f" GROUP BY {self._column()}"
        if self._random.random() < 0.2:
            query += f" ORDER BY {self._expression(2)} LIMIT {self._random.randint(-1, 3)}"
        return query

    def statement(self) -> str:
        name = self._pick(("t1", "t2", "t3"))
        columns = ", ".join(f"{c} {self._pick(_TYPES)}" for c in "abcd"[: self._random.randint(1, 4)])
        kind = self._pick(("TABLE", "MATERIALIZED VIEW", "VIEW", "SINK", "SCHEMA", "SUBSCRIPTION", "INDEX"))
        makers = (
            lambda: f"CREATE TABLE {name} ({columns}{self._pick((', PRIMARY KEY (a)', '', ', PRIMARY KEY (z)'))})",
            lambda: f"CREATE TABLE {name} (a INT, b INT DEFAULT {self._expression(2)}, c INT AS ({self._expression(2)}))",
            lambda: f"CREATE MATERIALIZED VIEW {self._pick(('m1', 'm2'))} AS {self._query()}",
            lambda: f"CREATE VIEW v1 AS {self._query()}",
            lambda: f"CREATE SINK k1 INTO {name} AS {self._query()}",
            lambda: f"CREATE SUBSCRIPTION s FROM {self._table()} WITH (retention = '{self._pick(('1 day', 'x', '-1 s'))}')",
            lambda: f"CREATE INDEX i1 ON {self._table()} ({self._expression(2)})",
            lambda: f"CREATE FUNCTION f{self._random.randint(1, 2)}(x INT) RETURNS {self._pick(_TYPES)} LANGUAGE sql AS 'SELECT {self._expression(2).replace(chr(39), chr(39) * 2)}'",
            lambda: f"CREATE SCHEMA {self._pick(('s1', 'public', 'pg_catalog'))}",
            lambda: f"INSERT INTO {self._table()} VALUES ({self._expression(2)}, {self._expression(2)})",
            lambda: f"INSERT INTO {self._table()} {self._query()}",
            lambda: f"INSERT INTO {name} (a, {self._column()}) VALUES ({self._expression(2)}, 1) RETURNING {self._expression(2)}",
            lambda: f"UPDATE {self._table()} SET {self._pick(tuple('abcd'))} = {self._expression()} WHERE {self._expression(1)}",
            lambda: f"DELETE FROM {self._table()} WHERE {self._expression(1)} RETURNING *",
            lambda: f"ALTER TABLE {name} ADD COLUMN {self._pick(tuple('cdx'))} {self._pick(_TYPES)} DEFAULT {self._expression(2)}",
            lambda: f"ALTER TABLE {name} DROP COLUMN {self._pick(tuple('abcd'))}",
            lambda: f"ALTER TABLE {name} RENAME COLUMN {self._pick(tuple('abcd'))} TO {self._pick(tuple('abcdx'))}",
            lambda: f"ALTER {kind} {self._table()} RENAME TO {name}",
            lambda: f"ALTER {kind} {self._table()} SWAP WITH {self._table()}" if kind not in ("SCHEMA", "INDEX") else "SELECT 1",
            lambda: f"ALTER TABLE {name} SET SCHEMA {self._pick(('s1', 'public', 'x'))}",
            lambda: f"DROP {kind} {self._pick(('', 'IF EXISTS '))}{self._table()} {self._pick(('', 'CASCADE'))}",
            lambda: f"SHOW {self._pick(('TABLES', 'ALL', 'JOBS', 'CURSORS', 'nothing', 'search_path', 'COLUMNS FROM t1'))}",
            lambda: f"SET {self._pick(('search_path', 'timezone', 'query_mode', 'nothing'))} TO {self._pick(('s1', 'public', 'UTC', '1'))}",
            lambda: f"DESCRIBE {self._table()}",
            lambda: f"EXPLAIN CREATE MATERIALIZED VIEW x AS {self._query()}",
            lambda: f"DECLARE c{self._random.randint(1, 3)} CURSOR FOR {self._query()}",
            lambda: "FETCH 2 FROM c1",
            lambda: f"SELECT count(*) FROM {self._pick(('pg_class', 'pg_attribute', 'information_schema.columns', 'rw_catalog.headrace_objects', 'rw_catalog.headrace_state_tables', 'rw_catalog.headrace_barriers', 'pg_index'))}",
            self._query,
            self._query,
        )  # fmt: skip
        return self._random.choice(makers)()


def _check(session: InProcess, sql: str) -> bool:
    """Run it; whether it was accepted."""
    refusal = _refusal(session, sql)
    if refusal is None:
        return True
    assert refusal.sqlstate != "XX000", f"{sql}: {refusal}"
    assert not isinstance(refusal.__cause__, _OURS), f"{sql}: DuckDB was sent something wrong: {refusal.__cause__}"
    return False


def _refusal(session: InProcess, sql: str) -> SqlError | None:
    try:
        session.run(sql)
    except SqlError as error:
        return error
    return None


@pytest.mark.parametrize("seed", range(4))
def test_no_statement_ends_in_an_error_of_ours(tmp_path: Path, seed: int) -> None:
    generator = _Generator(seed)
    with running(tmp_path) as session:
        accepted = sum(_check(session, generator.statement()) for _ in range(150))
        session.run("FLUSH")
        assert session.engine.problem is None
    assert accepted > 15, "nearly everything was refused: the test tests nothing"
