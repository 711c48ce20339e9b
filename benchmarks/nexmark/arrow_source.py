"""A source for this benchmark only, `connector = 'arrow'`: Arrow tables that are in memory when the clock starts.

So the engine is measured on the same input as peers that read Arrow, without the cost of making the events.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import pyarrow as pa

from engine.connectors import registry
from engine.connectors.base import Positions
from engine.sql.types import SqlType


class ArrowSource:
    """A `SourceReader` of typed columns over one table; one partition."""

    def __init__(self, table: pa.Table) -> None:
        count = table.num_rows
        self._table = pa.table(
            {
                "partition": pa.array(np.zeros(count, np.int32)),
                "offset": pa.array(np.arange(count, dtype=np.int64)),
                "timestamp": pa.array(np.zeros(count, np.int64)).cast(pa.timestamp("us")),
                **{name: table[name] for name in table.column_names},
            }
        )
        self._next = 0

    def start(self, positions: Positions, wake: Callable[[], None]) -> None:
        self._next = positions.get(0, 0)
        wake()

    def take(self, max_rows: int) -> pa.Table | None:
        taken = self._table.slice(self._next, max_rows)
        self._next += taken.num_rows
        return taken if taken.num_rows else None

    def starts(self) -> Positions:
        return {0: 0}

    def lag(self) -> Mapping[int, int]:
        return {0: self._table.num_rows - self._next}

    def close(self) -> None:
        """Nothing to close."""


@contextmanager
def arrow_connector(tables: Mapping[str, pa.Table]) -> Iterator[None]:
    """Make `connector = 'arrow', table = '<name>'` known to the engine in this process."""

    def build(options: Mapping[str, str], fields: Sequence[tuple[str, SqlType]]) -> ArrowSource:
        return ArrowSource(tables[options["table"]].select([name for name, _ in fields]))

    assert isinstance(registry.TYPED_SOURCES, dict)
    registry.TYPED_SOURCES["arrow"] = build
    try:
        yield
    finally:
        del registry.TYPED_SOURCES["arrow"]
