"""Statements put together at random over a catalog: names, types and functions of the registry, most of them wrong."""

from __future__ import annotations

import random
from collections.abc import Sequence

from engine.functions import aggregates, tables
from engine.functions.scalar import build_scalar_functions

TYPES = (
    "INT", "BIGINT", "SMALLINT", "VARCHAR", "REAL", "DOUBLE PRECISION", "NUMERIC", "BOOLEAN", "TIMESTAMP", "TIMESTAMPTZ", "DATE", "TIME",
    "INTERVAL", "JSONB", "BYTEA", "INT[]", "VARCHAR[]", "NUMERIC[]", "INT[][]", "STRUCT<x INT, y VARCHAR>", "STRUCT<x INT, y NUMERIC>[]",
)  # fmt: skip
_LITERALS = (
    "1", "0", "-1", "-3.5", "1e300", "'x'", "''", "NULL", "true", "INTERVAL '1 day'", "INTERVAL '-13 months 400 days'", "'2024-01-01'::timestamp",
    "'2024-02-29 10:00+02'::timestamptz", "'1 BC'::varchar", "'9999-12-31'::date", "'24:00:00'::varchar", "'10:00'::time", "ARRAY[1, 2]",
    "ARRAY['a', NULL]", "ARRAY[1.5, 2]", "2147483648", "9223372036854775807", "170141183460469231731687303715884105727", "'NaN'::numeric",
    "'Infinity'::float8", "'{\"a\": [1, null]}'::jsonb", "'[1, 2]'::jsonb", "'\\x00ff'::bytea", "ROW(1, 'a')", "'%'", "'[('", "'$.a'", "'{a}'",
    "'YYYY-MM-DD'", "'UTC'", "'Europe/Nowhere'", "'base64'", "1::smallint", "1.5::real",
)  # fmt: skip
_SIGNS = (
    "+", "-", "*", "/", "%", "||", "=", "<", ">=", "<>", "AND", "OR", "LIKE", "ILIKE", "NOT LIKE", "IS DISTINCT FROM", "IS NOT DISTINCT FROM", "->",
    "->>", "#>", "#>>", "@>", "<@", "?", "?|", "&", "|", "#", "<<", ">>", "~", "~*", "!~", "^", "- '1'::interval +", "@?", "#-",
)  # fmt: skip
_SCALARS = tuple(name for name in build_scalar_functions().signatures() if name.replace("_", "").isalnum())
_SETS = tuple(name for name in tables.signatures() if name.isidentifier())
_AGGREGATES = tuple(name for name in aggregates.signatures() if name.isidentifier())
_OF_TYPE = {
    "integer": ("i", "a", "1", "0", "-7", "2147483647"), "bigint": ("j", "4294967296", "-9223372036854775808"), "smallint": ("2::smallint", "(-3)::smallint"),
    "numeric": ("m", "1.50", "-0.001", "'NaN'::numeric", "1e20::numeric"), "double precision": ("n", "2.5::float8", "'-Infinity'::float8", "1e308::float8"),
    "real": ("1.5::real",), "boolean": ("true", "i > 1", "NULL::boolean"), "timestamp without time zone": ("ts", "'2024-02-29 12:34:56.789'::timestamp"),
    "timestamp with time zone": ("'2024-02-29 10:00+02'::timestamptz",), "date": ("d", "'0001-01-01'::date"), "time without time zone": ("'10:00:01'::time",),
    "interval": ("INTERVAL '1 month 3 days'", "INTERVAL '-1 hour'"), "jsonb": ("o", "'{\"a\": [1, null]}'::jsonb", "'[]'::jsonb", "'\"t\"'::jsonb"),
    "bytea": ("'\\x00ff'::bytea", "''::bytea"), "integer[]": ("c", "ARRAY[3, NULL, 1]", "ARRAY[]::int[]"), "character varying[]": ("ARRAY['a', NULL, '']",),
    "character varying": ("k", "b", "'abc'", "''", "'%'", "'YYYY-MM'", "'$.a'", "'day'", "'[('", "'base64'", "'12'", "'UTC'"),
}  # fmt: skip
"""Columns of table t9 and constants, by type."""
_ANY = {
    "anyelement": "integer",
    "anyarray": "integer[]",
    "anytext": "character varying",
    "any": "numeric",
    "anycompatible": "bigint",
}


