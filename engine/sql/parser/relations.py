"""The FROM clause: tables, subqueries, table functions and joins.

| written | tree |
|---|---|
| `a.b.t AS x (c, d)` | `Table(this=t, db=b, catalog=a, alias=TableAlias(this=x, columns=[c, d]))` |
| `t FOR SYSTEM_TIME AS OF PROCTIME()` | the same with `version=Version(this="TIMESTAMP", kind="AS OF", expression=...)` |
| `f(x) WITH ORDINALITY AS y`, `TUMBLE(t, c, i)`, `unnest(a)` | `Table(this=Anonymous(...), ordinality=True, alias=...)` |
| `(query) AS x` | `Subquery(this=query, alias=...)` |
| `(VALUES ...) AS x (a)` | `Values(expressions=[Tuple, ...], alias=...)` |
| `LATERAL (query) AS x`, `LATERAL f(x)` | `Lateral(this=Subquery or Anonymous, alias=..., ordinality=...)` |
| `(a JOIN b ON ...)` | `Paren(this=a)`, where `a` has the arg `joins` |

`joins` of the SELECT is a left-deep list of `Join(this=..., on=... | using=[Identifier] | method="NATURAL", side="LEFT" | "RIGHT"
| "FULL", kind="CROSS")`: a comma is a CROSS join, INNER and OUTER are not kept. `method` is `"ASOF"` for ASOF joins. Where a comma
and a RIGHT or FULL join meet, the joined items are one parenthesised item, because JOIN binds tighter than the comma.
"""

from __future__ import annotations

from sqlglot import exp

from engine.sql.errors import SqlSyntaxError
from engine.sql.parser import calls, expressions, queries
from engine.sql.parser.keywords import INTERVAL_FIELDS
from engine.sql.parser.stream import TokenStream, mark
from engine.sql.parser.type_syntax import type_name


def from_list(stream: TokenStream) -> tuple[exp.Expression, list[exp.Join]]:
    """Read the items after FROM; the first one, and what is joined to it."""
    first, joins = _item(stream)
    while stream.at_symbol(","):
        token = stream.advance()
        item, own = _item(stream)
        if any(join.args.get("side") in ("RIGHT", "FULL") for join in own):
            item, own = _wrapped(item, own), []
        joins.append(mark(exp.Join(this=item, kind="CROSS"), token))
        joins.extend(own)
    return first, joins


def named_table(stream: TokenStream) -> exp.Table:
    """`[[database.]schema.]name` without an alias."""
    first = stream.current
    parts = [stream.identifier()]
    while stream.accept_symbol("."):
        parts.append(stream.label())
    if len(parts) > 3:
        written = ".".join(part.name for part in parts)
        raise SqlSyntaxError(f"improper qualified name (too many dotted names): {written}", position=first.position)
    return mark(exp.Table(**dict(zip(("this", "db", "catalog"), reversed(parts), strict=False))), first)


def _item(stream: TokenStream) -> tuple[exp.Expression, list[exp.Join]]:
    """A primary and the joins that follow it."""
    item = _primary(stream)
    joins: list[exp.Join] = []
    while (join := _join(stream)) is not None:
        joins.append(join)
    return item, joins


def _wrapped(item: exp.Expression, joins: list[exp.Join]) -> exp.Expression:
    item.set("joins", joins)
    return exp.Paren(this=item)


def _at_join(stream: TokenStream) -> bool:
    return stream.at_any("join", "inner", "left", "right", "full", "cross", "natural") or (
        stream.at("asof") and stream.peek().value in ("join", "inner", "left")
    )


def _join(stream: TokenStream) -> exp.Join | None:
    if not _at_join(stream):
        return None
    token = stream.current
    node = exp.Join()
    if stream.at_any("natural", "asof"):
        node.set("method", stream.advance().value.upper())
    if stream.at_any("left", "right", "full"):
        node.set("side", stream.advance().value.upper())
        stream.accept("outer")
    elif not node.args.get("method") and stream.accept("cross"):
        node.set("kind", "CROSS")
    else:
        stream.accept("inner")
    stream.expect("join")
    right = _primary(stream)
    if node.args.get("kind") == "CROSS" or node.args.get("method") == "NATURAL":
        node.set("this", right)
        return mark(node, token)
    # `a JOIN b JOIN c ON ... ON ...`: the inner pair comes first.
    nested: list[exp.Join] = []
    while _at_join(stream):
        join = _join(stream)
        assert join is not None
        nested.append(join)
    node.set("this", _wrapped(right, nested) if nested else right)
    if stream.accept("on"):
        node.set("on", expressions.expression(stream))
    elif stream.accept("using"):
        node.set("using", _using(stream))
    else:
        raise stream.error()
    return mark(node, token)


