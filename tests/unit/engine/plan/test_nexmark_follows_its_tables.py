"""Nexmark over tables that change: every view, and the query itself, equal plain DuckDB after every epoch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from engine.connectors.nexmark_events import NexmarkConfig, generate
from tests.property.engine.harness import EngineBox
from tests.unit.engine.plan.comparison import comparable
from tests.unit.engine.plan.nexmark import QUERIES, TABLES, for_duckdb

_EPOCHS = 3
_EVENTS = 900  # an epoch


@pytest.fixture(scope="module")
def box() -> Iterator[EngineBox]:
    made = EngineBox()
    yield made
    made.close()


def _rows(kind: str, first: int, last: int) -> list[dict[str, Any]]:
    """What the events from `first` to `last` hold of one kind."""
    config = NexmarkConfig()
    numbers = np.arange(config.count(kind, first), config.count(kind, last), dtype=np.int64)
    table: pa.Table = generate(config, kind, config.numbers(kind, numbers))
    rows: list[dict[str, Any]] = table.to_pylist()
    return [{"n": int(n), **row} for n, row in zip(numbers, rows, strict=True)] if kind == "Bid" else rows


def _literal(value: Any) -> str:
    if value is None:
        return "NULL"
    return str(value) if isinstance(value, int) else "'" + str(value).replace("'", "''") + "'"


def test_nexmark_equals_duckdb_after_every_epoch(box: EngineBox) -> None:
    oracle = duckdb.connect(config={"threads": 1, "default_null_order": "postgres"})
    for name, columns in TABLES.items():
        for run in (box.run, oracle.execute):
            run(f"CREATE TABLE {name} ({columns})")
    for name, query in QUERIES.items():
        box.run(f"CREATE MATERIALIZED VIEW {name} AS {query}")
    filled = set()
    for epoch in range(_EPOCHS):
        for kind in ("Person", "Auction", "Bid"):
            rows = _rows(kind, epoch * _EVENTS, (epoch + 1) * _EVENTS)
            values = ", ".join("(" + ", ".join(map(_literal, row.values())) + ")" for row in rows)
            for run in (box.run, oracle.execute):
                run(f"INSERT INTO {kind.lower()} ({', '.join(rows[0])}) VALUES {values}")
        changes = ["UPDATE auction SET category = 10 WHERE id % 3 = 0", f"DELETE FROM bid WHERE n % 17 = {epoch}"]
        changes += [f"UPDATE bid SET price = price * 2, channel = 'Baidu' WHERE n % 11 = {epoch}"]
        for change in changes:
            box.run(change)
            oracle.execute(change)
        box.run("FLUSH")
        for name, query in QUERIES.items():
            wanted = comparable(oracle.execute(for_duckdb(query)).fetchall())
            filled |= {name} if wanted else set()
            assert comparable(box.rows(f"SELECT * FROM {name}")) == wanted, f"view {name} in epoch {epoch}"
            assert comparable(box.rows(query)) == wanted, f"query {name} in epoch {epoch}"
    assert filled == set(QUERIES)
