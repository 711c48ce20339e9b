"""Bound scalar expressions: names resolved, types known, functions chosen.

Frozen and compared by value, so that `GROUP BY a + 1` finds `a + 1` in the SELECT list, and one call of a UDF that is
written twice is made once. `render` writes DuckDB SQL; a column is `c<index>` of the input, and the caller may give the
input's alias.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal

from engine.sql.intervals import Interval
from engine.sql.numeric import from_decimal
from engine.sql.types import BOOL, SqlType

Render = Callable[..., str]


@dataclass(frozen=True)
class Expr:
    """Base of all bound expressions."""

    type: SqlType

    def children(self) -> tuple[Expr, ...]:
        return ()

    def replace_children(self, _children: tuple[Expr, ...]) -> Expr:
        return self


@dataclass(frozen=True)
class Column(Expr):
    """The column at `index` of the operator's input."""

    index: int


@dataclass(frozen=True)
class OuterColumn(Expr):
    """Inside a subquery: the `index`-th of the expressions that it takes from the query around it."""

    index: int


@dataclass(frozen=True)
class LambdaParameter(Expr):
    """The element inside the body of a lambda; `name` is unique among the lambdas around it."""

    name: str

    @property
    def sql(self) -> str:
        return quote_identifier(self.name)


@dataclass(frozen=True)
class Literal(Expr):
    """A constant; `value` is a Python value that fits the type, or None."""

    value: object

    def __hash__(self) -> int:
        # A list or a dict is a value too, and an expression is a key wherever equal ones are computed once.
        return hash((self.type, repr(self.value)))


@dataclass(frozen=True)
class Parameter(Expr):
    """`$n` while a statement is prepared; replaced by a literal before it runs."""

    number: int


@dataclass(frozen=True)
class Call(Expr):
    """A built-in scalar function or operator. `template` has one `{i}` an argument."""

    name: str
    args: tuple[Expr, ...]
    template: str = field(compare=False, default="")
    volatile: bool = False

    def children(self) -> tuple[Expr, ...]:
        return self.args

    def replace_children(self, children: tuple[Expr, ...]) -> Expr:
        return Call(self.type, self.name, children, self.template, self.volatile)


@dataclass(frozen=True)
class Cast(Expr):
    arg: Expr

    def children(self) -> tuple[Expr, ...]:
        return (self.arg,)

    def replace_children(self, children: tuple[Expr, ...]) -> Expr:
        return Cast(self.type, children[0])


@dataclass(frozen=True)
class Case(Expr):
    """Searched CASE; `branches` are (condition, value) pairs."""

    branches: tuple[tuple[Expr, Expr], ...]
    default: Expr | None

    def children(self) -> tuple[Expr, ...]:
        flat = tuple(part for branch in self.branches for part in branch)
        return (*flat, self.default) if self.default is not None else flat

    def replace_children(self, children: tuple[Expr, ...]) -> Expr:
        pairs = len(self.branches) * 2
        branches = tuple((children[i], children[i + 1]) for i in range(0, pairs, 2))
        return Case(self.type, branches, children[pairs] if self.default is not None else None)


@dataclass(frozen=True)
class FieldAccess(Expr):
    """`(struct).name`."""

    arg: Expr
    name: str

    def children(self) -> tuple[Expr, ...]:
        return (self.arg,)

    def replace_children(self, children: tuple[Expr, ...]) -> Expr:
        return FieldAccess(self.type, children[0], self.name)


@dataclass(frozen=True)
class UdfCall(Expr):
    """A call of a user's function on a server; computed by an operator of its own, once a distinct call and row."""

    function: str
    link: str
    args: tuple[Expr, ...]

    def children(self) -> tuple[Expr, ...]:
        return self.args

    def replace_children(self, children: tuple[Expr, ...]) -> Expr:
        return UdfCall(self.type, self.function, self.link, children)

    @property
    def stored_name(self) -> str:
        """What DuckDB knows the function by, for queries; an epoch calls it through an operator instead."""
        return udf_name(self.link, self.function, tuple(arg.type for arg in self.args), self.type)


