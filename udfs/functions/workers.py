"""Processes that share the rows of a batch: for functions that keep a processor busy.

A worker loads the function's file by itself. A slice that is late, or whose worker dies (a crash in native code, out of memory),
is tried again row by row, each row in the deadline of one row, so that only the row that does it gets the error.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from udfs.route import RowError

if TYPE_CHECKING:
    from udfs.functions.definition import Definition

_loaded: dict[str, Definition] = {}  # in a worker: the one function that it computes


class WorkerPool:
    """Evaluates rows in `workers` processes; built at the first call, and again after one was ended."""

    def __init__(self, definition: Definition) -> None:
        self._definition = definition
        self._pool: ProcessPoolExecutor | None = None

    def __call__(self, columns: Sequence[pa.Array], n: int) -> list[Any]:  # Any: see rows.Outcome
        rows = list(zip(*([value.as_py() for value in column] for column in columns), strict=True)) if columns else [()] * n
        size = -(-n // self._definition.options.workers)
        slices = [rows[start : start + size] for start in range(0, n, size)]
        return [
            outcome for part, future in [(part, self._submit(part)) for part in slices] for outcome in self._wait(part, future)
        ]

    def close(self) -> None:
        """End the processes, also those that are busy."""
        pool, self._pool = self._pool, None
        if pool is not None:
            running = list((pool._processes or {}).values())
            pool.shutdown(wait=False, cancel_futures=True)
            for process in running:
                process.kill()

    def _submit(self, rows: Sequence[Sequence[Any]]) -> Future[list[Any]]:  # Any: arguments, outcomes
        if self._pool is None:
            path, _, _ = self._definition.where.rpartition(":")
            # Not forked: the server has threads, and a fork inherits their locks.
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(
                self._definition.options.workers, context, _load, (path, self._definition.served_as)
            )
            self._pool.submit(_call_rows, []).result()  # starting a process is not the row's time
        return self._pool.submit(_call_rows, rows)

    def _wait(self, rows: Sequence[Sequence[Any]], future: Future[list[Any]]) -> list[Any]:  # Any: as above
        limit = self._definition.options.deadline_seconds * len(rows)
        try:
            return future.result(limit)
        except TimeoutError:
            error = RowError(
                "deadline",
                f"`{self._definition.served_as}` did not answer within {self._definition.options.deadline_seconds:g} s.",
            )
        except (BrokenProcessPool, OSError) as problem:
            error = RowError("worker_died", f"The process that computed this row ended: {problem}")
        self.close()
        if len(rows) == 1:
            return [error]
        return [outcome for row in rows for outcome in self._wait([row], self._submit([row]))]


def _load(path: str, served_as: str) -> None:
    """In a worker: load the function once."""
    from udfs.functions.loading import load_file

    _loaded["function"] = next(each for each in load_file(Path(path)) if each.served_as == served_as)


def _call_rows(rows: Sequence[Sequence[Any]]) -> list[Any]:  # Any: as above
    from udfs.functions.rows import call_row

    return [call_row(_loaded["function"], row) for row in rows]
