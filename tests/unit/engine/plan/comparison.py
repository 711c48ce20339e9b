"""Queries over random streams: after every epoch the view and the ad-hoc query equal plain DuckDB.

Tables: `a(k int primary key, x int, y int, s varchar)` and `b(k int primary key, x int, z int, s varchar)`, both with NULLs and
few distinct values, so that rows meet, repeat and vanish.
"""

from __future__ import annotations

import datetime as dt
import random
from collections import Counter
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import duckdb

from tests.property.engine.harness import EngineBox

TABLES = {
    "a": "CREATE TABLE a (k INT PRIMARY KEY, x INT, y INT, s VARCHAR)",
    "b": "CREATE TABLE b (k INT PRIMARY KEY, x INT, z INT, s VARCHAR)",
}


class Pair:
    """The engine and plain DuckDB with the same tables.

    Args:
        box: an engine that may be used by others; all that is made here is dropped in `close`.
        queries: name to (text for the engine, text for DuckDB).
        seed: of the stream.
    """

    def __init__(self, box: EngineBox, queries: Mapping[str, tuple[str, str]], seed: int) -> None:
        self._box = box
        self._queries = queries
        self._random = random.Random(seed)
        self._rows: dict[str, dict[int, tuple[Any, ...]]] = {name: {} for name in TABLES}
        self._oracle = duckdb.connect(config={"threads": 1, "default_null_order": "postgres"})
        for ddl in TABLES.values():
            box.run(ddl)
            self._oracle.execute(ddl)

    def create_views(self) -> None:
        for name, (query, _) in self._queries.items():
            self._box.run(f"CREATE MATERIALIZED VIEW v_{name} AS {query}")

    def close(self) -> None:
        for name in self._queries:
            self._box.run(f"DROP MATERIALIZED VIEW IF EXISTS v_{name}")
        for name in TABLES:
            self._box.run(f"DROP TABLE {name}")
        self._oracle.close()

    def epoch(self) -> None:
        """Some puts and deletes on both tables, then a barrier."""
        for name, rows in self._rows.items():
            for key in self._random.sample(range(9), self._random.randint(0, 4)):
                if key in rows and self._random.random() < 0.5:
                    del rows[key]
                    self._both(f"DELETE FROM {name} WHERE k = {key}")
                    continue
                row = (key, self._small(), self._small(), self._random.choice(["p", "q", "r", None]))
                rows[key] = row
                values = ", ".join("NULL" if v is None else repr(v) for v in row)
                self._box.run(f"INSERT INTO {name} VALUES ({values})")
                self._oracle.execute(f"INSERT OR REPLACE INTO {name} VALUES ({values})")
        self._box.run("FLUSH")

    def _small(self) -> int | None:
        return self._random.choice([0, 1, 2, 3, 3, None])

    def _both(self, sql: str) -> None:
        self._box.run(sql)
        self._oracle.execute(sql)

    def check(self, *, views: bool = True) -> None:
        for name, (query, oracle) in self._queries.items():
            expected = comparable(self._oracle.execute(oracle).fetchall())
            found = comparable(self._box.rows(query))
            assert found == expected, f"query {name}: {_shown(found, expected)}\n{query}"
            if views:
                found = comparable(self._box.rows(f"SELECT * FROM v_{name}"))
                assert found == expected, f"view {name}: {_shown(found, expected)}\n{query}"


def comparable(rows: list[tuple[Any, ...]]) -> Counter[tuple[Any, ...]]:
    return Counter(tuple(_value(v) for v in row) for row in rows)


def _value(value: Any) -> Any:
    if isinstance(value, (float, Decimal)):
        return round(float(value), 9)
    if isinstance(value, dt.datetime):
        return value.replace(tzinfo=None)
    if isinstance(value, list):
        return tuple(_value(v) for v in value)
    if isinstance(value, dict):
        return tuple(sorted((k, _value(v)) for k, v in value.items()))
    return value


def _shown(found: Counter[tuple[Any, ...]], expected: Counter[tuple[Any, ...]]) -> str:
    return f"too many {dict(found - expected)}, missing {dict(expected - found)}"


def follow(box: EngineBox, queries: Mapping[str, tuple[str, str]], *, seed: int, epochs: int = 4, views: bool = True) -> None:
    """Run random epochs and compare after each; half of the rows are there before the views are."""
    pair = Pair(box, queries, seed)
    try:
        pair.epoch()
        if views:
            pair.create_views()
        for _ in range(epochs):
            pair.check(views=views)
            pair.epoch()
        pair.check(views=views)
    finally:
        pair.close()


def alike(*queries: str) -> dict[str, tuple[str, str]]:
    """Queries with the same text for both."""
    return {f"q{i}": (query, query) for i, query in enumerate(queries)}
