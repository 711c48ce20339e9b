"""The engine under test and the oracle, side by side."""

from __future__ import annotations

import asyncio
import datetime as dt
import itertools
import math
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from core.clock import Clock, SystemClock
from core.errors import UnavailableError
from core.settings import EngineSettings
from engine.front.session import EngineSession
from engine.plan.stream import operators
from engine.runtime.engine import Engine, nowhere
from engine.sql.numeric_arrow import KEY_TYPE, numeric_decimals
from tests.property.engine.streams import Change, Epoch, Model, Table

Rows = Counter[tuple[Any, ...]]
_TOLERANCE = 1e-9
# Barriers are cut by FLUSH only: an epoch of a test is an epoch of the engine, or a few.
_SETTINGS = EngineSettings(epoch_interval_ms=3_600_000, epoch_max_rows=1_000_000, memory_limit="500MB", threads=1)

EXERCISED: Counter[str] = Counter()
"""Operator classes that ran in a plan, over the whole test run."""


class EngineBox:
    """One engine in a temporary folder, used for many examples. `reopen` closes it and opens the same folder again."""

    def __init__(self, clock: Clock | None = None, folder: Path | None = None, settings: EngineSettings = _SETTINGS) -> None:
        self._clock = clock or SystemClock()
        self._kept = folder
        self._settings = settings
        self._begin()

    def _begin(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="oracle-")
        self._loop = asyncio.new_event_loop()
        self._open()

    def _open(self) -> None:
        self.engine = Engine(self._kept or Path(self._folder.name) / "engine", self._settings, self._clock)
        self.engine.start()
        self.session = EngineSession(self.engine, "dev", "root", {})
        self.run("FLUSH")  # the first barrier comes at once, the next ones when they are asked for

    def run(self, sql: str) -> pa.Table | None:
        """Run statements; returns the rows of the last."""
        return self._loop.run_until_complete(self._run(sql))

    async def _run(self, sql: str) -> pa.Table | None:
        rows = None
        for statement in self.session.parse(sql):
            rows = (await self.session.execute(await self.session.prepare(statement))).rows
        return rows

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        table = self.run(sql)
        assert table is not None
        return list(zip(*(_values(column) for column in table.columns), strict=True)) if table.num_columns else []

    def reopen(self) -> None:
        self._loop.run_until_complete(self.session.close())
        self.engine.close()
        self._open()

    @contextmanager
    def failing(self) -> Iterator[None]:
        """Every other commit fails; an epoch is rolled back then and tried again."""
        tried = itertools.count()

        def fail_every_other_time(name: str) -> None:
            if name == "epoch: before commit" and next(tried) % 2 == 0:
                raise UnavailableError("planted")

        self.engine.failpoint = fail_every_other_time
        try:
            yield
        finally:
            self.engine.failpoint = nowhere
        assert next(tried) > 0, "no epoch was tried"

    def start_over(self) -> None:
        """A fresh folder, after an example has left the engine in an unknown state."""
        self.close()
        self._begin()

    def close(self) -> None:
        with suppress(Exception):
            self._loop.run_until_complete(self.session.close())
        self.engine.close()
        self._loop.close()
        self._folder.cleanup()

    def write(self, epoch: Epoch, tables: dict[str, Table]) -> None:
        """Hand an epoch's changes over, without a barrier of its own if the epoch is `buffered`."""
        for name, table in tables.items():
            changes = [c for c in epoch.changes if c.table == name]
            if not changes:
                continue
            if epoch.buffered and table.key:
                self._buffer(table, changes)
            else:
                for op, rows in _runs(changes):
                    self.run(_statement(table, op, rows))

    def _buffer(self, table: Table, changes: Sequence[Change]) -> None:
        found = next(o for o in self.engine.catalog.objects.values() if o.name == table.name)
        values = list(zip(*(c.row for c in changes), strict=True))
        columns = {
            f"c{i}": pa.array([_physical(v, c.type) for v in values[i]], _ARROW[c.type]) for i, c in enumerate(table.columns)
        }
        diffs = pa.array([1 if c.op == "put" else -1 for c in changes], pa.int8())
        self.engine.write(found.id, pa.table({**columns, "d": diffs}))

    def note_operators(self) -> None:
        for job in self.engine.jobs.values():
            EXERCISED.update(operator.name for operator in operators(job.root))


_ARROW = {
    "int": pa.int32(), "big": pa.int64(), "float": pa.float64(), "text": pa.string(), "bool": pa.bool_(), "time": pa.timestamp("us"),
}  # fmt: skip


def _physical(value: Any, kind: str) -> Any:
    return dt.datetime.fromisoformat(value) if kind == "time" and value is not None else value


