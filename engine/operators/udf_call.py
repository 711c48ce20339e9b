"""Calls of users' functions: one call a distinct expression and row, in Arrow batches, outside DuckDB.

A function may answer differently next time, so where the input retracts, answers are remembered by stream key and the
retraction takes back what was stored. A server that does not answer holds the epoch back (the error is raised and the epoch
rolled back); it never becomes a NULL.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from engine.operators.base import (
    Delta,
    EpochContext,
    Operator,
    StateTable,
    column_list,
    no_change,
    same_key,
    store,
    stored_input,
)
from engine.sql.expressions import UdfCall, render_lenient


class UdfCalls(Operator):
    """Columns: the input's visible ones, one a call, then the hidden ones."""

    def __init__(self, source: Operator, calls: tuple[UdfCall, ...]) -> None:
        self.inputs = (source,)
        self._calls = calls
        width = source.visible
        self.types = (*source.types[:width], *(c.type for c in calls), *source.types[width:])
        self.visible = width + len(calls)
        self._moved = {p: p if p < width else p + len(calls) for p in range(len(source.types))}
        self.key = tuple(self._moved[p] for p in source.key)
        self.append_only = source.append_only
        self.watermarked = frozenset(self._moved[p] for p in source.watermarked)
        self._answers = ""

    def name_state(self, prefix: str) -> None:
        self._answers = f"{prefix}_answers"

    def state(self) -> tuple[StateTable, ...]:
        return () if self.append_only else (StateTable(self._answers, self.types),)

    def step(self, epoch: EpochContext, deltas: Sequence[Delta]) -> Delta:
        (delta,) = deltas
        watermarks = {self._moved[p]: w for p, w in delta.watermarks.items()}
        source = self.inputs[0]
        incoming = stored_input(epoch, delta, source)
        if incoming is None:
            return no_change(watermarks)
        answered = self._call(epoch, f"(SELECT * FROM {incoming} WHERE d > 0)")
        result = store(epoch, answered)
        if source.append_only:
            return Delta(result.source, result.empty, watermarks)
        all_names = column_list(len(self.types))
        kept = [self._moved[p] for p in source.key]
        retracted = (
            f"SELECT {column_list(len(self.types), 's')}, CAST(-1 AS TINYINT) AS d FROM {self._answers} AS s"
            f" SEMI JOIN (SELECT * FROM {incoming} WHERE d < 0) AS x ON {same_key('s', 'x', kept, source.key)}"
        )
        stored = store(epoch, f"{retracted} UNION ALL SELECT {all_names}, d FROM {result.source}")
        if stored.empty:
            return no_change(watermarks)
        epoch.execute(
            f"DELETE FROM {self._answers} USING (SELECT * FROM {stored.source} WHERE d < 0) AS x WHERE {same_key(self._answers, 'x', kept)}"
        )
        epoch.execute(f"INSERT INTO {self._answers} SELECT {all_names} FROM {stored.source} WHERE d > 0")
        return Delta(stored.source, watermarks=watermarks)

    def _call(self, epoch: EpochContext, rows: str) -> str:
        """Evaluate the arguments, call, and join the answers back by row number."""
        source = self.inputs[0]
        numbered, _ = epoch.temp(f"SELECT *, row_number() OVER () AS n FROM {rows} AS t")
        answers: dict[str, pa.ChunkedArray | pa.Array] = {}
        for index, call in enumerate(self._calls):
            items = ", ".join(f"{render_lenient(a)} AS a{i}" for i, a in enumerate(call.args)) or "1 AS a0"
            arguments = epoch.fetch(f"SELECT {items} FROM {numbered} AS t ORDER BY n")
            if not call.args:
                arguments = arguments.select([])
            types = [a.type for a in call.args]
            answers[f"u{index}"] = epoch.call_udf(call.link, call.function, arguments, types, call.type)
        count = len(next(iter(answers.values())))
        answered = epoch.register(pa.table({"n": pa.array(range(1, count + 1), pa.int64()), **answers}))
        outputs = [f"t.c{p} AS c{p}" for p in range(source.visible)]
        outputs += [f"CAST(u.u{i} AS {call.type.duckdb}) AS c{source.visible + i}" for i, call in enumerate(self._calls)]
        outputs += [f"t.c{p} AS c{self._moved[p]}" for p in range(source.visible, len(source.types))]
        return f"SELECT {', '.join(outputs)}, t.d FROM {numbered} AS t JOIN {answered} AS u ON t.n = u.n"

    def details(self) -> str:
        return ", ".join(f"{c.function} at {c.link}" for c in self._calls)