def _using(stream: TokenStream) -> list[exp.Identifier]:
    stream.expect_symbol("(")
    columns = [stream.identifier()]
    while stream.accept_symbol(","):
        columns.append(stream.identifier())
    stream.expect_symbol(")")
    return columns


def _primary(stream: TokenStream) -> exp.Expression:
    token = stream.current
    if stream.accept("lateral"):
        return mark(_lateral(stream), token)
    if stream.at_symbol("("):
        return mark(_parenthesised(stream), token)
    if _at_function(stream):
        node = mark(exp.Table(this=_function(stream), ordinality=stream.accept("with", "ordinality") or None), token)
        return _aliased(stream, node)
    node = named_table(stream)
    version = _version(stream)
    if version is not None:
        node.set("version", version)
    return _aliased(stream, node)


def _lateral(stream: TokenStream) -> exp.Expression:
    if stream.at_symbol("("):
        return _aliased(stream, exp.Lateral(this=exp.Subquery(this=queries.parenthesised_query(stream))))
    if not _at_function(stream):
        raise stream.error()
    function = _function(stream)
    return _aliased(stream, exp.Lateral(this=function, ordinality=stream.accept("with", "ordinality") or None))


def _parenthesised(stream: TokenStream) -> exp.Expression:
    if queries.at_parenthesised_query(stream):
        inner = queries.parenthesised_query(stream)
        rows = inner.args.get("from_") if isinstance(inner, exp.Select) else None
        if rows is not None and isinstance(rows.this, exp.Values) and not rows.this.args.get("alias") and _only_values(inner):
            return _aliased(stream, rows.this.pop())
        return _aliased(stream, exp.Subquery(this=inner))
    stream.expect_symbol("(")
    item, joins = _item(stream)
    if not joins and not isinstance(item, (exp.Subquery, exp.Paren)):
        raise stream.error()
    stream.expect_symbol(")")
    return _wrapped(item, joins) if joins else item


def _only_values(tree: exp.Query) -> bool:
    return not any(tree.args.get(key) for key in ("with_", "order", "limit", "offset", "where", "joins"))


def _at_function(stream: TokenStream) -> bool:
    ahead = 0
    while stream.peek(ahead).kind in ("word", "quoted") and stream.at_symbol(".", ahead + 1):
        ahead += 2
    return stream.peek(ahead).kind in ("word", "quoted") and stream.at_symbol("(", ahead + 1)


def _function(stream: TokenStream) -> exp.Expression:
    first = stream.current
    parts = [stream.identifier() if first.value not in ("left", "right") else stream.label()]
    while stream.accept_symbol("."):
        parts.append(stream.label())
    return calls.call(stream, parts, first)


def _version(stream: TokenStream) -> exp.Version | None:
    """`FOR SYSTEM_TIME AS OF ...` (temporal join, time travel) or `FOR SYSTEM_VERSION AS OF ...`."""
    token = stream.current
    if stream.accept("for", "system_time", "as", "of"):
        kind = "TIMESTAMP"
    elif stream.accept("for", "system_version", "as", "of"):
        kind = "VERSION"
    else:
        return None
    moment = _bare_interval(stream, expressions.expression(stream, expressions.OTHER))
    return mark(exp.Version(this=kind, kind="AS OF", expression=moment), token)


def _bare_interval(stream: TokenStream, moment: exp.Expression) -> exp.Expression:
    """`NOW() - '10' SECOND`, which RisingWave allows here without the word INTERVAL."""
    right = moment.args.get("expression") if isinstance(moment, exp.Sub) else None
    if not (isinstance(right, exp.Literal) and right.is_string and stream.at_any(*INTERVAL_FIELDS)):
        return moment
    interval = exp.Interval(this=right.copy(), unit=exp.Var(this=stream.advance().value.upper()))
    interval.meta.update(right.meta)
    moment.set("expression", interval)
    return moment


def _aliased(stream: TokenStream, node: exp.Expression) -> exp.Expression:
    name = stream.table_alias()
    if name is None:
        return node
    alias = exp.TableAlias(this=name)
    if stream.accept_symbol("("):
        columns = [_alias_column(stream)]
        while stream.accept_symbol(","):
            columns.append(_alias_column(stream))
        stream.expect_symbol(")")
        alias.set("columns", columns)
    node.set("alias", alias)
    return node


def _alias_column(stream: TokenStream) -> exp.Expression:
    """A column's name, and its type where a function's rows are defined: `jsonb_to_record(j) AS t(a int)`."""
    name = stream.identifier()
    if stream.at_symbol(",") or stream.at_symbol(")"):
        return name
    return exp.ColumnDef(this=name, kind=type_name(stream))
