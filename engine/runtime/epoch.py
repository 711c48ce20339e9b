"""One epoch: the context in which operators run, inside one DuckDB transaction."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import duckdb
import pyarrow as pa

from engine.operators.base import Delta, Watermarks, no_change
from engine.sql.types import SqlType

logger = logging.getLogger(__name__)

CallUdf = Callable[[str, str, pa.Table, Sequence[SqlType], SqlType], "pa.ChunkedArray"]


class Epoch:
    """See `EpochContext`.

    Args:
        connection: the writer's; a transaction is open.
        number: of this epoch.
        now_ms: wall-clock time of the barrier, unix milliseconds.
        call_udf: how users' functions are called.
        known: how far time had come in each relation before this epoch.
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        number: int,
        now_ms: int,
        call_udf: CallUdf,
        known: Mapping[int, Watermarks] | None = None,
    ) -> None:
        self.number = number
        self.now_ms = now_ms
        self._connection = connection
        self._call_udf = call_udf
        self.known = known or {}
        self._deferred: list[str] = []
        self._temps = 0
        self._registered: list[str] = []
        self._deltas: dict[int, Delta] = {}
        self._fed: dict[int, list[str]] = {}
        self.statements = 0

    def execute(self, sql: str) -> None:
        self.statements += 1
        self._connection.execute(sql)

    def temp(self, select: str) -> tuple[str, int]:
        self._temps += 1
        self.statements += 1
        name = f"temp.e{self._temps}"
        ((count,),) = self._connection.execute(f"CREATE OR REPLACE TEMP TABLE e{self._temps} AS {select}").fetchall()
        return name, int(count)

    def defer(self, sql: str) -> None:
        self._deferred.append(sql)

    def fetch(self, sql: str) -> pa.Table:
        self.statements += 1
        return self._connection.sql(sql).to_arrow_table()

    def fetch_rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Read a few rows as Python values."""
        self.statements += 1
        return self._connection.execute(sql).fetchall()

    def register(self, table: pa.Table) -> str:
        name = f"arrow_{len(self._registered)}"
        self._connection.register(name, table)
        self._registered.append(name)
        return name

    def call_udf(
        self, link: str, function: str, arguments: pa.Table, types: Sequence[SqlType], returns: SqlType
    ) -> pa.ChunkedArray:
        return self._call_udf(link, function, arguments, types, returns)

    # What the runtime puts in and takes out.

    def set_relation_delta(self, relation: int, delta: Delta) -> None:
        self._deltas[relation] = delta

    def feed(self, table: int, select: str) -> None:
        """Hand rows (all physical columns of a table, and `d`) to a table that takes its turn later in this epoch."""
        self._fed.setdefault(table, []).append(select)

    def take_fed(self, table: int) -> list[str]:
        return self._fed.pop(table, [])

    def relation_delta(self, relation: int) -> Delta:
        return self._deltas.get(relation) or no_change(self.known.get(relation))

    @property
    def deltas(self) -> Mapping[int, Delta]:
        return self._deltas

    @contextmanager
    def replaced(self, deltas: Mapping[int, Delta]) -> Iterator[None]:
        """Let one job see other changes of these relations than the rest of the graph."""
        others = {relation: self._deltas.get(relation) for relation in deltas}
        self._deltas.update(deltas)
        try:
            yield
        finally:
            for relation, delta in others.items():
                if delta is not None:
                    self._deltas[relation] = delta
                else:
                    del self._deltas[relation]

    def forget_deltas(self) -> None:
        self._deltas.clear()

    def run_deferred(self) -> None:
        for sql in self._deferred:
            self.execute(sql)
        self._deferred.clear()

    def release(self) -> None:
        """Forget the registered Arrow tables."""
        for name in self._registered:
            self._connection.unregister(name)
        self._registered.clear()
