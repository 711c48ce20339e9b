"""TPC-H as views over a changing database: every one equals plain DuckDB after every epoch."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Callable, Iterator
from typing import Any

import duckdb
import pytest

from tests.property.engine.harness import EngineBox
from tests.unit.engine.plan.comparison import comparable
from tests.unit.engine.plan.tpch import QUERIES, TABLES

_EPOCHS = 3


@pytest.fixture(scope="module")
def box() -> Iterator[EngineBox]:
    made = EngineBox()
    yield made
    made.close()


class _Rows:
    """Random rows, each table's key from a small range so that rows are replaced."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._makers: dict[str, Callable[[], tuple[Any, ...]]] = {
            "supplier": self._supplier, "part": self._part, "partsupp": self._partsupp, "customer": self._customer,
            "orders": self._order, "lineitem": self._line,
        }  # fmt: skip

    def fixed(self) -> dict[str, list[tuple[Any, ...]]]:
        return {
            "region": [(0, "EUROPE"), (1, "ASIA")],
            "nation": [(0, "FRANCE", 0), (1, "GERMANY", 0), (2, "CHINA", 1)],
        }

    def changing(self, counts: dict[str, int]) -> Iterator[tuple[str, tuple[Any, ...]]]:
        for table, count in counts.items():
            for _ in range(count):
                yield table, self._makers[table]()

    def _of(self, *values: Any) -> Any:
        return self._random.choice(values)

    def _int(self, low: int, high: int) -> int:
        return self._random.randint(low, high)

    def _money(self) -> float:
        return self._int(0, 4000) / 4

    def _date(self) -> dt.date:
        return dt.date(1993, 1, 1) + dt.timedelta(days=self._int(0, 1400))

    def _supplier(self) -> tuple[Any, ...]:
        key = self._int(1, 5)
        comment = self._of("Customer had Complaints", "nice")
        return key, f"Supplier{key}", "here", self._int(0, 2), f"13-{key}", self._money(), comment

    def _part(self) -> tuple[Any, ...]:
        name = self._of("green almond", "blue sky", "dark green")
        brand, kind = self._of("Brand#12", "Brand#45", "Brand#3"), self._of("PROMO BRASS", "MEDIUM TIN", "SMALL BRASS")
        return self._int(1, 6), name, "M1", brand, kind, self._of(3, 9, 14), self._of("MED BOX", "SM CASE")

    def _partsupp(self) -> tuple[Any, ...]:
        return self._int(1, 6), self._int(1, 5), self._int(1, 90), self._money()

    def _customer(self) -> tuple[Any, ...]:
        key = self._int(1, 8)
        return (
            key,
            f"C{key}",
            "there",
            self._int(0, 2),
            self._of("13-1", "31-2", "44-3"),
            self._money(),
            self._of("BUILDING", "AUTO"),
            "c",
        )

    def _order(self) -> tuple[Any, ...]:
        comment, priority = self._of("special requests", "plain"), self._of("1-URGENT", "2-HIGH", "5-LOW")
        return self._int(1, 12), self._int(1, 8), self._of("F", "O"), self._money(), self._date(), priority, 0, comment

    def _line(self) -> tuple[Any, ...]:
        instruct, mode = self._of("DELIVER IN PERSON", "NONE"), self._of("MAIL", "SHIP", "AIR")
        return (
            self._int(1, 12), self._int(1, 4), self._int(1, 6), self._int(1, 5), float(self._int(1, 50)), self._money(),
            self._int(0, 10) / 100, self._int(0, 8) / 100, self._of("R", "A"), self._of("O", "F"), self._date(), self._date(),
            self._date(), instruct, mode,
        )  # fmt: skip


def _literal(value: Any) -> str:
    return f"date '{value}'" if isinstance(value, dt.date) else repr(value)


def test_tpch_equals_duckdb_after_every_epoch(box: EngineBox) -> None:
    oracle = duckdb.connect(config={"threads": 1})
    for name, columns in TABLES.items():
        box.run(f"CREATE TABLE {name} ({columns})")
        oracle.execute(f"CREATE TABLE {name} ({columns})")
    for number, query in QUERIES.items():
        box.run(
            f"CREATE MATERIALIZED VIEW q{number} AS {query.replace('sum(l_quantity) FROM customer', 'sum(l_quantity) AS q FROM customer')}"
        )
    made = _Rows(seed=1)
    counts = {"supplier": 5, "part": 8, "partsupp": 20, "customer": 10, "orders": 14, "lineitem": 50}
    filled: set[int] = set()
    for epoch in range(_EPOCHS):
        rows: dict[str, list[tuple[Any, ...]]] = made.fixed() if epoch == 0 else {}
        for table, row in made.changing(counts):
            rows.setdefault(table, []).append(row)
        for table, some in rows.items():
            for row in some:
                oracle.execute(f"INSERT OR REPLACE INTO {table} VALUES ({', '.join(_literal(v) for v in row)})")
            values = ", ".join("(" + ", ".join(_literal(v) for v in row) + ")" for row in some)
            box.run(f"INSERT INTO {table} VALUES {values}")
        if epoch:
            box.run(f"DELETE FROM orders WHERE o_orderkey = {epoch}")
            oracle.execute(f"DELETE FROM orders WHERE o_orderkey = {epoch}")
        box.run("FLUSH")
        for number, query in QUERIES.items():
            expected = comparable(oracle.execute(query).fetchall())
            if any(any(v is not None for v in row) for row in expected):
                filled.add(number)
            assert comparable(box.rows(f"SELECT * FROM q{number}")) == expected, f"view of query {number} in epoch {epoch}"
            assert comparable(box.rows(query)) == expected, f"query {number} in epoch {epoch}"
    assert len(filled) >= 19, f"only queries {sorted(filled)} ever had an answer"