def _calls() -> dict[str, list[tuple[str, tuple[str, ...]]]]:
    """Functions by what they return: name and types of the arguments."""
    found: dict[str, list[tuple[str, tuple[str, ...]]]] = {}
    for name, signatures in build_scalar_functions().signatures().items():
        for signature in signatures:
            call, _, returns = signature.rpartition(" -> ")
            arguments = tuple(_ANY.get(a, a) for a in call[len(name) + 1 : -1].replace(" ...", "").split(", ") if a)
            if name not in ("repeat", "lpad", "rpad", "pg_sleep"):  # they make texts as long as they are told
                found.setdefault(_ANY.get(returns, returns), []).append((name, arguments))
    return found


_CALLS = _calls()
_RETURNED = tuple(type_ for type_ in _CALLS if type_ in _OF_TYPE)
_UNKNOWN = ("nothing", "regclass", "pg_sleep", "struct_pack", "read_csv", "hr_numeric_add", "list_transform", "current_setting")
_WINDOWS = (
    "row_number()",
    "rank()",
    "lag({0})",
    "lead({0}, 2)",
    "first_value({0})",
    "sum({0})",
    "nth_value({0}, 2)",
    "array_agg({0})",
)


class Statements:
    """Statements over the names that earlier ones may have created.

    Args:
        seed: the same seed gives the same statements.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def _pick(self, choices: Sequence[str]) -> str:
        return self._random.choice(choices)

    def _table(self) -> str:
        return self._pick(("t1", "t2", "t3", "t9", "t9", "m1", "m2", "v1", "pg_class", "nowhere", "public.t1", "s1.t1"))

    def _column(self) -> str:
        return self._pick(("a", "b", "c", "d", "x", "t1.a", "t9.i", "t9.j", "t9.k", "t9.m", "n", "ts", "o"))

    def typed(self, type_: str, depth: int = 0) -> str:
        """An expression that should be of a type."""
        if type_ not in _OF_TYPE:
            return f"NULL::{type_}"
        if depth > 2 or self._random.random() < 0.35 or type_ not in _CALLS:
            return self._pick(_OF_TYPE[type_])
        name, arguments = self._random.choice(_CALLS[type_])
        passed = [self.typed(a, depth + 1) for a in arguments]
        if name.replace("_", "").isalnum():
            return f"{name}({', '.join(passed)})"
        if len(passed) == 2 and not name.replace(" ", "").isalpha():
            return f"({passed[0]} {name} {passed[1]})"
        return self._pick(_OF_TYPE[type_])

    def expression(self, depth: int = 0) -> str:
        """A scalar expression; most of them fit together."""
        if self._random.random() < 0.85:
            return self.typed(self._pick(_RETURNED), depth)
        return self._mixed(depth)

    def _mixed(self, depth: int) -> str:
        kind = self._random.randrange(12 if depth < 3 else 3)
        if kind < 2:
            return self._column() if self._random.random() < 0.4 else self._pick(_LITERALS)
        if kind == 2:
            return self._pick(_LITERALS)
        if kind < 5:
            return f"({self.expression(depth + 1)} {self._pick(_SIGNS)} {self.expression(depth + 1)})"
        if kind < 8:
            names = _SCALARS if self._random.random() < 0.93 else (*_UNKNOWN, *_AGGREGATES, *_SETS)
            arguments = ", ".join(
                self.expression(depth + 2) for _ in range(self._random.choice((0, 1, 1, 1, 2, 2, 2, 3, 3, 4)))
            )
            return f"{self._pick(names)}({arguments})"
        if kind == 8:
            return f"CAST({self.expression(depth + 1)} AS {self._pick(TYPES)})"
        if kind == 9:
            parts = [self.expression(depth + 1) for _ in range(3)]
            return f"CASE WHEN {parts[0]} THEN {parts[1]} ELSE {parts[2]} END"
        return self._special(depth)

    def _special(self, depth: int) -> str:
        one, two = self.expression(depth + 2), self.expression(depth + 2)
        return self._pick(
            (
                f"{one} IS NULL", f"{one} BETWEEN {two} AND {one}", f"{one} IN ({two}, {self._pick(_LITERALS)})", f"(- {one})", f"NOT {one}",
                f"({one})[{two}]", f"({one})[1:{two}]", f"({one}).x", f"ARRAY[{one}, {two}]", f"ROW({one}, {two})", f"({one} AT TIME ZONE {two})",
                f"EXTRACT({self._pick(('YEAR', 'epoch', 'dow', 'nonsense'))} FROM {one})", f"{one} IS TRUE", f"{one} = ANY({two})",
                f"(SELECT {one})", f"EXISTS (SELECT 1 FROM {self._table()} WHERE {two})", f"{one} IN (SELECT {two} FROM t9)",
                f"substring({one} FROM {two})", f"position({one} IN {two})", f"trim(BOTH {one} FROM {two})", f"overlay({one} PLACING {two} FROM 1)",
                f"array_transform({one}, |e| e + {two})", f"({one})::{self._pick(TYPES)}", f"coalesce({one}, {two})", f"nullif({one}, {two})",
                f"date_trunc('{self._pick(('day', 'week', 'x'))}', {one})", f"to_char({one}, {two})", f"{one} NOT ILIKE {two}",
            )
        )  # fmt: skip

    def _condition(self) -> str:
        return self.typed("boolean") if self._random.random() < 0.8 else self.expression(1)

    def _aggregate(self) -> str:
        filtered = f" FILTER (WHERE {self.expression(2)})" if self._random.random() < 0.2 else ""
        order = f" ORDER BY {self.expression(2)}" if self._random.random() < 0.2 else ""
        distinct = "DISTINCT " if self._random.random() < 0.2 else ""
        arguments = ", ".join(self.expression(2) for _ in range(self._random.choice((1, 1, 1, 2))))
        within = f" WITHIN GROUP (ORDER BY {self.expression(2)})" if self._random.random() < 0.1 else ""
        return f"{self._pick(_AGGREGATES)}({distinct}{arguments}{order}){within}{filtered}"

    def _windowed(self) -> str:
        call = self._pick(_WINDOWS).format(self.expression(2))
        frame = self._pick(
            ("", "", " ROWS BETWEEN 1 PRECEDING AND CURRENT ROW", " RANGE BETWEEN '1 day' PRECEDING AND CURRENT ROW")
        )
        return f"{call} OVER (PARTITION BY {self.expression(2)} ORDER BY {self.expression(2)}{frame})"

    def _from(self) -> str:
        source = self._pick(
            (
                self._table(), "t9", "t9", "t9", "t9", "t9", f"(SELECT * FROM {self._table()}) AS q",
                f"{self._pick(_SETS)}({self.expression(2)}, {self.expression(2)}) AS a", f"unnest({self.expression(2)}) AS a",
                f"TUMBLE(t9, {self._pick(('ts', 'i', 'nothing'))}, INTERVAL '1 minute')", f"HOP(t9, ts, INTERVAL '1 minute', {self._pick(_LITERALS)})",
                f"(VALUES ({self.expression(2)}, {self.expression(2)}), (1, NULL)) AS q(a, b)",
            )
        )  # fmt: skip
        if self._random.random() < 0.25:
            side = self._pick(("", "LEFT ", "FULL ", "CROSS "))
            condition = "" if side == "CROSS " else f" ON {self._condition()}"
            source += f" {side}JOIN {self._table()} AS j{condition}"
        return source

    def query(self) -> str:
        """A SELECT, of which the half is wrong somewhere."""
        grouped = self._random.random() < 0.3
        makers = (self._aggregate, self.expression) if grouped else (self.expression, self.expression, self._windowed)
        items = ", ".join(f"{self._random.choice(makers)()} AS {name}" for name in "abc"[: self._random.randint(1, 3)])
        distinct = self._pick(("", "", "", "DISTINCT ", f"DISTINCT ON ({self._column()}) "))
        query = f"SELECT {distinct}{items}"
        if self._random.random() < 0.85:
            query += f" FROM {self._from()}"
        if self._random.random() < 0.3:
            query += f" WHERE {self._condition()}"
        if grouped and self._random.random() < 0.7:
            query += f" GROUP BY {self._pick((self._column(), self.expression(2), '1', f'ROLLUP ({self._column()}, {self._column()})'))}"
            if self._random.random() < 0.3:
                query += f" HAVING {self._condition()}"
        if self._random.random() < 0.15:
            query += f" {self._pick(('UNION', 'UNION ALL', 'EXCEPT', 'INTERSECT'))} SELECT {self.expression(2)}"
        if self._random.random() < 0.2:
            query += f" ORDER BY {self._pick((self.expression(2), '1', '7'))} LIMIT {self._random.randint(-1, 3)} OFFSET {self._random.randint(-1, 2)}"
        return query

    def statement(self) -> str:
        """Any statement."""
        name = self._pick(("t1", "t2", "t3"))
        columns = ", ".join(f"{c} {self._pick(TYPES)}" for c in "abcd"[: self._random.randint(1, 4)])
        kind = self._pick(("TABLE", "MATERIALIZED VIEW", "VIEW", "SINK", "SCHEMA", "SUBSCRIPTION", "INDEX"))
        relations = ("pg_class", "pg_attribute", "information_schema.columns", "rw_catalog.headrace_objects", "rw_catalog.headrace_state_tables", "rw_catalog.headrace_barriers", "pg_index", "rw_catalog.rw_columns")  # fmt: skip
        makers = (
            lambda: f"CREATE TABLE {name} ({columns}{self._pick((', PRIMARY KEY (a)', '', ', PRIMARY KEY (z)'))})",
            lambda: f"CREATE TABLE {name} (a INT, b INT DEFAULT {self.expression(2)}, c INT AS ({self.expression(2)}))",
            lambda: f"CREATE TABLE {name} AS {self.query()}",
            lambda: f"CREATE MATERIALIZED VIEW {self._pick(('m1', 'm2'))} AS {self.query()}",
            lambda: f"CREATE MATERIALIZED VIEW {self._pick(('m1', 'm2'))} AS {self.query()}",
            lambda: f"CREATE VIEW v1 AS {self.query()}",
            lambda: f"CREATE SINK k1 INTO {name} AS {self.query()}",
            lambda: f"CREATE SINK k1 AS {self.query()} WITH (connector = 'blackhole', type = '{self._pick(('append-only', 'upsert', 'x'))}')",
            lambda: f"CREATE SUBSCRIPTION s FROM {self._table()} WITH (retention = '{self._pick(('1 day', 'x', '-1 s'))}')",
            lambda: f"CREATE INDEX i1 ON {self._table()} ({self.expression(2)})",
            lambda: f"CREATE FUNCTION f{self._random.randint(1, 2)}(x INT) RETURNS {self._pick(TYPES)} LANGUAGE sql AS 'SELECT {self.expression(2).replace(chr(39), chr(39) * 2)}'",
            lambda: f"CREATE SCHEMA {self._pick(('s1', 'public', 'pg_catalog'))}",
            lambda: f"INSERT INTO {self._table()} VALUES ({self.expression(2)}, {self.expression(2)})",
            lambda: f"INSERT INTO {self._table()} {self.query()}",
            lambda: f"INSERT INTO {name} (a, {self._pick(tuple('abcdx'))}) VALUES ({self.expression(2)}, 1) RETURNING {self.expression(2)}",
            lambda: f"UPDATE {self._table()} SET {self._pick(tuple('abcd'))} = {self.expression()} WHERE {self._condition()}",
            lambda: f"DELETE FROM {self._table()} WHERE {self._condition()} RETURNING *",
            lambda: f"ALTER TABLE {name} ADD COLUMN {self._pick(tuple('cdx'))} {self._pick(TYPES)} DEFAULT {self.expression(2)}",
            lambda: f"ALTER TABLE {name} DROP COLUMN {self._pick(tuple('abcd'))}",
            lambda: f"ALTER TABLE {name} RENAME COLUMN {self._pick(tuple('abcd'))} TO {self._pick(tuple('abcdx'))}",
            lambda: f"ALTER {kind} {self._table()} RENAME TO {name}",
            lambda: f"ALTER {kind} {self._table()} SWAP WITH {self._table()}" if kind not in ("SCHEMA", "INDEX") else "SELECT 1",
            lambda: f"ALTER TABLE {name} SET SCHEMA {self._pick(('s1', 'public', 'x'))}",
            lambda: f"DROP {kind} {self._pick(('', 'IF EXISTS '))}{self._pick(('t1', 't2', 't3', 'm1', 'm2', 'v1', 's1'))} {self._pick(('', 'CASCADE'))}",
            lambda: f"SHOW {self._pick(('TABLES', 'ALL', 'JOBS', 'CURSORS', 'nothing', 'search_path', 'COLUMNS FROM t1'))}",
            lambda: f"SET {self._pick(('search_path', 'timezone', 'query_mode', 'nothing', 'statement_timeout'))} TO {self._pick(('s1', 'public', 'UTC', '10000'))}",
            lambda: f"DESCRIBE {self._table()}",
            lambda: f"EXPLAIN CREATE MATERIALIZED VIEW x AS {self.query()}",
            lambda: f"DECLARE cur{self._random.randint(1, 3)} CURSOR FOR {self.query()}",
            lambda: "FETCH 2 FROM cur1",
            lambda: f"SELECT * FROM {self._pick(relations)} WHERE {self.expression(2)} LIMIT 3",
            *[self.query] * 12,
        )  # fmt: skip
        return self._random.choice(makers)()