def udf_name(link: str, function: str, types: tuple[SqlType, ...], returns: SqlType) -> str:
    """A name that stands for the function with these types."""
    signature = "\0".join((link, function, returns.sql, *(type_.sql for type_ in types)))
    return f"hr_udf_{hashlib.sha256(signature.encode()).hexdigest()[:16]}"


@dataclass(frozen=True)
class SetValue(Expr):
    """An element of a set-returning function's list, while a SELECT list is bound; becomes a column of a ProjectSet node."""

    call: Expr

    def children(self) -> tuple[Expr, ...]:
        return (self.call,)

    def replace_children(self, children: tuple[Expr, ...]) -> Expr:
        return SetValue(self.type, children[0])


@dataclass(frozen=True)
class OrderKey:
    """One key of an ORDER BY; PostgreSQL's default is NULLs last when ascending, first when descending."""

    expr: Expr
    descending: bool = False
    nulls_first: bool = False


@dataclass(frozen=True)
class AggregateCall(Expr):
    """An aggregate; appears only while a SELECT is bound, then becomes a column of the Aggregate node."""

    name: str
    args: tuple[Expr, ...]
    distinct: bool = False
    filter: Expr | None = None
    order_by: tuple[OrderKey, ...] = ()

    def children(self) -> tuple[Expr, ...]:
        extra = (self.filter,) if self.filter is not None else ()
        return (*self.args, *extra, *(key.expr for key in self.order_by))

    def replace_children(self, children: tuple[Expr, ...]) -> Expr:
        n = len(self.args)
        rest = list(children[n:])
        filter_ = rest.pop(0) if self.filter is not None else None
        order = tuple(OrderKey(e, k.descending, k.nulls_first) for e, k in zip(rest, self.order_by, strict=True))
        return AggregateCall(self.type, self.name, children[:n], self.distinct, filter_, order)


@dataclass(frozen=True)
class WindowCall(Expr):
    """A window function or windowed aggregate; becomes a column of the Over node. `frame` is DuckDB text or empty."""

    name: str
    args: tuple[Expr, ...]
    partition_by: tuple[Expr, ...]
    order_by: tuple[OrderKey, ...]
    frame: str = ""
    filter: Expr | None = None
    ignore_nulls: bool = False
    gap: Expr | None = None
    """The constant of `SESSION WITH GAP`."""

    def children(self) -> tuple[Expr, ...]:
        extra = (self.filter,) if self.filter is not None else ()
        return (*self.args, *self.partition_by, *(key.expr for key in self.order_by), *extra)

    def replace_children(self, children: tuple[Expr, ...]) -> Expr:
        rest = list(children)
        args = tuple(rest.pop(0) for _ in self.args)
        partition = tuple(rest.pop(0) for _ in self.partition_by)
        order = tuple(OrderKey(rest.pop(0), key.descending, key.nulls_first) for key in self.order_by)
        filter_ = rest.pop(0) if self.filter is not None else None
        return WindowCall(self.type, self.name, args, partition, order, self.frame, filter_, self.ignore_nulls, self.gap)


def walk(expr: Expr) -> Iterator[Expr]:
    """The expression and all below it, parents first."""
    yield expr
    for child in expr.children():
        yield from walk(child)


def transform(expr: Expr, change: Callable[[Expr], Expr | None]) -> Expr:
    """Rewrite top down: where `change` returns an expression it replaces the whole subtree."""
    changed = change(expr)
    if changed is not None:
        return changed
    children = expr.children()
    if not children:
        return expr
    return expr.replace_children(tuple(transform(child, change) for child in children))


def shift(expr: Expr, by: int) -> Expr:
    """Move every column reference by `by` places."""
    return transform(expr, lambda e: Column(e.type, e.index + by) if isinstance(e, Column) else None)


def columns_of(expr: Expr) -> set[int]:
    return {e.index for e in walk(expr) if isinstance(e, Column)}


def is_volatile(expr: Expr) -> bool:
    """Whether the same row may give another answer next time."""
    return any(isinstance(e, UdfCall) or (isinstance(e, Call) and e.volatile) for e in walk(expr))


