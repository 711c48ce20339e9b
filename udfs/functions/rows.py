"""Evaluates a user's function on a batch, row by row isolated: what fails is that row's typed error, its neighbours answer.

    plain      in the server's thread, one row after the other, within the deadline of a row
    async      up to `concurrency` rows are awaited side by side; one that is late is cancelled
    batch      one call; where it raises, the batch is halved until the rows that make it raise are alone
    workers    slices of the batch go to processes; one that is late or dies is replaced, and its slice tried row by row

Error codes: `raised`, `wrong_result`, `deadline`, `worker_died`.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pyarrow as pa
from arrow_udf import JsonType, UserDefinedFunction, _to_arrow_array

from udfs.functions.definition import Definition
from udfs.functions.signature import ValueType
from udfs.functions.workers import WorkerPool
from udfs.route import RowError

logger = logging.getLogger(__name__)

Outcome = Any | RowError
"""What one row gave: a Python value, None for NULL, or why there is none."""


class UserFunction(UserDefinedFunction):  # type: ignore[misc]  # arrow-udf publishes no types
    """A definition as arrow-udf wants it: a name, two schemas, and batches in and out."""

    def __init__(self, definition: Definition) -> None:
        signature = definition.signature
        value = signature.result.arrow
        plain = definition.options.errors == "null"
        answer = value if plain else pa.struct([("value", value), ("error", JsonType())])
        self.definition = definition
        self._name = definition.served_as
        self._input_schema = pa.schema(
            [(name, each.arrow) for name, each in zip(signature.names, signature.arguments, strict=True)]
        )
        self._result_schema = pa.schema([(definition.name, answer)])
        self._evaluate = _evaluator(definition)

    def eval_batch(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        """Answer a batch of arguments with a batch of one column, row by row in order."""
        signature = self.definition.signature
        columns = [_storage(column, each) for column, each in zip(batch.columns, signature.arguments, strict=True)]
        asked = _rows_to_ask(columns, signature.arguments, batch.num_rows)
        outcomes: list[Outcome] = [None] * batch.num_rows
        if asked:
            chosen = columns if len(asked) == batch.num_rows else [column.take(pa.array(asked)) for column in columns]
            for row, outcome in zip(asked, self._evaluate(chosen, len(asked)), strict=True):
                outcomes[row] = outcome
        yield pa.RecordBatch.from_arrays([self._answer(outcomes)], schema=self._result_schema)

    def close(self) -> None:
        close = getattr(self._evaluate, "close", None)
        if close is not None:
            close()

    def _answer(self, outcomes: list[Outcome]) -> pa.Array:
        result = self.definition.signature.result
        values, errors = _typed(outcomes, result)
        failed = [error for error in errors if error is not None]
        if failed:
            codes = sorted({error.code for error in failed})
            logger.warning("rows failed", extra={"function": self._name, "rows": len(failed), "codes": codes})
        if self.definition.options.errors == "null":
            return values
        told = pa.array([None if error is None else error.as_json() for error in errors], pa.string())
        return pa.StructArray.from_arrays(
            [values, pa.ExtensionArray.from_storage(JsonType(), told)], fields=list(self._result_schema.field(0).type)
        )


Evaluate = Callable[[Sequence[pa.Array], int], list[Outcome]]


def _evaluator(definition: Definition) -> Evaluate:
    if definition.options.batch:
        return _WholeBatches(definition)
    if definition.options.workers:
        return WorkerPool(definition)
    if asyncio.iscoroutinefunction(definition.function):
        return _Awaited(definition)
    return _OneByOne(definition)


class _OneByOne:
    """Rows in a thread of their own, so that one which never ends is left behind and the rest goes on in a new thread."""

    def __init__(self, definition: Definition) -> None:
        self._definition = definition

    def __call__(self, columns: Sequence[pa.Array], n: int) -> list[Outcome]:
        rows = python_rows(columns, n)
        outcomes: list[Outcome] = []
        while len(outcomes) < n:
            outcomes += self._until_one_is_late(rows[len(outcomes) :])
        return outcomes

    def _until_one_is_late(self, rows: Sequence[Sequence[Any]]) -> list[Outcome]:  # Any: arguments
        done: list[Outcome] = []
        moved = threading.Condition()
        left_behind = False

        def work() -> None:
            for row in rows:
                outcome = call_row(self._definition, row)
                with moved:
                    if left_behind:
                        return
                    done.append(outcome)
                    moved.notify()

        threading.Thread(target=work, daemon=True, name=f"udf-{self._definition.name}").start()
        with moved:
            while len(done) < len(rows):
                before = len(done)
                if not moved.wait_for(partial(_longer, done, before), self._definition.options.deadline_seconds):
                    left_behind = True
                    return [*done, deadline_error(self._definition)]
            return done


def _longer(done: list[Outcome], before: int) -> bool:
    return len(done) > before


class _Awaited:
    """Coroutines side by side in one event loop, which lives in a thread of its own."""

    def __init__(self, definition: Definition) -> None:
        self._definition = definition
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True, name=f"udf-{definition.name}").start()

    def __call__(self, columns: Sequence[pa.Array], n: int) -> list[Outcome]:
        rows = python_rows(columns, n)
        return asyncio.run_coroutine_threadsafe(self._all(rows), self._loop).result()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)

    async def _all(self, rows: Sequence[Sequence[Any]]) -> list[Outcome]:  # Any: arguments
        gate = asyncio.Semaphore(self._definition.options.concurrency)
        return list(await asyncio.gather(*(self._one(row, gate) for row in rows)))

    async def _one(self, row: Sequence[Any], gate: asyncio.Semaphore) -> Outcome:  # Any: arguments
        async with gate:
            try:
                return await asyncio.wait_for(self._definition.function(*row), self._definition.options.deadline_seconds)
            except TimeoutError:
                return deadline_error(self._definition)
            except Exception as problem:  # noqa: BLE001  the user's own; the row gets it
                return raised(problem)


class _WholeBatches:
    """Arrow arrays in, an array out."""

    def __init__(self, definition: Definition) -> None:
        self._definition = definition
        self._threads = ThreadPoolExecutor(thread_name_prefix=f"udf-{definition.name}")

    def __call__(self, columns: Sequence[pa.Array], n: int) -> list[Outcome]:
        late = threading.Event()
        future = self._threads.submit(self._isolated, columns, n, late)
        try:
            return future.result(self._definition.options.deadline_seconds)
        except TimeoutError:
            late.set()
            return [deadline_error(self._definition)] * n

    def _isolated(self, columns: Sequence[pa.Array], n: int, late: threading.Event) -> list[Outcome]:
        if late.is_set():
            return []
        try:
            answer = self._definition.function(*columns)
            values = answer.to_pylist() if isinstance(answer, pa.Array | pa.ChunkedArray) else list(answer)
        except Exception as problem:  # noqa: BLE001  the user's own; the row gets it
            if n == 1:
                return [raised(problem)]
            middle = n // 2
            halves = [(0, middle), (middle, n - middle)]
            return [
                outcome
                for start, size in halves
                for outcome in self._isolated([column.slice(start, size) for column in columns], size, late)
            ]
        if len(values) != n:
            return [RowError("wrong_result", f"The function returned {len(values)} values for {n} rows.")] * n
        return values


def call_row(definition: Definition, row: Sequence[Any]) -> Outcome:  # Any: arguments
    """One row; an exception is its error."""
    try:
        return definition.function(*row)
    except Exception as problem:  # noqa: BLE001  the user's own; the row gets it
        return raised(problem)


def raised(problem: Exception) -> RowError:
    line = (str(problem).strip() or "no message").splitlines()[0]
    return RowError("raised", f"{type(problem).__name__}: {line}")


def deadline_error(definition: Definition) -> RowError:
    seconds = definition.options.deadline_seconds
    return RowError("deadline", f"`{definition.served_as}` did not answer within {seconds:g} s.")


def _typed(outcomes: list[Outcome], result: ValueType) -> tuple[pa.Array, list[RowError | None]]:
    """The values as Arrow; a value of another type becomes its row's error."""
    errors: list[RowError | None] = [each if isinstance(each, RowError) else None for each in outcomes]
    values = [None if isinstance(each, RowError) else _plain(each) for each in outcomes]
    try:
        return _to_arrow_array(values, result.arrow), errors
    except Exception:  # noqa: BLE001  Arrow and Python raise many kinds; row by row tells which row it was
        for row, value in enumerate(values):
            try:
                _to_arrow_array([value], result.arrow)
            except Exception as problem:  # noqa: BLE001  as above
                values[row] = None
                line = str(problem).splitlines()[0]
                errors[row] = RowError("wrong_result", f"`{value!r:.80}` is no {result.sql}: {line}")
        return _to_arrow_array(values, result.arrow), errors


