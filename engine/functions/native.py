"""Functions that DuckDB lacks or means otherwise, written in Python and called from our SQL by the name `hr_...`.

`@native` declares one; `register_functions` makes all of them known to a database, once, for every connection to it. NULL in
gives NULL out unless `nulls=True`. They are pure, so DuckDB folds them over constants.

A fault of the data is raised as `ValueFault`; DuckDB hands its text on, and `read_fault` finds SQLSTATE and message in it.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import DecimalException
from typing import Any, TypeVar

import duckdb
from duckdb.func import FunctionNullHandling, PythonUDFType

from engine.sql.errors import SqlError

NUMERIC = "HUGEINT"
"""How a numeric key travels (see `engine.sql.numeric`)."""

_FAULT = re.compile(r"\x01([0-9A-Z]{5})\x01(.*?)\x01", re.DOTALL)
_MODULES = (
    "numerics",
    "texts",
    "datetimes",
    "strings",
    "patterns",
    "maths",
    "times",
    "formats",
    "json",
    "jsonpath",
    "arrays",
    "binary",
    "ciphers",
    "int256",
    "maps",
    "system",
)


class ValueFault(SqlError):
    """A value cannot be computed; its text carries the SQLSTATE through DuckDB."""

    def __init__(self, sqlstate: str, what: str, fix: str | None = None) -> None:
        super().__init__(what, sqlstate=sqlstate, fix=fix)

    def __str__(self) -> str:
        return f"\x01{self.sqlstate}\x01{self.what}\x01"


@dataclass(frozen=True)
class NativeFunction:
    name: str
    parameters: tuple[str, ...] | None
    returns: str
    function: Callable[..., Any]  # any value that DuckDB takes


_OR_NULL = (
    "hr_numeric_sum", "hr_numeric_avg", "hr_numeric_avg_whole", "hr_numeric_sum_list", "hr_numeric_avg_list", "hr_numeric_variance",
    "hr_numeric_multiply", "hr_json_object", "hr_int256_sum",
)  # fmt: skip
"""What aggregates end in: each has a twin `..._or_null`, because DuckDB allows no TRY around an aggregate."""

_FUNCTIONS: dict[str, NativeFunction] = {}
F = TypeVar("F", bound=Callable[..., Any])


def native(name: str, *parameters: str, returns: str, nulls: bool = False) -> Callable[[F], F]:
    """Declare a Python function under `name` for DuckDB.

    Args:
        parameters: DuckDB types; a single `"..."` takes any number of any type.
        returns: DuckDB type.
        nulls: whether it is called with NULL too.
    """

    def declare(function: F) -> F:
        taken = None if parameters == ("...",) else parameters
        _FUNCTIONS[name] = NativeFunction(name, taken, returns, _guarded(function, taken, nulls))
        return function

    return declare


def _guarded(function: Callable[..., Any], parameters: tuple[str, ...] | None, nulls: bool) -> Callable[..., Any]:
    def call(*args: object) -> Any:
        if not nulls and None in args:
            return None
        try:
            return function(*args)
        except ValueFault:
            raise
        except SqlError as error:
            raise ValueFault(error.sqlstate, error.what, error.fix) from error
        except (OverflowError, DecimalException) as error:
            raise ValueFault("22003", "value out of range") from error

    if parameters is not None:
        # DuckDB counts the parameters of the function's signature.
        names = [inspect.Parameter(f"p{i}", inspect.Parameter.POSITIONAL_ONLY) for i in range(len(parameters))]
        call.__signature__ = inspect.Signature(names)  # type: ignore[attr-defined]  # every function may carry one
    return call


def or_null(sql: str) -> str:
    """The SQL of an aggregate that gives NULL where it would fail: a sum out of range, a NULL for a key of an object."""
    return re.sub(rf"\b({'|'.join(_OR_NULL)})\(", r"\1_or_null(", sql)


def _forgiving(item: NativeFunction) -> NativeFunction:
    def call(*args: object) -> Any:
        if any(isinstance(arg, list) and item.name.startswith("hr_numeric") and None in arg for arg in args):
            return None  # a product in it was out of range
        try:
            return item.function(*args)
        except ValueFault:
            return None

    if item.parameters is not None:
        call.__signature__ = inspect.signature(item.function)  # type: ignore[attr-defined]  # every function may carry one
    return NativeFunction(f"{item.name}_or_null", item.parameters, item.returns, call)


def register_functions(connection: duckdb.DuckDBPyConnection) -> None:
    """Make all functions known to the connection's database; every other connection to it has them too."""
    for module in _MODULES:
        importlib.import_module(f"engine.functions.{module}")
    twins = [_forgiving(_FUNCTIONS[name]) for name in _OR_NULL if name in _FUNCTIONS]
    for item in (*_FUNCTIONS.values(), *twins):
        connection.create_function(
            item.name,
            item.function,
            None if item.parameters is None else list(item.parameters),
            item.returns,
            type=PythonUDFType.NATIVE,
            # The default would refuse a function that answers NULL.
            null_handling=FunctionNullHandling.SPECIAL,
        )


def read_fault(text: str) -> ValueFault | None:
    """The fault that DuckDB's error text carries, if any."""
    found = _FAULT.search(text)
    return ValueFault(found[1], found[2]) if found else None
