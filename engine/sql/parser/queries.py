"""SELECT, VALUES, WITH and set operations to sqlglot's `exp.Query`."""

from __future__ import annotations

from typing import Final

from sqlglot import exp

from engine.sql.parser import calls, expressions, relations
from engine.sql.parser.stream import TokenStream, mark
from engine.sql.parser.tokens import Token

_SET_OPERATIONS: Final = {"union": exp.Union, "except": exp.Except, "intersect": exp.Intersect}
_QUERY_WORDS: Final = ("select", "with", "values")
_AFTER_QUERY: Final = ("union", "except", "intersect", "order", "limit", "offset", "fetch")


def query(stream: TokenStream) -> exp.Query:
    """Read a whole query with its WITH, ORDER BY, LIMIT and OFFSET."""
    with_ = _with(stream)
    tree = _set_operation(stream, 0)
    if with_ is not None:
        if tree.args.get("with_"):
            tree = exp.Subquery(this=tree)
        tree.set("with_", with_)
    return _modifiers(stream, tree)


def at_query(stream: TokenStream) -> bool:
    """Whether a query is next, in parentheses or not."""
    return stream.at_any(*_QUERY_WORDS) or at_parenthesised_query(stream)


def at_parenthesised_query(stream: TokenStream, ahead: int = 0) -> bool:
    """Whether the parenthesis at `ahead` holds a query, rather than an expression that begins with a subquery."""
    depth = 0
    while stream.at_symbol("(", ahead + depth):
        depth += 1
    if depth == 0:
        return False
    first = stream.peek(ahead + depth)
    if first.kind != "word" or first.value not in _QUERY_WORDS:
        return False
    for inner in range(1, depth):
        after = stream.closing(ahead + inner)
        if after is not None and not _continues_query(after):
            return False
    return True


def parenthesised_query(stream: TokenStream) -> exp.Query:
    """Read `(query)`."""
    stream.expect_symbol("(")
    tree = query(stream)
    stream.expect_symbol(")")
    return tree


def order_by(stream: TokenStream) -> exp.Order | None:
    token = stream.current
    if not stream.accept("order"):
        return None
    stream.expect("by")
    items = [ordered(stream)]
    while stream.accept_symbol(","):
        items.append(ordered(stream))
    return mark(exp.Order(expressions=items), token)


def ordered(stream: TokenStream) -> exp.Ordered:
    """One sort item; `desc` and `nulls_first` are always set, NULLs being largest unless the text says otherwise."""
    token = stream.current
    key = expressions.expression(stream)
    descending = stream.accept("desc")
    if not descending:
        stream.accept("asc")
    nulls_first = descending
    if stream.accept("nulls"):
        nulls_first = stream.at("first")
        if not nulls_first:
            stream.expect("last")
        else:
            stream.advance()
    return mark(exp.Ordered(this=key, desc=descending, nulls_first=nulls_first), token)


def values(stream: TokenStream) -> exp.Values:
    """`VALUES (...), (...)`; DEFAULT is `exp.Var(this="DEFAULT")`."""
    token = stream.expect("values")
    rows = [_values_row(stream)]
    while stream.accept_symbol(","):
        rows.append(_values_row(stream))
    return mark(exp.Values(expressions=rows), token)


def select_items(stream: TokenStream) -> list[exp.Expression]:
    """The list after SELECT or RETURNING: expressions, `exp.Alias`, `exp.Star`."""
    items = [_item(stream)]
    while stream.accept_symbol(","):
        items.append(_item(stream))
    return items


def value_or_default(stream: TokenStream) -> exp.Expression:
    """An expression, or the word DEFAULT as `exp.Var`."""
    if stream.at("default"):
        return mark(exp.Var(this="DEFAULT"), stream.advance())
    return expressions.expression(stream)


# WITH, set operations, modifiers


def _with(stream: TokenStream) -> exp.With | None:
    token = stream.current
    if not stream.accept("with"):
        return None
    recursive = stream.accept("recursive")
    items = [_common_table(stream)]
    while stream.accept_symbol(","):
        items.append(_common_table(stream))
    return mark(exp.With(expressions=items, recursive=recursive or None), token)


