"""How fast a function answers: called as Python, through Arrow in this process, and over Flight from a server.

Rows come from the file's EXAMPLES, those that do not fail, repeated; without such there is nothing to call it with.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from arrow_udf import _to_arrow_array

from core.clock import Clock, SystemClock
from core.errors import NotFoundError
from udfs.client import UdfClient
from udfs.functions.definition import Definition
from udfs.functions.rows import UserFunction, call_row


@dataclass(frozen=True)
class Timing:
    """One way to call a function; latencies are of a batch."""

    way: str
    batch: int
    rows_per_second: float
    p50_milliseconds: float
    p99_milliseconds: float


def bench(
    definition: Definition, *, batch: int, seconds: float, client: UdfClient | None = None, clock: Clock | None = None
) -> list[Timing]:
    """Measure a function, each way for `seconds`.

    Args:
        batch: rows of a call.
        client: of a server that serves it; without one, Flight is not measured.

    Raises:
        NotFoundError: its file has no example of it.
    """
    rows = _rows(definition, batch)
    schema = [each.arrow for each in definition.signature.arguments]
    columns = [_to_arrow_array([row[i] for row in rows], type_) for i, type_ in enumerate(schema)]
    function = UserFunction(definition)
    arguments = pa.RecordBatch.from_arrays(columns, schema=function._input_schema)
    ways: list[tuple[str, Callable[[], object]]] = [("arrow", lambda: list(function.eval_batch(arguments)))]
    if not definition.options.batch and not inspect.iscoroutinefunction(definition.function):
        ways.insert(0, ("python", lambda: [call_row(definition, row) for row in rows]))
    if client is not None:
        ways.append(("flight", lambda: client.call(definition.served_as, arguments)))
    try:
        return [_measure(way, call, batch, seconds, clock or SystemClock()) for way, call in ways]
    finally:
        function.close()


def _measure(way: str, call: Callable[[], object], batch: int, seconds: float, clock: Clock) -> Timing:
    call()  # loads, connects, starts processes
    begun = clock.monotonic_seconds()
    took: list[float] = []
    while not took or clock.monotonic_seconds() - begun < seconds:
        before = clock.monotonic_seconds()
        call()
        took.append(clock.monotonic_seconds() - before)
    ordered = sorted(took)
    return Timing(
        way,
        batch,
        round(batch * len(took) / max(sum(took), 1e-9), 1),
        round(ordered[len(ordered) // 2] * 1000, 3),
        round(ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))] * 1000, 3),
    )


def _rows(definition: Definition, count: int) -> list[tuple[Any, ...]]:  # Any: arguments
    module = sys.modules[definition.function.__module__]
    given = [tuple(arguments) for arguments, _ in getattr(module, "EXAMPLES", {}).get(definition.served_as, [])]
    optional = [each.nullable for each in definition.signature.arguments]
    asked = [row for row in given if all(value is not None or may for value, may in zip(row, optional, strict=True))]
    if not asked:
        raise NotFoundError(
            f"there is no example of `{definition.served_as}` to call it with",
            where=definition.where,
            fix=f'Add EXAMPLES = {{"{definition.served_as}": [((arguments,), result)]}}.',
        )
    return [asked[i % len(asked)] for i in range(count)]
