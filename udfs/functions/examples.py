"""Examples beside the functions: arguments and results, run through the same Arrow path as a call from SQL.

EXAMPLES = {"risk@1": [((10.0, "DE"), 10.0), ((10.0, "XX"), 20.0)]}
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from arrow_udf import _to_arrow_array

from core.errors import InvalidInputError
from udfs.functions.definition import Definition
from udfs.functions.rows import UserFunction


@dataclass(frozen=True)
class ExampleResult:
    """One example; `got` is the value, or the error's JSON object."""

    function: str
    arguments: tuple[Any, ...]
    expected: Any
    got: Any

    @property
    def ok(self) -> bool:
        return bool(self.got == self.expected)


def run_examples(definition: Definition) -> list[ExampleResult]:
    """Run a function's examples, all in one batch.

    Raises:
        InvalidInputError: an example has another number of arguments, or arguments of another type.
    """
    module = sys.modules[definition.function.__module__]
    given = getattr(module, "EXAMPLES", {}).get(definition.served_as, [])
    if not given:
        return []
    signature = definition.signature
    wrong = [arguments for arguments, _ in given if len(arguments) != len(signature.names)]
    if wrong:
        raise InvalidInputError(
            f"example {wrong[0]!r} of `{definition.served_as}` has {len(wrong[0])} arguments, not {len(signature.names)}",
            where=definition.where,
        )
    function = UserFunction(definition)
    try:
        columns = [
            _to_arrow_array([arguments[i] for arguments, _ in given], each.arrow) for i, each in enumerate(signature.arguments)
        ]
    except (pa.ArrowException, TypeError, ValueError) as problem:
        raise InvalidInputError(
            f"an example of `{definition.served_as}` has an argument of another type: {problem}", where=definition.where
        ) from problem
    try:
        (answer,) = function.eval_batch(pa.RecordBatch.from_arrays(columns, schema=function._input_schema))
    finally:
        function.close()
    return [
        ExampleResult(definition.served_as, tuple(arguments), expected, _told(value.as_py()))
        for (arguments, expected), value in zip(given, answer.column(0), strict=True)
    ]


def _told(answer: Any) -> Any:  # Any: a value of the user's
    """The value; where there is an error, that."""
    if isinstance(answer, dict) and set(answer) == {"value", "error"}:
        error = answer["error"]
        return answer["value"] if error is None else (json.loads(error) if isinstance(error, str) else error)
    return answer