def _runs(changes: Sequence[Change]) -> Iterable[tuple[str, list[tuple[Any, ...]]]]:
    """Neighbouring changes of one kind, so that one statement takes several rows."""
    run: list[Change] = []
    for change in changes:
        if run and run[0].op != change.op:
            yield run[0].op, [c.row for c in run]
            run = []
        run.append(change)
    if run:
        yield run[0].op, [c.row for c in run]


def _statement(table: Table, op: str, rows: Sequence[tuple[Any, ...]]) -> str:
    if op == "put":
        return f"INSERT INTO {table.name} VALUES {table.values(rows)}"
    conditions = []
    for row in rows:
        pairs = [f"{table.columns[p].name} = {row[p]!r}" for p in table.key]
        conditions.append(f"({' AND '.join(pairs)})")
    return f"DELETE FROM {table.name} WHERE {' OR '.join(conditions)}"


def _values(column: pa.ChunkedArray) -> list[Any]:
    """Python values of a column of the engine; numerics are stored as keys."""
    if column.type == KEY_TYPE:
        return [value for chunk in column.chunks for value in numeric_decimals(chunk)]
    values: list[Any] = column.to_pylist()
    return values


class Oracle:
    """Plain DuckDB with the same rows, and every query run from scratch."""

    def __init__(self) -> None:
        # Without statistics: DuckDB 2.0 drops rows of outer joins whose condition it proves false (join_condition_never_true.slt).
        self._connection = duckdb.connect(config={"threads": 1, "disabled_optimizers": "statistics_propagation"})

    def load(self, model: Model) -> None:
        for table in model.tables.values():
            self._connection.execute(table.oracle_ddl)
            rows = model.rows(table.name)
            if rows:
                self._connection.execute(f"INSERT INTO {table.name} VALUES {table.values(rows)}")

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return self._connection.execute(sql).fetchall()

    def execute(self, sql: str) -> None:
        self._connection.execute(sql)


def _plain(value: Any) -> Any:
    if isinstance(value, bool):
        return value
    if isinstance(value, Decimal | float):
        if isinstance(value, float) and not math.isfinite(value):
            return str(value)
        return int(value) if value == int(value) else float(value)
    if isinstance(value, list):
        return tuple(_plain(v) for v in value)
    return value


def bag(rows: Iterable[tuple[Any, ...]]) -> Rows:
    """Rows as a multiset, numbers without their type."""
    return Counter(tuple(_plain(v) for v in row) for row in rows)


def _sort_key(row: tuple[Any, ...]) -> list[tuple[str, str]]:
    return [
        (type(v).__name__ if not isinstance(v, float) else "int", f"{v:+025.6f}" if isinstance(v, int | float) else repr(v))
        for v in row
    ]


def _close(a: Any, b: Any) -> bool:
    if isinstance(a, int | float) and isinstance(b, int | float) and isinstance(a, bool) == isinstance(b, bool):
        return math.isclose(a, b, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)
    return bool(a == b)


def difference(found: Rows, wanted: Rows) -> str | None:
    """None if both hold the same rows, up to the float tolerance; otherwise what is missing and what is too much."""
    if found == wanted:
        return None
    extra, missing = sorted((found - wanted).elements(), key=_sort_key), sorted((wanted - found).elements(), key=_sort_key)
    if len(extra) == len(missing) and all(
        all(_close(x, y) for x, y in zip(a, b, strict=True)) for a, b in zip(extra, missing, strict=True)
    ):
        return None
    return f"missing {missing[:6]}, too much {extra[:6]} (of {sum(found.values())} rows, {sum(wanted.values())} wanted)"


class Follower:
    """A subscription's changes, added up."""

    def __init__(self, box: EngineBox, view: str) -> None:
        self._box = box
        self._name = f"sub_{view}"
        self.state: Rows = Counter()
        box.run(f"CREATE SUBSCRIPTION {self._name} FROM {view} WITH (retention = '1 day')")
        self.state.update(bag(box.rows(f"SELECT * FROM {view}")))
        self.declare("now()")

    def declare(self, since: str) -> None:
        self._box.run(f"DECLARE cur_{self._name} SUBSCRIPTION CURSOR FOR {self._name} SINCE {since}")

    def close(self) -> None:
        self._box.run(f"CLOSE cur_{self._name}")

    def follow(self) -> None:
        """Apply what has come.

        Raises:
            AssertionError: a row was retracted that was not there.
        """
        for *row, op, _ in self._box.rows(f"FETCH 100000 FROM cur_{self._name}"):
            (key,) = bag([tuple(row)])
            if op in ("Insert", "UpdateInsert"):
                self.state[key] += 1
            else:
                assert op in ("Delete", "UpdateDelete"), op
                self.state[key] -= 1
                assert self.state[key] >= 0, f"{key} was retracted more often than inserted"
        self.state = +self.state


Check = Callable[[], None]
