"""Scalar expressions, by operator precedence, to sqlglot nodes.

sqlglot's own expression parser is not used: it turns functions into nodes that lose the written name, rewrites operands
(JSON paths, array offsets, intervals), orders some operators differently from PostgreSQL, and keeps no places.

Precedence, loosest first: OR, AND, NOT, IS, comparison, LIKE/IN/BETWEEN, other operators, + -, * / %, ^, AT TIME ZONE,
COLLATE, unary minus, [], ::, `.`.
Source: PostgreSQL documentation, 4.1.6.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sqlglot import exp

from engine.sql.parser import operands, queries
from engine.sql.parser.stream import TokenStream, mark
from engine.sql.parser.tokens import Token

OR, AND, NOT, IS, COMPARISON, LIKE, OTHER, ADDITIVE, MULTIPLICATIVE, POWER, AT, COLLATE, UNARY = range(1, 14)

Build = Callable[[exp.Expression, exp.Expression], exp.Expression]


def _binary(node: type[exp.Expression], *, negated: bool = False) -> Build:
    def build(left: exp.Expression, right: exp.Expression) -> exp.Expression:
        tree = node(this=left, expression=right)
        return exp.Not(this=tree) if negated else tree

    return build


def _named(operator: str) -> Build:
    return lambda left, right: exp.Operator(this=left, operator=operator, expression=right)


_NAMED: Final = ("->", "->>", "#>", "#>>", "#-", "?", "?|", "?&", "@>", "<@", "@?", "@@", "&&", "^@", "<->", "<=>", "<#>")
_BINARY: Final[dict[str, tuple[int, Build]]] = {
    "=": (COMPARISON, _binary(exp.EQ)),
    "<>": (COMPARISON, _binary(exp.NEQ)),
    "!=": (COMPARISON, _binary(exp.NEQ)),
    "<": (COMPARISON, _binary(exp.LT)),
    "<=": (COMPARISON, _binary(exp.LTE)),
    ">": (COMPARISON, _binary(exp.GT)),
    ">=": (COMPARISON, _binary(exp.GTE)),
    "||": (OTHER, _binary(exp.DPipe)),
    "&": (OTHER, _binary(exp.BitwiseAnd)),
    "|": (OTHER, _binary(exp.BitwiseOr)),
    "#": (OTHER, _binary(exp.BitwiseXor)),
    "<<": (OTHER, _binary(exp.BitwiseLeftShift)),
    ">>": (OTHER, _binary(exp.BitwiseRightShift)),
    "~": (OTHER, _binary(exp.RegexpLike)),
    "~*": (OTHER, _binary(exp.RegexpILike)),
    "!~": (OTHER, _binary(exp.RegexpLike, negated=True)),
    "!~*": (OTHER, _binary(exp.RegexpILike, negated=True)),
    "~~": (OTHER, _binary(exp.Like)),
    "~~*": (OTHER, _binary(exp.ILike)),
    "!~~": (OTHER, _binary(exp.Like, negated=True)),
    "!~~*": (OTHER, _binary(exp.ILike, negated=True)),
    "+": (ADDITIVE, _binary(exp.Add)),
    "-": (ADDITIVE, _binary(exp.Sub)),
    "*": (MULTIPLICATIVE, _binary(exp.Mul)),
    # As sqlglot marks a division of typed operands (integers stay integers) that fails on zero.
    "/": (MULTIPLICATIVE, lambda left, right: exp.Div(this=left, expression=right, typed=True, safe=False)),
    "%": (MULTIPLICATIVE, _binary(exp.Mod)),
    "^": (POWER, _binary(exp.Pow)),
    **{operator: (OTHER, _named(operator)) for operator in _NAMED},
}
_PATTERNS: Final[dict[str, type[exp.Expression]]] = {"like": exp.Like, "ilike": exp.ILike}
_NOT_FOLLOWERS: Final = ("like", "ilike", "similar", "between", "in")
_CONSTANTS: Final = {"true": True, "false": False}
_JSON_KINDS: Final = ("value", "array", "object", "scalar")


def expression(stream: TokenStream, floor: int = OR) -> exp.Expression:
    """Read one expression whose operators bind at least as tightly as `floor`."""
    left = _prefix(stream)
    last_level = 0
    while True:
        level = _infix_level(stream)
        if level is None or level < floor:
            return left
        if level == last_level and level in (COMPARISON, LIKE):
            raise stream.error()  # these do not associate: `a < b < c`
        left = _infix(stream, left, level)
        last_level = level


def expressions(stream: TokenStream) -> list[exp.Expression]:
    """A comma-separated list of at least one expression."""
    items = [expression(stream)]
    while stream.accept_symbol(","):
        items.append(expression(stream))
    return items


# Operators between operands


def _infix_level(stream: TokenStream) -> int | None:
    token = stream.current
    if token.kind == "operator":
        known = _BINARY.get(token.value)
        return known[0] if known else None
    if token.kind != "word":
        return None
    match token.value:
        case "or":
            return OR
        case "and":
            return AND
        case "is" | "isnull" | "notnull":
            return IS
        case "like" | "ilike" | "between" | "in":
            return LIKE
        case "similar":
            return LIKE if stream.at("similar", "to") else None
        case "not":
            follower = stream.peek()
            return LIKE if follower.kind == "word" and follower.value in _NOT_FOLLOWERS else None
        case "at":
            return AT if stream.at("at", "time", "zone") else None
        case "collate":
            return COLLATE
        case "operator":
            return OTHER if stream.at_symbol("(", 1) else None
    return None


def _infix(stream: TokenStream, left: exp.Expression, level: int) -> exp.Expression:
    token = stream.advance()
    if token.kind == "operator":
        return mark(_BINARY[token.value][1](left, _right(stream, level)), token)
    match token.value:
        case "or":
            return mark(exp.Or(this=left, expression=expression(stream, level + 1)), token)
        case "and":
            return mark(exp.And(this=left, expression=expression(stream, level + 1)), token)
        case "is":
            return mark(_is(stream, left), token)
        case "isnull":
            return mark(exp.Is(this=left, expression=exp.Null()), token)
        case "notnull":
            return mark(exp.Not(this=exp.Is(this=left, expression=exp.Null())), token)
        case "at":
            stream.expect("time", "zone")
            return mark(exp.AtTimeZone(this=left, zone=expression(stream, level + 1)), token)
        case "collate":
            name = stream.qualified_label()
            return mark(exp.Collate(this=left, expression=name), token)
        case "operator":
            return mark(_operator(stream, left), token)
        case "not":
            return mark(exp.Not(this=_predicate(stream, left, stream.advance())), token)
    return _predicate(stream, left, token)


def _right(stream: TokenStream, level: int) -> exp.Expression:
    """The right operand of a symbol: an expression, or ANY/ALL/SOME over a query or an array."""
    if stream.at_any("any", "all", "some") and stream.at_symbol("(", 1):
        word = stream.advance()
        over = _query_or_expression(stream)
        return mark(exp.All(this=over) if word.value == "all" else exp.Any(this=over), word)
    return expression(stream, level + 1)


def _predicate(stream: TokenStream, left: exp.Expression, word: Token) -> exp.Expression:
    match word.value:
        case "between":
            symmetric = stream.accept("symmetric")
            if not symmetric:
                stream.accept("asymmetric")
            low = expression(stream, OTHER)
            stream.expect("and")
            high = expression(stream, OTHER)
            node: exp.Expression = exp.Between(this=left, low=low, high=high, symmetric=symmetric or None)
        case "in":
            node = _in(stream, left)
        case "similar":
            stream.expect("to")
            node = _escape(stream, exp.SimilarTo(this=left, expression=expression(stream, LIKE + 1)))
        case _:
            node = _escape(stream, _PATTERNS[word.value](this=left, expression=_right(stream, LIKE)))
    return mark(node, word)


def _escape(stream: TokenStream, pattern: exp.Expression) -> exp.Expression:
    if not stream.accept("escape"):
        return pattern
    return exp.Escape(this=pattern, expression=expression(stream, LIKE + 1))


def _in(stream: TokenStream, left: exp.Expression) -> exp.Expression:
    if queries.at_parenthesised_query(stream):
        return exp.In(this=left, query=exp.Subquery(this=queries.parenthesised_query(stream)))
    stream.expect_symbol("(")
    items = expressions(stream)
    stream.expect_symbol(")")
    return exp.In(this=left, expressions=items)


def _is(stream: TokenStream, left: exp.Expression) -> exp.Expression:
    negated = stream.accept("not")
    token = stream.current
    if stream.accept("distinct", "from"):
        node = exp.NullSafeNEQ if not negated else exp.NullSafeEQ
        return node(this=left, expression=expression(stream, IS + 1))
    if stream.accept("null") or stream.accept("unknown"):
        tree: exp.Expression = exp.Is(this=left, expression=exp.Null())
    elif stream.at_any(*_CONSTANTS):
        tree = exp.Is(this=left, expression=exp.Boolean(this=_CONSTANTS[stream.advance().value]))
    elif stream.accept("json"):
        kind = stream.advance().value.upper() if stream.at_any(*_JSON_KINDS) else None
        tree = exp.Is(this=left, expression=exp.JSON(this=kind))
    else:
        raise stream.error()
    return mark(exp.Not(this=mark(tree, token)), token) if negated else tree


def _operator(stream: TokenStream, left: exp.Expression) -> exp.Expression:
    """`a OPERATOR(pg_catalog.~) b`, which psql writes."""
    stream.expect_symbol("(")
    while stream.peek().kind == "operator" and stream.at_symbol(".", 1):
        stream.identifier()
        stream.advance()
    token = stream.advance()
    if token.kind != "operator" or token.value not in _BINARY:
        raise stream.error(token)
    stream.expect_symbol(")")
    return _BINARY[token.value][1](left, _right(stream, OTHER))


def _query_or_expression(stream: TokenStream) -> exp.Expr:
    """`(SELECT ...)` or `(expression)`; the node without its parentheses."""
    if queries.at_parenthesised_query(stream):
        return queries.parenthesised_query(stream)
    stream.expect_symbol("(")
    node = expression(stream)
    stream.expect_symbol(")")
    return node


# Operators before an operand


def _prefix(stream: TokenStream) -> exp.Expression:
    token = stream.current
    if token.kind == "operator":
        match token.value:
            case "-":
                stream.advance()
                return mark(exp.Neg(this=expression(stream, UNARY)), token)
            case "+":
                stream.advance()
                return expression(stream, UNARY)
            case "~":
                stream.advance()
                return mark(exp.BitwiseNot(this=expression(stream, OTHER + 1)), token)
            case "@" | "|/" | "||/":
                stream.advance()
                function = {"@": "abs", "|/": "sqrt", "||/": "cbrt"}[token.value]
                return mark(exp.Anonymous(this=function, expressions=[expression(stream, OTHER + 1)]), token)
    if token.kind == "word" and token.value == "not":
        stream.advance()
        return mark(exp.Not(this=expression(stream, NOT)), token)
    return operands.operand(stream)
