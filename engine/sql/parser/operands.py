"""Operands of expressions: literals, names, calls, constructors, CASE, CAST, subqueries, and the postfixes `::`, `[]` and `.`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sqlglot import exp

from engine.sql.errors import SqlSyntaxError
from engine.sql.parser import calls, expressions, queries
from engine.sql.parser.keywords import INTERVAL_FIELDS, NO_PARENTHESES, NOT_A_COLUMN, RESERVED_FUNCTIONS
from engine.sql.parser.stream import TokenStream, mark
from engine.sql.parser.tokens import Token
from engine.sql.parser.type_syntax import starts_literal, type_name

_CONSTANTS: Final = {"true": True, "false": False}


def operand(stream: TokenStream) -> exp.Expression:
    """Read one operand with its postfixes."""
    return _postfix(stream, _primary(stream))


def _postfix(stream: TokenStream, operand: exp.Expression) -> exp.Expression:
    while True:
        token = stream.current
        if stream.accept_symbol("::"):
            operand = mark(exp.Cast(this=operand, to=type_name(stream)), token)
        elif stream.accept_symbol("["):
            operand = mark(_subscript(stream, operand), token)
        elif stream.at_symbol(".") and isinstance(operand, (exp.Paren, exp.Dot, exp.Bracket, exp.Subquery)):
            stream.advance()
            field = mark(exp.Star(), stream.advance()) if stream.at_symbol("*") else stream.label()
            operand = mark(exp.Dot(this=operand, expression=field), token)
        else:
            return operand


def _subscript(stream: TokenStream, operand: exp.Expression) -> exp.Expression:
    start = None if stream.at_symbol(":") else expressions.expression(stream)
    if stream.accept_symbol(":"):
        stop = None if stream.at_symbol("]") else expressions.expression(stream)
        item: exp.Expression = exp.Slice(this=start, expression=stop)
    else:
        assert start is not None
        item = start
    stream.expect_symbol("]")
    return exp.Bracket(this=operand, expressions=[item])


def _primary(stream: TokenStream) -> exp.Expression:
    token = stream.current
    match token.kind:
        case "number":
            stream.advance()
            return mark(exp.Literal.number(token.value), token)
        case "string":
            stream.advance()
            return mark(exp.Literal.string(token.value), token)
        case "parameter":
            stream.advance()
            return mark(exp.Parameter(this=exp.Literal.number(token.value)), token)
        case "operator" if token.value == "(":
            return _parenthesised(stream)
        case "operator" if token.value == "|":
            return _lambda(stream)
        case "quoted":
            return _reference(stream)
        case "word":
            return _word(stream, token)
    raise stream.error()


def _word(stream: TokenStream, token: Token) -> exp.Expression:
    special = _SPECIAL.get(token.value)
    if special is not None:
        node = special(stream)
        if node is not None:
            return mark(node, token)
    call = calls.special_call(stream)
    if call is not None:
        return call
    if starts_literal(stream):
        type_ = type_name(stream)
        text = stream.current
        literal = mark(exp.Literal.string(stream.string()), text)
        return mark(exp.Cast(this=literal, to=type_), token)
    if token.value in NO_PARENTHESES and not stream.at_symbol("(", 1) and not stream.at_symbol(".", 1):
        stream.advance()
        return mark(exp.Anonymous(this=token.value, expressions=[]), token)
    if token.value in NOT_A_COLUMN and not (token.value in RESERVED_FUNCTIONS and stream.at_symbol("(", 1)):
        raise stream.error()
    return _reference(stream)


def _reference(stream: TokenStream) -> exp.Expression:
    """A column, `t.*`, or a call, with up to three qualifiers."""
    first = stream.current
    parts = [stream.label()]
    while stream.at_symbol("."):
        stream.advance()
        if stream.at_symbol("*"):
            star = mark(exp.Star(), stream.advance())
            return mark(_column(star, parts, first), first)
        parts.append(stream.label())
    if stream.at_symbol("("):
        return calls.call(stream, parts, first)
    return mark(_column(parts[-1], parts[:-1], first), first)


def _column(name: exp.Expression, qualifiers: list[exp.Identifier], first: Token) -> exp.Column:
    if len(qualifiers) > 3:
        written = ".".join(part.name for part in [*qualifiers, name])
        raise SqlSyntaxError(f"improper qualified name (too many dotted names): {written}", position=first.position)
    return exp.Column(this=name, **dict(zip(("table", "db", "catalog"), reversed(qualifiers), strict=False)))


def _parenthesised(stream: TokenStream) -> exp.Expression:
    token = stream.current
    if queries.at_parenthesised_query(stream):
        return mark(exp.Subquery(this=queries.parenthesised_query(stream)), token)
    stream.advance()
    items = expressions.expressions(stream)
    stream.expect_symbol(")")
    return mark(exp.Paren(this=items[0]) if len(items) == 1 else exp.Tuple(expressions=items), token)


def _lambda(stream: TokenStream) -> exp.Expression:
    """`|a, b| body`; the parameters appear in the body as unqualified columns."""
    token = stream.expect_symbol("|")
    parameters = [stream.identifier()]
    while stream.accept_symbol(","):
        parameters.append(stream.identifier())
    stream.expect_symbol("|")
    return mark(exp.Lambda(this=expressions.expression(stream), expressions=parameters), token)


# Words with a syntax of their own: each reads it, or returns None when the word is an ordinary name here


def _constant(stream: TokenStream) -> exp.Expression:
    return exp.Boolean(this=_CONSTANTS[stream.advance().value])


def _null(stream: TokenStream) -> exp.Expression:
    stream.advance()
    return exp.Null()


def _case(stream: TokenStream) -> exp.Expression:
    stream.advance()
    operand = None if stream.at("when") else expressions.expression(stream)
    branches = []
    while stream.at("when"):
        token = stream.advance()
        condition = expressions.expression(stream)
        stream.expect("then")
        branches.append(mark(exp.If(this=condition, true=expressions.expression(stream)), token))
    if not branches:
        raise stream.error()
    default = expressions.expression(stream) if stream.accept("else") else None
    stream.expect("end")
    return exp.Case(this=operand, ifs=branches, default=default)


def _cast(stream: TokenStream) -> exp.Expression:
    stream.advance()
    stream.expect_symbol("(")
    operand = expressions.expression(stream)
    stream.expect("as")
    type_ = type_name(stream)
    stream.expect_symbol(")")
    return exp.Cast(this=operand, to=type_)


def _exists(stream: TokenStream) -> exp.Expression | None:
    if not stream.at_symbol("(", 1):
        return None
    stream.advance()
    if not queries.at_parenthesised_query(stream):
        stream.advance()
        raise stream.error()
    return exp.Exists(this=queries.parenthesised_query(stream))


def _array(stream: TokenStream) -> exp.Expression:
    stream.advance()
    if queries.at_parenthesised_query(stream):
        node = exp.Array(expressions=[queries.parenthesised_query(stream)])
        node.meta["subquery"] = True
        return node
    return _elements(stream)


def _elements(stream: TokenStream) -> exp.Expression:
    """`[1, 2]` or `[[1], [2]]` behind ARRAY."""
    stream.expect_symbol("[")
    items: list[exp.Expression] = []
    while not stream.at_symbol("]"):
        token = stream.current
        items.append(mark(_elements(stream), token) if stream.at_symbol("[") else expressions.expression(stream))
        if not stream.accept_symbol(","):
            break
    stream.expect_symbol("]")
    return exp.Array(expressions=items)


def _row(stream: TokenStream) -> exp.Expression | None:
    if not stream.at_symbol("(", 1):
        return None
    stream.advance()
    stream.advance()
    items = [] if stream.at_symbol(")") else expressions.expressions(stream)
    stream.expect_symbol(")")
    return exp.Tuple(expressions=items)


def _map(stream: TokenStream) -> exp.Expression | None:
    """`MAP {key: value, ...}`."""
    if not stream.at_symbol("{", 1):
        return None
    stream.advance()
    stream.advance()
    keys: list[exp.Expression] = []
    values: list[exp.Expression] = []
    while not stream.at_symbol("}"):
        keys.append(expressions.expression(stream))
        stream.expect_symbol(":")
        values.append(expressions.expression(stream))
        if not stream.accept_symbol(","):
            break
    stream.expect_symbol("}")
    return exp.Map(keys=exp.Array(expressions=keys), values=exp.Array(expressions=values))


def _interval(stream: TokenStream) -> exp.Expression | None:
    """`INTERVAL 'text' [field [TO field]]`; the text is kept as written."""
    if stream.peek().kind != "string":
        return None
    stream.advance()
    text = stream.current
    literal = mark(exp.Literal.string(stream.string()), text)
    unit: exp.Expression | None = None
    if stream.at_any(*INTERVAL_FIELDS):
        unit = exp.Var(this=stream.advance().value.upper())
        if stream.at("to") and stream.peek().value in INTERVAL_FIELDS:
            stream.advance()
            unit = exp.IntervalSpan(this=unit, expression=exp.Var(this=stream.advance().value.upper()))
    return exp.Interval(this=literal, unit=unit)


_SPECIAL: Final[dict[str, Callable[[TokenStream], exp.Expression | None]]] = {
    "array": _array,
    "case": _case,
    "cast": _cast,
    "exists": _exists,
    "false": _constant,
    "interval": _interval,
    "map": _map,
    "null": _null,
    "row": _row,
    "true": _constant,
}
