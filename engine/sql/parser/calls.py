"""Function calls: one uniform node for every function, and the wrappers that aggregates and windows need.

Every function, scalar, aggregate, window or table function, built-in or not, is
`exp.Anonymous(this="lower_case_name", expressions=[arguments])`. The SQL standard's calls with key words between the
arguments become ordinary calls, as in PostgreSQL:

| written | call |
|---|---|
| `EXTRACT(year FROM x)` | `extract('year', x)` |
| `TRIM([BOTH] [c FROM] x)`, `TRIM(LEADING ...)`, `TRIM(TRAILING ...)` | `trim(x[, c])`, `ltrim(x[, c])`, `rtrim(x[, c])` |
| `SUBSTRING(x FROM a FOR b)` | `substring(x, a, b)` |
| `POSITION(a IN x)` | `position(x, a)`: the string first |
| `OVERLAY(x PLACING y FROM a FOR b)` | `overlay(x, y, a, b)` |
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from sqlglot import exp

from engine.sql.parser import expressions, queries
from engine.sql.parser.stream import TokenStream, mark
from engine.sql.parser.tokens import Token

_EXCLUSIONS: Final = ("current row", "no others", "group", "ties")


@dataclass(frozen=True)
class FunctionCall:
    """A call taken apart; `read_call` makes one from a tree.

    Attributes:
        name: folded unless it was quoted.
        arguments: without DISTINCT, VARIADIC and ORDER BY wrappers; `count(*)` has one `exp.Star`.
        schema: the written qualifier, or None.
        distinct, variadic, ignore_nulls: whether these words were written.
        order: ORDER BY inside the parentheses (empty when there is none).
        within_group: ORDER BY of WITHIN GROUP.
        where: the condition of FILTER, or None.
        window: the `exp.Window` around the call, or None.
        as_aggregate: the call was written `AGGREGATE:name(...)`.
    """

    name: str
    arguments: tuple[exp.Expression, ...]
    schema: str | None = None
    distinct: bool = False
    variadic: bool = False
    ignore_nulls: bool = False
    order: tuple[exp.Ordered, ...] = ()
    within_group: tuple[exp.Ordered, ...] = ()
    where: exp.Expression | None = None
    window: exp.Window | None = None
    as_aggregate: bool = False
    position: int | None = None
    names: tuple[str | None, ...] = field(default=())
    """For each argument the name of `name => value`, or None."""


def read_call(node: exp.Expr) -> FunctionCall | None:
    """Take a call with its wrappers apart; None when the node is no call."""
    window = where = None
    within: tuple[exp.Ordered, ...] = ()
    ignore_nulls = False
    while not isinstance(node, exp.Anonymous):
        if isinstance(node, exp.Window):
            window = node
        elif isinstance(node, exp.Filter):
            where = node.expression.this
        elif isinstance(node, exp.WithinGroup):
            within = tuple(node.expression.expressions)
        elif isinstance(node, exp.IgnoreNulls):
            ignore_nulls = True
        elif not isinstance(node, exp.RespectNulls):
            return None
        node = node.this
    arguments = list(node.expressions)
    order: tuple[exp.Ordered, ...] = ()
    distinct = variadic = False
    if arguments and isinstance(arguments[-1], exp.Order):
        order = tuple(arguments[-1].expressions)
        arguments[-1] = arguments[-1].this
    if arguments and isinstance(arguments[0], exp.Distinct):
        distinct = True
        arguments = list(arguments[0].expressions)
    if arguments and isinstance(arguments[-1], exp.Variadic):
        variadic = True
        arguments[-1] = arguments[-1].this
    names = tuple(argument.name if isinstance(argument, exp.Kwarg) else None for argument in arguments)
    return FunctionCall(
        name=node.this,
        arguments=tuple(argument.expression if isinstance(argument, exp.Kwarg) else argument for argument in arguments),
        schema=node.meta.get("schema"),
        distinct=distinct,
        variadic=variadic,
        ignore_nulls=ignore_nulls,
        order=order,
        within_group=within,
        where=where,
        window=window,
        as_aggregate=bool(node.meta.get("aggregate")),
        position=node.meta.get("position"),
        names=names if any(names) else (),
    )


def call(stream: TokenStream, parts: list[exp.Identifier], first: Token) -> exp.Expression:
    """Read the arguments of the named function and what may follow them."""
    node = mark(exp.Anonymous(this=parts[-1].name), first)
    if len(parts) > 1:
        node.meta["schema"] = ".".join(part.name for part in parts[:-1])
    stream.expect_symbol("(")
    node.set("expressions", _arguments(stream))
    nulls = _nulls(stream)
    stream.expect_symbol(")")
    return _suffixes(stream, nulls(this=node) if nulls else node, first)


def special_call(stream: TokenStream) -> exp.Expression | None:
    """A call with key words between its arguments, if one is next."""
    token = stream.current
    if token.value == "aggregate" and stream.at_symbol(":", 1):
        return _as_aggregate(stream)
    parser = _KEYWORD_CALLS.get(token.value)
    if parser is None or not stream.at_symbol("(", 1):
        return None
    stream.advance()
    stream.advance()
    name, arguments = parser(stream)
    stream.expect_symbol(")")
    return mark(exp.Anonymous(this=name or token.value, expressions=arguments), token)


def window_specification(stream: TokenStream) -> dict[str, object]:
    """`([name] [PARTITION BY ...] [ORDER BY ...] [frame])` as arguments of `exp.Window`."""
    stream.expect_symbol("(")
    base = None
    if stream.at_name() and not stream.at_any("partition", "rows", "range", "groups", "session"):
        base = stream.identifier()
    partition = expressions.expressions(stream) if stream.accept("partition", "by") else None
    order = queries.order_by(stream)
    frame = _frame(stream)
    stream.expect_symbol(")")
    return {"alias": base, "partition_by": partition, "order": order, "spec": frame}


# Arguments and suffixes


def _arguments(stream: TokenStream) -> list[exp.Expression]:
    if stream.at_symbol("*"):
        return [mark(exp.Star(), stream.advance())]
    if stream.at_symbol(")"):
        return []
    distinct = stream.accept("distinct")
    if not distinct:
        stream.accept("all")
    arguments = [_argument(stream)]
    while stream.accept_symbol(","):
        arguments.append(_argument(stream))
    order = queries.order_by(stream)
    if distinct:
        arguments = [exp.Distinct(expressions=arguments)]
    if order is not None:
        order.set("this", arguments[-1])
        arguments[-1] = order
    return arguments


def _argument(stream: TokenStream) -> exp.Expression:
    token = stream.current
    if stream.accept("variadic"):
        return mark(exp.Variadic(this=expressions.expression(stream)), token)
    if stream.at_name() and (stream.at_symbol("=>", 1) or stream.at_symbol(":=", 1)):
        name = stream.identifier()
        stream.advance()
        return mark(exp.Kwarg(this=name, expression=expressions.expression(stream)), token)
    return expressions.expression(stream)


def _nulls(stream: TokenStream) -> type[exp.Expression] | None:
    if stream.accept("ignore", "nulls"):
        return exp.IgnoreNulls
    if stream.accept("respect", "nulls"):
        return exp.RespectNulls
    return None


def _suffixes(stream: TokenStream, node: exp.Expression, first: Token) -> exp.Expression:
    if stream.at("within", "group"):
        stream.advance()
        stream.advance()
        stream.expect_symbol("(")
        order = queries.order_by(stream)
        if order is None:
            raise stream.error()
        stream.expect_symbol(")")
        node = mark(exp.WithinGroup(this=node, expression=order), first)
    if stream.at("filter") and stream.at_symbol("(", 1):
        stream.advance()
        stream.expect_symbol("(")
        where = stream.expect("where")
        condition = mark(exp.Where(this=expressions.expression(stream)), where)
        stream.expect_symbol(")")
        node = mark(exp.Filter(this=node, expression=condition), first)
    nulls = _nulls(stream)
    if nulls is not None:
        node = mark(nulls(this=node), first)
    if stream.at("over") and (stream.at_symbol("(", 1) or stream.peek().kind in ("word", "quoted")):
        stream.advance()
        arguments = window_specification(stream) if stream.at_symbol("(") else {"alias": stream.identifier()}
        node = mark(exp.Window(this=node, over="OVER", **arguments), first)
    return node


def _frame(stream: TokenStream) -> exp.WindowSpec | None:
    """A frame clause.

    `ROWS`, `RANGE`, `GROUPS`: `WindowSpec(kind, start, start_side, end, end_side, exclude)` as sqlglot has it: `start` is
    `"UNBOUNDED"`, `"CURRENT ROW"` or an expression, the side `"PRECEDING"` or `"FOLLOWING"`; `end` is `"CURRENT ROW"` when not
    written. `SESSION WITH GAP g`: `WindowSpec(kind="SESSION", start=g, start_side="GAP")`.
    """
    token = stream.current
    if stream.accept("session", "with", "gap"):
        spec = exp.WindowSpec(kind="SESSION", start=expressions.expression(stream), start_side="GAP")
    elif stream.at_any("rows", "range", "groups"):
        kind = stream.advance().value.upper()
        between = stream.accept("between")
        start, start_side = _bound(stream)
        end: str | exp.Expression = "CURRENT ROW"
        end_side = None
        if between:
            stream.expect("and")
            end, end_side = _bound(stream)
        spec = exp.WindowSpec(kind=kind, start=start, start_side=start_side, end=end, end_side=end_side)
    else:
        return None
    if stream.accept("exclude"):
        for words in _EXCLUSIONS:
            if stream.accept(*words.split()):
                spec.set("exclude", exp.Var(this=words.upper()))
                break
        else:
            raise stream.error()
    return mark(spec, token)


def _bound(stream: TokenStream) -> tuple[str | exp.Expression, str | None]:
    if stream.accept("current", "row"):
        return "CURRENT ROW", None
    value: str | exp.Expression = "UNBOUNDED" if stream.accept("unbounded") else expressions.expression(stream)
    if not stream.at_any("preceding", "following"):
        raise stream.error()
    return value, stream.advance().value.upper()


def _as_aggregate(stream: TokenStream) -> exp.Expression:
    """`AGGREGATE:array_sum(v)`: an array function used as an aggregate."""
    first = stream.advance()
    stream.expect_symbol(":")
    parts = [stream.label()]
    while stream.accept_symbol("."):
        parts.append(stream.label())
    node = call(stream, parts, first)
    inner: exp.Expression = node
    while not isinstance(inner, exp.Anonymous):
        inner = inner.this
    inner.meta["aggregate"] = True
    return node


# Calls with key words; each starts after the opening parenthesis and returns the name (None: as written) and arguments


def _extract(stream: TokenStream) -> tuple[str | None, list[exp.Expression]]:
    token = stream.current
    if token.kind not in ("word", "quoted", "string"):
        raise stream.error()
    stream.advance()
    stream.expect("from")
    return None, [mark(exp.Literal.string(token.value), token), expressions.expression(stream)]


def _trim(stream: TokenStream) -> tuple[str | None, list[exp.Expression]]:
    name = "trim"
    if stream.at_any("both", "leading", "trailing"):
        name = {"both": "trim", "leading": "ltrim", "trailing": "rtrim"}[stream.advance().value]
    characters = None if stream.at("from") else expressions.expression(stream)
    if not stream.accept("from"):
        assert characters is not None
        more = [characters]
        while stream.accept_symbol(","):
            more.append(expressions.expression(stream))
        return name, more
    text = expressions.expression(stream)
    return name, [text] if characters is None else [text, characters]


def _substring(stream: TokenStream) -> tuple[str | None, list[exp.Expression]]:
    arguments = [expressions.expression(stream)]
    if stream.accept("from"):
        arguments.append(expressions.expression(stream))
        if stream.accept("for"):
            arguments.append(expressions.expression(stream))
    elif stream.accept("for"):
        arguments += [exp.Literal.number(1), expressions.expression(stream)]
    else:
        while stream.accept_symbol(","):
            arguments.append(expressions.expression(stream))
    return None, arguments


def _position(stream: TokenStream) -> tuple[str | None, list[exp.Expression]]:
    part = expressions.expression(stream, expressions.OTHER)
    if stream.accept_symbol(","):
        return None, [part, expressions.expression(stream)]
    stream.expect("in")
    return None, [expressions.expression(stream), part]


def _overlay(stream: TokenStream) -> tuple[str | None, list[exp.Expression]]:
    arguments = [expressions.expression(stream)]
    if not stream.accept("placing"):
        while stream.accept_symbol(","):
            arguments.append(expressions.expression(stream))
        return None, arguments
    arguments.append(expressions.expression(stream))
    stream.expect("from")
    arguments.append(expressions.expression(stream))
    if stream.accept("for"):
        arguments.append(expressions.expression(stream))
    return None, arguments


_KEYWORD_CALLS: Final[dict[str, Callable[[TokenStream], tuple[str | None, list[exp.Expression]]]]] = {
    "extract": _extract,
    "overlay": _overlay,
    "position": _position,
    "substring": _substring,
    "trim": _trim,
}