def _common_table(stream: TokenStream) -> exp.CTE:
    """`name [(columns)] AS (query)`, or `name AS CHANGELOG FROM relation`, whose `this` is an `exp.Table`."""
    token = stream.current
    alias = exp.TableAlias(this=stream.identifier())
    if stream.accept_symbol("("):
        columns = [stream.identifier()]
        while stream.accept_symbol(","):
            columns.append(stream.identifier())
        stream.expect_symbol(")")
        alias.set("columns", columns)
    stream.expect("as")
    if stream.accept("changelog", "from"):
        node = mark(exp.CTE(this=relations.named_table(stream), alias=alias), token)
        node.meta["changelog"] = True
        return node
    return mark(exp.CTE(this=parenthesised_query(stream), alias=alias), token)


def _set_operation(stream: TokenStream, floor: int) -> exp.Query:
    """UNION and EXCEPT (level 1) associate to the left; INTERSECT (level 2) binds tighter."""
    left = _operand(stream)
    while stream.at_any(*_SET_OPERATIONS):
        level = 2 if stream.at("intersect") else 1
        if level <= floor:
            break
        token = stream.advance()
        distinct = not stream.accept("all")
        if distinct:
            stream.accept("distinct")
        matching, on = _corresponding(stream)
        right = _set_operation(stream, level)
        node = _SET_OPERATIONS[token.value](
            this=left, expression=right, distinct=distinct, by_name=matching or None, on=on or None
        )
        left = mark(node, token)
    return left


def _corresponding(stream: TokenStream) -> tuple[bool, list[exp.Identifier]]:
    if not stream.accept("corresponding"):
        return False, []
    if not stream.accept("by"):
        return True, []
    stream.expect_symbol("(")
    columns = [stream.identifier()]
    while stream.accept_symbol(","):
        columns.append(stream.identifier())
    stream.expect_symbol(")")
    return True, columns


def _operand(stream: TokenStream) -> exp.Query:
    token = stream.current
    if stream.at_symbol("("):
        inner = parenthesised_query(stream)
        return inner if _is_plain(inner) else mark(exp.Subquery(this=inner), token)
    if stream.at("values"):
        return mark(exp.Select(expressions=[exp.Star()], from_=exp.From(this=values(stream))), token)
    if stream.at("select"):
        return _select(stream)
    raise stream.error()


def _is_plain(tree: exp.Query) -> bool:
    """Whether parentheses around a query change nothing."""
    return isinstance(tree, exp.Select) and not any(tree.args.get(key) for key in ("with_", "order", "limit", "offset"))


def _modifiers(stream: TokenStream, tree: exp.Query) -> exp.Query:
    order = order_by(stream)
    if order is not None:
        tree.set("order", order)
    while stream.at_any("limit", "offset", "fetch"):
        key = "offset" if stream.at("offset") else "limit"
        if tree.args.get(key):
            raise stream.error()
        if stream.at("limit"):
            node: exp.Expression | None = _limit(stream)
        elif stream.at("offset"):
            node = _offset(stream)
        else:
            node = _fetch(stream)
        if node is not None:
            tree.set(key, node)
    if stream.at("for") and stream.peek().value in ("update", "share", "no", "key"):
        raise stream.unsupported("row locking (`FOR UPDATE`, `FOR SHARE`) is not supported", fix="Leave the clause out.")
    return tree


def _limit(stream: TokenStream) -> exp.Limit | None:
    token = stream.advance()
    if stream.accept("all") or stream.accept("null"):
        return None
    return mark(exp.Limit(expression=expressions.expression(stream)), token)


def _offset(stream: TokenStream) -> exp.Offset:
    token = stream.advance()
    node = mark(exp.Offset(expression=expressions.expression(stream)), token)
    if stream.at_any("row", "rows"):
        stream.advance()
    return node


def _fetch(stream: TokenStream) -> exp.Fetch:
    """`FETCH FIRST [n] ROWS ONLY | WITH TIES`; `limit_options.with_ties` tells which."""
    token = stream.advance()
    if not stream.at_any("first", "next"):
        raise stream.error()
    stream.advance()
    count = exp.Literal.number(1) if stream.at_any("row", "rows") else expressions.expression(stream)
    if not stream.at_any("row", "rows"):
        raise stream.error()
    stream.advance()
    ties = stream.accept("with", "ties")
    if not ties:
        stream.expect("only")
    return mark(
        exp.Fetch(direction="FIRST", count=count, limit_options=exp.LimitOptions(rows=True, with_ties=ties or None)), token
    )


def _continues_query(token: Token) -> bool:
    if token.kind == "operator":
        return token.value == ")"
    return token.kind == "word" and token.value in _AFTER_QUERY


def _values_row(stream: TokenStream) -> exp.Tuple:
    token = stream.expect_symbol("(")
    items = [value_or_default(stream)]
    while stream.accept_symbol(","):
        items.append(value_or_default(stream))
    stream.expect_symbol(")")
    return mark(exp.Tuple(expressions=items), token)


