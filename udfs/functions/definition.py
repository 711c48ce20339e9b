"""`@udf`: makes a function of a user's file callable from SQL.

    from udfs.functions import udf

    @udf
    def risk(amount: float, country: str) -> float:
        return amount * (2.0 if country == "XX" else 1.0)

    CREATE FUNCTION risk(amount DOUBLE PRECISION, country VARCHAR)              -- `headrace udfs sql` prints this
    RETURNS STRUCT<value DOUBLE PRECISION, error JSONB> AS 'risk@1' USING LINK '${UDF_URL}';

A function is served as `name@version`, and a version never changes: what it computes is fixed by its source.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, overload

from core.errors import InvalidInputError
from udfs.functions.signature import Signature, read_signature

Errors = Literal["row", "null"]
F = TypeVar("F", bound=Callable[..., Any])

_MARK = "__headrace_udf__"


@dataclass(frozen=True)
class Options:
    """What the decorator was told.

    Attributes:
        name: in SQL and on the server; None takes the function's own.
        version: grows with each change of what it computes.
        batch: the function takes Arrow arrays, one an argument, and returns an array or list of as many values.
        workers: processes that share a batch; 0 runs in the server itself. For work that keeps a processor busy.
        concurrency: how many rows an `async` function is awaited for at a time.
        deadline_seconds: for one row (`batch`: for one batch); a row that takes longer is an error of that row.
        errors: `row`: the result is STRUCT<value, error>; `null`: a failed row is NULL, and only the log tells.
    """

    name: str | None = None
    version: int = 1
    batch: bool = False
    workers: int = 0
    concurrency: int = 64
    deadline_seconds: float = 5.0
    errors: Errors = "row"


@dataclass(frozen=True)
class Definition:
    """A user's function, ready to be served."""

    function: Callable[..., Any]
    signature: Signature
    options: Options
    where: str
    digest: str

    @property
    def name(self) -> str:
        return self.options.name or self.function.__name__

    @property
    def served_as(self) -> str:
        return f"{self.name}@{self.options.version}"

    def create_function(self, link: str = "${UDF_URL}", *, live: bool = False) -> str:
        """The statement that makes it known to the stream database: this version, or by its bare name the live one."""
        signature = self.signature
        named = zip(signature.names, signature.arguments, strict=True)
        arguments = ", ".join(f"{name} {each.sql}" for name, each in named)
        value = signature.result.sql
        returns = value if self.options.errors == "null" else f"STRUCT<value {value}, error JSONB>"
        name = self.name if self.options.version == 1 or live else f"{self.name}_v{self.options.version}"
        served = self.name if live else self.served_as
        return f"CREATE FUNCTION {name}({arguments})\nRETURNS {returns}\nAS '{served}' USING LINK '{link}';"


@overload
def udf(function: F) -> F: ...
@overload
def udf(
    *,
    name: str | None = None,
    version: int = 1,
    batch: bool = False,
    workers: int = 0,
    concurrency: int = 64,
    deadline_seconds: float = 5.0,
    errors: Errors = "row",
) -> Callable[[F], F]: ...
def udf(function: F | None = None, **options: Any) -> F | Callable[[F], F]:  # Any: as declared above
    """Mark a function; it stays what it was for Python. See `Options` for what can be said."""

    def mark(found: F) -> F:
        setattr(found, _MARK, Options(**options))
        return found

    return mark if function is None else mark(function)


def definitions_of(module: Any, where: str) -> list[Definition]:  # Any: a module
    """The marked functions that a module defines, in the order of its lines.

    Raises:
        InvalidInputError: a function has no SQL signature, or options that make no sense.
    """
    tree = ast.parse(inspect.getsource(module))
    found = []
    for value in vars(module).values():
        options = getattr(value, _MARK, None) if inspect.isfunction(value) else None
        if options is not None and value.__module__ == module.__name__:
            found.append(_define(value, options, f"{where}:{value.__code__.co_firstlineno}", tree))
    return sorted(found, key=lambda each: each.function.__code__.co_firstlineno)


def _define(function: Callable[..., Any], options: Options, where: str, tree: ast.Module) -> Definition:
    if options.version < 1 or options.workers < 0 or options.concurrency < 1 or options.deadline_seconds <= 0:
        raise InvalidInputError(f"`{function.__name__}` has an option below its least value", where=where, fix=f"{options}")
    if inspect.iscoroutinefunction(function) and (options.batch or options.workers):
        raise InvalidInputError(
            f"`{function.__name__}` is async, and batch or workers", where=where, fix="Await rows, or compute in processes."
        )
    return Definition(function, read_signature(function, where), options, where, _digest(function.__name__, tree))


def _digest(name: str, tree: ast.Module) -> str:
    """SHA-256 of what a function computes: its own source and the module's, without other marked functions, as syntax trees.

    A marked function that the rest names counts too. Comments, blank lines, docstrings and the module's EXAMPLES do not.
    """
    nodes = [node for node in tree.body if not (_is_text(node) or _is_examples(node))]
    others = [node for node in nodes if _is_other_udf(node, name)]
    left: list[ast.stmt] = []
    while len(left) != len(others):  # until nothing that is kept names one that is left out
        left = others
        kept = [node for node in nodes if node not in left]
        named = {each.id for node in kept for each in ast.walk(node) if isinstance(each, ast.Name)}
        others = [node for node in left if getattr(node, "name", None) not in named]
    kept = [node for node in nodes if node not in others]
    for node in kept:
        body = getattr(node, "body", None)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and body and _is_text(body[0]):
            del body[0]
    told = "\n".join(_canonical(node) for node in kept)
    return hashlib.sha256(told.encode()).hexdigest()


def _canonical(value: Any) -> str:  # Any: a node, or what stands in one
    """A syntax tree as text, the same under every Python: `ast.dump` tells empty fields in some versions and not in others."""
    if isinstance(value, ast.AST):
        fields = [(name, each) for name, each in ast.iter_fields(value) if each not in (None, []) and name != "kind"]
        return f"{type(value).__name__}({', '.join(f'{name}={_canonical(each)}' for name, each in fields)})"
    if isinstance(value, list):
        return f"[{', '.join(map(_canonical, value))}]"
    return repr(value)


def _is_examples(node: ast.stmt) -> bool:
    return isinstance(node, ast.Assign) and any(isinstance(each, ast.Name) and each.id == "EXAMPLES" for each in node.targets)


def _is_other_udf(node: ast.stmt, name: str) -> bool:
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or node.name == name:
        return False
    marks = [each.func if isinstance(each, ast.Call) else each for each in node.decorator_list]
    return any((isinstance(m, ast.Name) and m.id == "udf") or (isinstance(m, ast.Attribute) and m.attr == "udf") for m in marks)


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