def conjuncts(expr: Expr) -> list[Expr]:
    """`a AND (b AND c)` as [a, b, c]."""
    if isinstance(expr, Call) and expr.name == "and":
        return [part for arg in expr.args for part in conjuncts(arg)]
    return [expr]


def conjunction(parts: list[Expr]) -> Expr | None:
    """All of them joined by AND, as a tree of little depth."""
    if len(parts) < 2:
        return parts[0] if parts else None
    half = len(parts) // 2
    left, right = conjunction(parts[:half]), conjunction(parts[half:])
    assert left is not None
    assert right is not None
    return Call(BOOL, "and", (left, right), "({0} AND {1})")


def quote_identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def quote_string(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def render_literal(value: object, type_: SqlType) -> str:
    """A DuckDB constant of the type's physical form."""
    target = type_.duckdb
    if value is None:
        return f"CAST(NULL AS {target})"
    if isinstance(value, bool):
        return "true" if value else "false"
    if type_.name == "numeric" and isinstance(value, int | Decimal | float):
        return f"CAST({_numeric_key(value)} AS {target})"
    if isinstance(value, int):
        return f"CAST({value} AS {target})"
    if isinstance(value, Decimal):
        return f"CAST('{value}' AS {target})"
    if isinstance(value, float):
        return f"CAST('{value!r}' AS {target})"
    if isinstance(value, bytes | bytearray):
        return "CAST('" + "".join(f"\\x{byte:02X}" for byte in value) + "' AS BLOB)"
    if isinstance(value, dt.datetime):
        if value.tzinfo is not None:
            value = value.astimezone(dt.UTC).replace(tzinfo=None)
        return f"TIMESTAMP '{value.isoformat(sep=' ')}'"
    if isinstance(value, dt.date):
        return f"DATE '{value.isoformat()}'"
    if isinstance(value, dt.time):
        return f"TIME '{value.isoformat()}'"
    if isinstance(value, Interval):
        return value.duckdb
    if isinstance(value, dt.timedelta):
        return f"to_microseconds({value // dt.timedelta(microseconds=1)})"
    if isinstance(value, dict):
        fields = (f'"{name}" := {render_literal(value.get(name), field)}' for name, field in type_.fields)
        return f"struct_pack({', '.join(fields)})"
    if isinstance(value, list | tuple):
        element = type_.element
        assert element is not None
        return f"CAST([{', '.join(render_literal(item, element) for item in value)}] AS {target})"
    text = quote_string(str(value))
    return text if target == "VARCHAR" else f"CAST({text} AS {target})"


def _numeric_key(value: int | Decimal | float) -> int:
    return from_decimal(value if isinstance(value, Decimal) else Decimal(str(value)))


def render_order(key: OrderKey, render_expr: Callable[[Expr], str]) -> str:
    direction = "DESC" if key.descending else "ASC"
    nulls = "NULLS FIRST" if key.nulls_first else "NULLS LAST"
    return f"{render_expr(key.expr)} {direction} {nulls}"


def render(expr: Expr, alias: str | Callable[[int], str] = "") -> str:
    """Write `expr` as DuckDB SQL over an input with columns c0, c1 ...

    Args:
        expr: bound; must hold no aggregate or window call (those belong to operators).
        alias: the input's alias, or a function from column index to SQL.
    """
    if callable(alias):
        name_of = alias
    else:
        prefix = f"{alias}." if alias else ""

        def name_of(index: int) -> str:
            return f"{prefix}c{index}"

    return _render(expr, name_of)


def _render(expr: Expr, name_of: Callable[[int], str]) -> str:
    if isinstance(expr, Column):
        return name_of(expr.index)
    if isinstance(expr, Literal):
        return render_literal(expr.value, expr.type)
    if isinstance(expr, Parameter):
        return render_literal(None, expr.type)  # only while a statement is prepared, to find out its types
    if isinstance(expr, Call):
        args = [_render(arg, name_of) for arg in expr.args]
        return expand_template(expr.template, args)
    if isinstance(expr, Cast):
        from engine.functions.casts import render_cast

        return render_cast(_render(expr.arg, name_of), expr.arg.type, expr.type)
    if isinstance(expr, Case):
        branches = " ".join(f"WHEN {_render(when, name_of)} THEN {_render(then, name_of)}" for when, then in expr.branches)
        default = f" ELSE {_render(expr.default, name_of)}" if expr.default is not None else ""
        return f"(CASE {branches}{default} END)"
    if isinstance(expr, LambdaParameter):
        return expr.sql
    if isinstance(expr, FieldAccess):
        return f"struct_extract({_render(expr.arg, name_of)}, {quote_string(expr.name)})"
    if isinstance(expr, UdfCall):
        # DuckDB tells a function that takes nothing neither how many rows there are, nor calls it for each of them.
        passed = ", ".join(_render(arg, name_of) for arg in expr.args) or "CAST(random() AS DOUBLE)"
        return f"CAST({expr.stored_name}({passed}) AS {expr.type.duckdb})"
    raise AssertionError(f"`{type(expr).__name__}` belongs to an operator and cannot be rendered as a scalar")


def expand_template(template: str, args: list[str]) -> str:
    """Fill `{0}`, `{1}` ... and `{*}` (all, comma separated)."""
    if template == "{*}" or "{*}" in template:
        template = template.replace("{*}", ", ".join(f"{{{i}}}" for i in range(len(args))))
    out: list[str] = []
    rest = template
    while rest:
        head, brace, tail = rest.partition("{")
        out.append(head)
        if not brace:
            break
        number, _, rest = tail.partition("}")
        out.append(args[int(number)])
    return "".join(out)


def literal_value(expr: Expr) -> object:
    """The value of a constant expression of the plain kind (a literal, or a cast of one); raises ValueError otherwise."""
    if isinstance(expr, Literal):
        return expr.value
    if isinstance(expr, Cast):
        return literal_value(expr.arg)
    raise ValueError("not a constant")


_TRY = "try"
_INFALLIBLE = frozenset(
    {
        *("=", "<>", "<", "<=", ">", ">=", "and", "or", "not", "||", "coalesce", "nullif", "greatest", "least", "concat"),
        *("lower", "upper", "length", "md5", "array", "row", "subscript", "starts_with"),
        *("jsonb_build_array", "to_jsonb", "is null", "is true", "is false", "is distinct from", "is not distinct from"),
    }
)


def fallible(expr: Expr) -> bool:
    """Whether evaluating it may raise an error on some row (a bad cast, a division by zero, an overflow)."""
    if isinstance(expr, Call) and expr.name == _TRY:
        return False
    return _fails(expr) or any(fallible(child) for child in expr.children())


def _fails(expr: Expr) -> bool:
    """Whether this step may, its arguments being good."""
    if isinstance(expr, Call):
        if expr.name == "like" and len(expr.args) == 2 and isinstance(expr.args[1], Literal):
            return str(expr.args[1].value).endswith("\\")
        return expr.name not in _INFALLIBLE and not (expr.type.name.startswith("float") and expr.name in ("+", "-", "*"))
    if isinstance(expr, Cast):
        source, target = expr.arg.type, expr.type
        widening = source.is_numeric and target.is_numeric and source.rank <= target.rank
        return not widening and target.name != "varchar" and not isinstance(expr.arg, Literal)
    return False


def lenient(expr: Expr) -> Expr:
    """The same, with NULL where a step fails on a row.

    Every step that may fail has a TRY of its own: were there one around the whole, DuckDB would compute what two of them have
    in common before both, without any.
    """
    if not fallible(expr):
        return expr
    if any(isinstance(e, LambdaParameter) for e in walk(expr)):
        return expr if is_volatile(expr) else _tried(expr)
    inner = expr.replace_children(tuple(lenient(child) for child in expr.children()))
    # DuckDB allows no TRY around what is volatile.
    return _tried(inner) if _fails(expr) and not is_volatile(inner) else inner


def _tried(expr: Expr) -> Expr:
    return Call(expr.type, _TRY, (expr,), "TRY({0})")


def render_lenient(expr: Expr, alias: str | Callable[[int], str] = "") -> str:
    """As `render`, but an error on a row makes the value NULL, as in RisingWave's streaming jobs: a view must not stand still
    because of one row."""
    return render(lenient(expr), alias)