# SELECT


def _select(stream: TokenStream) -> exp.Select:
    node = mark(exp.Select(), stream.expect("select"))
    node.set("distinct", _distinct(stream))
    node.set("expressions", select_items(stream))
    if stream.at("from"):
        token = stream.advance()
        first, joins = relations.from_list(stream)
        node.set("from_", mark(exp.From(this=first), token))
        if joins:
            node.set("joins", joins)
    if stream.at("where"):
        token = stream.advance()
        node.set("where", mark(exp.Where(this=expressions.expression(stream)), token))
    if stream.at("group"):
        node.set("group", _group(stream))
    if stream.at("having"):
        token = stream.advance()
        node.set("having", mark(exp.Having(this=expressions.expression(stream)), token))
    if stream.at("window"):
        node.set("windows", _windows(stream))
    return node


def _distinct(stream: TokenStream) -> exp.Distinct | None:
    """DISTINCT, or DISTINCT ON (...) with a `Tuple` in `on`."""
    token = stream.current
    if not stream.accept("distinct"):
        stream.accept("all")
        return None
    on = None
    if stream.accept("on"):
        stream.expect_symbol("(")
        on = exp.Tuple(expressions=expressions.expressions(stream))
        stream.expect_symbol(")")
    return mark(exp.Distinct(on=on), token)


def _item(stream: TokenStream) -> exp.Expression:
    token = stream.current
    if stream.at_symbol("*"):
        stream.advance()
        return mark(exp.Star(except_=_except(stream)), token)
    node = expressions.expression(stream)
    if isinstance(node, exp.Column) and isinstance(node.this, exp.Star):
        node.this.set("except_", _except(stream))
        return node
    alias = stream.label() if stream.accept("as") else stream.bare_label()
    return node if alias is None else mark(exp.Alias(this=node, alias=alias), token)


def _except(stream: TokenStream) -> list[exp.Expression] | None:
    """`* EXCEPT (column, ...)`."""
    if not (stream.at("except") and stream.at_symbol("(", 1)) or at_parenthesised_query(stream, 1):
        return None
    stream.advance()
    stream.advance()
    columns = expressions.expressions(stream)
    stream.expect_symbol(")")
    return columns


def _group(stream: TokenStream) -> exp.Group:
    """GROUP BY: plain keys in `expressions`, and lists `grouping_sets`, `rollup`, `cube`, as sqlglot has them."""
    token = stream.expect("group", "by")
    node = exp.Group()
    while True:
        if stream.at("grouping", "sets"):
            node.append("grouping_sets", _grouping_sets(stream))
        elif stream.at_any("rollup", "cube") and stream.at_symbol("(", 1):
            node.append(stream.current.value, _grouping_element(stream))
        else:
            node.append("expressions", _grouping_element(stream))
        if not stream.accept_symbol(","):
            return mark(node, token)


def _grouping_sets(stream: TokenStream) -> exp.GroupingSets:
    token = stream.expect("grouping", "sets")
    stream.expect_symbol("(")
    sets: list[exp.Expression] = []
    while True:
        sets.append(_grouping_sets(stream) if stream.at("grouping", "sets") else _grouping_element(stream))
        if not stream.accept_symbol(","):
            break
    stream.expect_symbol(")")
    return mark(exp.GroupingSets(expressions=sets), token)


def _grouping_element(stream: TokenStream) -> exp.Expression:
    token = stream.current
    if stream.at_any("rollup", "cube") and stream.at_symbol("(", 1):
        kind = exp.Rollup if stream.advance().value == "rollup" else exp.Cube
        stream.expect_symbol("(")
        items = [_grouping_element(stream)]
        while stream.accept_symbol(","):
            items.append(_grouping_element(stream))
        stream.expect_symbol(")")
        return mark(kind(expressions=items), token)
    if stream.at_symbol("(") and stream.at_symbol(")", 1):
        stream.advance()
        stream.advance()
        return mark(exp.Tuple(expressions=[]), token)
    return expressions.expression(stream)


def _windows(stream: TokenStream) -> list[exp.Window]:
    """`WINDOW name AS (...)`: `exp.Window(this=Identifier, ...)`."""
    stream.expect("window")
    items = []
    while True:
        token = stream.current
        name = stream.identifier()
        stream.expect("as")
        items.append(mark(exp.Window(this=name, **calls.window_specification(stream)), token))
        if not stream.accept_symbol(","):
            return items
