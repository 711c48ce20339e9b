"""Functions that a test answers itself: a real UDF server, so that `CREATE FUNCTION ... USING LINK` runs unchanged.

A call that no rule fits is answered with NULL and remembered: it fails the case with the arguments in the text, instead of
holding back the epoch as a broken server would.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
from arrow_udf import UserDefinedFunction

from core.errors import InvalidInputError
from engine.connectors.udf_types import protocol_field
from engine.sql.types import SqlType
from headrace.sqltest.model import DEFAULT_TOLERANCE, Stub
from headrace.sqltest.plan import Signature
from udfs.functions.table import FunctionTable
from udfs.server import UdfFlightServer

_INTEGERS = ("int2", "int4", "int8", "serial")
_FLOATS = ("float4", "float8")


class StubFunction(UserDefinedFunction):  # type: ignore[misc]  # arrow-udf publishes no types
    """Answers each row by the first rule that fits its arguments."""

    def __init__(self, stub: Stub, signature: Signature) -> None:
        self._name = signature.name
        self._stub = stub
        self._signature = signature
        self._input_schema = pa.schema([protocol_field(name, type_) for name, type_ in signature.arguments])
        self._result_schema = pa.schema([protocol_field(signature.name, signature.returns)])
        self._lock = threading.Lock()
        self._unanswered: list[Mapping[str, object]] = []

    def eval_batch(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        columns = [
            [_plain(value, type_) for value in _storage(column).to_pylist()]
            for column, (_, type_) in zip(batch.columns, self._signature.arguments, strict=True)
        ]
        names = [name for name, _ in self._signature.arguments]
        answers = [self._answer(dict(zip(names, row, strict=True))) for row in zip(*columns, strict=True)]
        array = pa.array(answers, self._result_schema.field(0).type)
        yield pa.RecordBatch.from_arrays([array], schema=self._result_schema)

    def take_unanswered(self) -> list[Mapping[str, object]]:
        """The arguments of calls that no rule fitted since the last time."""
        with self._lock:
            taken, self._unanswered = self._unanswered, []
            return taken

    def _answer(self, arguments: Mapping[str, object]) -> object:
        for rule in self._stub.rules:
            if all(name in arguments and _fits(wanted, arguments[name]) for name, wanted in rule.when.items()):
                return to_arrow(rule.returns, self._signature.returns)
        with self._lock:
            self._unanswered.append(arguments)
        return None


def check_stub(stub: Stub, signature: Signature) -> None:
    """Refuse answers that the function cannot give.

    Raises:
        InvalidInputError: an answer is not of the declared type, or asks for an argument that is not there.
    """
    names = [name for name, _ in signature.arguments]
    for rule in stub.rules:
        unknown = [name for name in rule.when if name not in names]
        if unknown:
            raise InvalidInputError(
                f"`{stub.name}` has no argument `{unknown[0]}`",
                where=str(stub.place),
                fix=f"It has {', '.join(f'`{name}`' for name in names)}.",
            )
        try:
            to_arrow(rule.returns, signature.returns)
        except ValueError as error:
            raise InvalidInputError(
                f"an answer of `{stub.name}` does not fit {signature.returns}: {error}", where=str(stub.place)
            ) from error


def serve(host: str, functions: Sequence[StubFunction]) -> UdfFlightServer:
    """A listening server; end it with `drain_and_stop`."""
    return UdfFlightServer(host, 0, FunctionTable(functions))


def to_arrow(value: object, type_: SqlType) -> object:
    """A value of a test file as what Arrow takes for the type.

    Raises:
        ValueError: it does not fit.
    """
    if value is None:
        return None
    name = type_.name
    if name == "jsonb":
        return json.dumps(value)
    if name == "list" and isinstance(value, list):
        assert type_.element is not None
        return [to_arrow(item, type_.element) for item in value]
    if name == "struct" and isinstance(value, dict):
        unknown = value.keys() - {field for field, _ in type_.fields}
        if unknown:
            raise ValueError(f"there is no field `{min(unknown)}` in {type_}")
        return {field: to_arrow(value.get(field), field_type) for field, field_type in type_.fields}
    if name in _INTEGERS and isinstance(value, int):
        return value
    if name in _FLOATS and isinstance(value, (int, float)):
        return float(value)
    if name == "bool" and isinstance(value, bool):
        return value
    if name == "bytea" and isinstance(value, str):
        return base64.b64decode(value)
    if name in ("date", "timestamp", "timestamptz") and isinstance(value, (str, date)):
        return _moment(value, name)
    if name in ("varchar", "numeric") and not isinstance(value, (dict, list)):
        return str(value)
    raise ValueError(f"`{value}` is no {type_}")


def _moment(value: str | date, name: str) -> date:
    if name == "date":
        return date.fromisoformat(str(value))
    moment = datetime.fromisoformat(str(value))
    return moment.replace(tzinfo=moment.tzinfo or UTC) if name == "timestamptz" else moment


def _fits(wanted: object, found: object) -> bool:
    """Whether an argument is what a rule asks for; of an object only the keys that the rule names are looked at."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        return all(name in found and _fits(each, found[name]) for name, each in wanted.items())
    if isinstance(wanted, list) and isinstance(found, list):
        return len(wanted) == len(found) and all(_fits(w, f) for w, f in zip(wanted, found, strict=True))
    if isinstance(wanted, (int, float)) and isinstance(found, (int, float, Decimal)):
        return abs(float(wanted) - float(found)) <= DEFAULT_TOLERANCE * max(1.0, abs(float(wanted)))
    if isinstance(found, (date, datetime)):
        return str(found) == str(wanted) or found.isoformat() == str(wanted)
    return wanted == found


def _storage(column: pa.Array) -> pa.Array:
    return column.storage if isinstance(column, pa.ExtensionArray) else column


def _plain(value: object, type_: SqlType) -> object:
    """An argument as a test file would write it."""
    if type_.name == "jsonb" and isinstance(value, str):
        return json.loads(value)
    if type_.name == "numeric" and isinstance(value, str):
        return Decimal(value)
    return value