def _plain(value: Any) -> Any:  # Any: a value of the user's
    """A NamedTuple or dataclass as a dict, at any depth of lists."""
    if hasattr(value, "_asdict"):
        return {name: _plain(each) for name, each in value._asdict().items()}
    if hasattr(value, "__dataclass_fields__"):
        return {name: _plain(getattr(value, name)) for name in value.__dataclass_fields__}
    return [_plain(each) for each in value] if isinstance(value, list) else value


def _storage(column: pa.Array, wanted: ValueType) -> pa.Array:
    """The column in the declared type: other callers send large strings, or JSON as plain text."""
    if column.type == wanted.arrow:
        return column
    if isinstance(wanted.arrow, pa.ExtensionType):
        return pa.ExtensionArray.from_storage(wanted.arrow, column.cast(wanted.arrow.storage_type))
    return column.cast(wanted.arrow)


def python_rows(columns: Sequence[pa.Array], n: int) -> list[tuple[Any, ...]]:  # Any: arguments
    """The arguments of each of `n` rows as Python values."""
    return list(zip(*(column.to_pylist() for column in columns), strict=True)) if columns else [()] * n


def _rows_to_ask(columns: Sequence[pa.Array], arguments: Sequence[ValueType], n: int) -> list[int]:
    """Rows in which every argument that may not be NULL is not."""
    strict = [column for column, each in zip(columns, arguments, strict=True) if not each.nullable and column.null_count]
    if not strict:
        return list(range(n))
    return [row for row in range(n) if all(column[row].is_valid for column in strict)]
