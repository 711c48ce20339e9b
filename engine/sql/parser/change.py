"""DROP, ALTER, INSERT, UPDATE, DELETE and COPY."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from sqlglot import exp

from engine.sql.errors import SqlSyntaxError
from engine.sql.parser import clauses, queries
from engine.sql.parser.create import skip_rest
from engine.sql.parser.expressions import expression
from engine.sql.parser.stream import TokenStream
from engine.sql.statements import Alter, AlterUser, Copy, Delete, Drop, DropKind, Insert, ObjectName, Statement, Update, Utility
from engine.sql.types import SqlType

_KINDS: Final[dict[str, DropKind]] = {
    "materialized view": "materialized view", "table": "table", "source": "source", "view": "view", "index": "index", "sink": "sink",
    "function": "function", "aggregate": "aggregate", "subscription": "subscription", "schema": "schema", "database": "database",
    "user": "user", "connection": "connection", "secret": "secret", "fragment": "fragment",
}  # fmt: skip


def object_kind(stream: TokenStream) -> DropKind:
    """`TABLE`, `MATERIALIZED VIEW` ..."""
    for words, kind in _KINDS.items():
        if stream.accept(*words.split()):
            return kind
    raise stream.error()


def drop(stream: TokenStream) -> Statement:
    kind = object_kind(stream)
    if_exists = clauses.if_exists(stream)
    name = stream.object_name()
    arguments = _signature(stream) if kind in ("function", "aggregate") and stream.at_symbol("(") else None
    if stream.at_symbol(","):
        raise stream.unsupported("DROP of several objects is not supported", fix="Write one DROP for each.")
    cascade = stream.accept("cascade")
    if not cascade:
        stream.accept("restrict")
    return Drop(text="", kind=kind, name=name, if_exists=if_exists, cascade=cascade, arguments=arguments)


def _signature(stream: TokenStream) -> tuple[SqlType, ...]:
    stream.expect_symbol("(")
    types: list[SqlType] = []
    while not stream.at_symbol(")"):
        types.append(clauses.sql_type(stream))
        if not stream.accept_symbol(","):
            break
    stream.expect_symbol(")")
    return tuple(types)


# ALTER


def alter(stream: TokenStream) -> Statement:
    """Read ALTER after that word; the actions are listed at `Alter`."""
    if stream.accept("system"):
        stream.expect("set")
        return _set(stream, Alter(text="", kind="database", name=_SYSTEM, action="set system"))
    if stream.accept("default", "privileges"):
        skip_rest(stream)
        return Utility(text="", what="alter default privileges")
    kind = object_kind(stream)
    if_exists = clauses.if_exists(stream)
    statement = Alter(text="", kind=kind, name=stream.object_name(), action="", if_exists=if_exists)
    if kind in ("function", "aggregate") and stream.at_symbol("("):
        _signature(stream)
    if kind == "secret" and stream.at_any("with", "as"):
        return _secret_value(stream, statement)
    if kind == "user":
        if stream.accept("rename", "to"):
            return AlterUser(text="", name=statement.name, new_name=stream.name())
        return AlterUser(text="", name=statement.name, rights=clauses.user_rights(stream))
    for words, read in _ACTIONS.items():
        if stream.accept(*words.split()):
            return read(stream, statement)
    raise stream.error()


def _rename(stream: TokenStream, statement: Alter) -> Alter:
    return replace(statement, action="rename", new_name=stream.name())


def _rename_column(stream: TokenStream, statement: Alter) -> Alter:
    stream.accept("column")
    column = stream.name()
    stream.expect("to")
    return replace(statement, action="rename column", column_name=column, new_name=stream.name())


def _add_column(stream: TokenStream, statement: Alter) -> Alter:
    stream.accept("column")
    if stream.at_any("primary", "unique", "constraint", "check", "foreign"):
        raise stream.unsupported("adding a constraint is not supported", fix="Build a new table and SWAP WITH it.")
    if_not_exists = clauses.if_not_exists(stream)
    column = clauses.column_definition(stream)
    return replace(statement, action="add column", column=column, column_name=column.name, if_not_exists=if_not_exists)


def _drop_column(stream: TokenStream, statement: Alter) -> Alter:
    stream.accept("column")
    if_exists = clauses.if_exists(stream)
    column = stream.name()
    cascade = stream.accept("cascade")
    if not cascade:
        stream.accept("restrict")
    return replace(statement, action="drop column", column_name=column, column_if_exists=if_exists, cascade=cascade)


def _alter_column(stream: TokenStream, _statement: Alter) -> Alter:
    stream.accept("column")
    stream.name()
    raise stream.unsupported(
        "changing a column is not supported", fix="Add a new column, or build a new table and SWAP WITH it."
    )


def _swap(stream: TokenStream, statement: Alter) -> Alter:
    return replace(statement, action="swap", other=stream.object_name())


def _set_schema(stream: TokenStream, statement: Alter) -> Alter:
    return replace(statement, action="set schema", new_name=stream.name())


def _owner(stream: TokenStream, statement: Alter) -> Alter:
    return replace(statement, action="owner", new_name=stream.name())


def _refresh(_stream: TokenStream, statement: Alter) -> Alter:
    return replace(statement, action="refresh schema")


def _drop_connector(_stream: TokenStream, statement: Alter) -> Alter:
    return replace(statement, action="drop connector")


def _connector(stream: TokenStream, statement: Alter) -> Alter:
    return replace(statement, action="connector", options=clauses.with_options(stream))


def _as_query(stream: TokenStream, statement: Alter) -> Alter:
    return replace(statement, action="as", query=queries.query(stream))


def _format(stream: TokenStream, statement: Alter) -> Alter:
    stream.rewind(stream.index - 1)
    return replace(statement, action="format", format=clauses.format_encode(stream))


def _set(stream: TokenStream, statement: Alter) -> Alter:
    """`SET PARALLELISM = 4`, `SET source_rate_limit TO 10`, `SET CONFIG (key = value)`: a setting of the object."""
    action = statement.action or "set"
    name = stream.label().name
    if name == "config" and stream.at_symbol("("):
        return replace(statement, action=action, options=clauses.options(stream))
    if not stream.accept("to") and not stream.accept_symbol("=") and not stream.at("adaptive"):
        raise stream.error()
    if stream.current.kind not in ("word", "string", "number", "quoted"):
        raise stream.error()
    first = stream.advance()
    if stream.accept_symbol("("):  # BOUNDED(4), RATIO(0.5)
        stream.advance()
        stream.expect_symbol(")")
    value = stream.slice(first) if first.kind == "word" else first.value
    stream.accept("deferred")
    return replace(statement, action=action, options={name: value})


def _reset(stream: TokenStream, statement: Alter) -> Alter:
    """`RESET resource_group`, `RESET CONFIG (key, ...)`."""
    name = stream.label().name
    if name == "config":
        stream.expect_symbol("(")
        while not stream.at_symbol(")") and not stream.at_end:
            stream.advance()
        stream.expect_symbol(")")
    stream.accept("deferred")
    return replace(statement, action="set", options={name: "default"})


def _secret_value(stream: TokenStream, statement: Alter) -> Alter:
    """`ALTER SECRET name [WITH (backend = 'meta')] AS 'value'`; the text is kept as that of a CREATE."""
    options = clauses.with_options(stream)
    stream.expect("as")
    return replace(statement, action="secret", options=options, new_name=stream.string())


_SYSTEM: Final = ObjectName("system")
_ACTIONS: Final[dict[str, Callable[[TokenStream, Alter], Alter]]] = {
    "rename to": _rename,
    "rename": _rename_column,
    "add": _add_column,
    "drop connector": _drop_connector,
    "drop": _drop_column,
    "alter": _alter_column,
    "swap with": _swap,
    "set schema": _set_schema,
    "owner to": _owner,
    "refresh schema": _refresh,
    "connector": _connector,
    "format": _format,
    "as": _as_query,
    "set": _set,
    "reset": _reset,
}


# INSERT, UPDATE, DELETE, COPY


def insert(stream: TokenStream) -> Statement:
    stream.expect("into")
    table = stream.object_name()
    columns: tuple[str, ...] = ()
    if stream.at_symbol("(") and not queries.at_parenthesised_query(stream):
        columns = stream.names_in_parentheses()
    if stream.accept("default", "values"):
        query: exp.Query = exp.Select(expressions=[exp.Star()], from_=exp.From(this=exp.Values(expressions=[exp.Tuple()])))
    elif queries.at_query(stream):
        query = queries.query(stream)
    else:
        raise stream.error()
    if stream.at("on", "conflict"):
        raise stream.unsupported(
            "ON CONFLICT belongs to the table in RisingWave", fix="Write CREATE TABLE ... ON CONFLICT OVERWRITE or IGNORE."
        )
    return Insert(text="", table=table, columns=columns, query=query, returning=_returning(stream))


def update(stream: TokenStream) -> Statement:
    table = stream.object_name()
    stream.expect("set")
    assignments = _assignment(stream)
    while stream.accept_symbol(","):
        assignments += _assignment(stream)
    if stream.at("from"):
        raise stream.unsupported("UPDATE ... FROM is not supported", fix="Use a subquery in SET or WHERE.")
    return Update(text="", table=table, assignments=tuple(assignments), where=_where(stream), returning=_returning(stream))


def delete(stream: TokenStream) -> Statement:
    stream.expect("from")
    table = stream.object_name()
    if stream.at("using"):
        raise stream.unsupported("DELETE ... USING is not supported", fix="Use a subquery in WHERE.")
    return Delete(text="", table=table, where=_where(stream), returning=_returning(stream))


def copy(stream: TokenStream) -> Statement:
    table = query = None
    columns: tuple[str, ...] = ()
    if queries.at_parenthesised_query(stream):
        query = queries.parenthesised_query(stream)
    else:
        table = stream.object_name()
        if stream.at_symbol("("):
            columns = stream.names_in_parentheses()
    if query is None and stream.accept("from"):
        stream.expect("stdin")
        direction = "from"
    else:
        stream.expect("to")
        stream.expect("stdout")
        direction = "to"
    return Copy(
        text="",
        direction="from" if direction == "from" else "to",
        table=table,
        columns=columns,
        query=query,
        options=_copy_options(stream),
    )


def _copy_options(stream: TokenStream) -> dict[str, str]:
    """`[WITH] (FORMAT csv, HEADER, DELIMITER '|')` or the older `[WITH] CSV HEADER DELIMITER '|'`; keys lower case."""
    stream.accept("with")
    found: dict[str, str] = {}
    if stream.accept_symbol("("):
        while not stream.at_symbol(")"):
            key = stream.label().name.lower()
            if stream.current.kind in ("word", "string", "number", "quoted"):
                found[key] = stream.advance().value
            else:
                found[key] = "true"
            if not stream.accept_symbol(","):
                break
        stream.expect_symbol(")")
        return found
    while stream.at_any("binary", "csv", "text", "header", "delimiter", "null", "quote", "escape"):
        word = stream.advance().value
        if word in ("binary", "csv", "text"):
            found["format"] = word
        elif word == "header":
            found["header"] = "true"
        else:
            stream.accept("as")
            found[word] = stream.string()
    return found


def _assignment(stream: TokenStream) -> list[tuple[str, exp.Expression]]:
    """`column = value` or `(a, b) = (1, 2)`."""
    first = stream.current
    if not stream.at_symbol("("):
        name = stream.name()
        stream.expect_symbol("=")
        return [(name, queries.value_or_default(stream))]
    names = stream.names_in_parentheses()
    stream.expect_symbol("=")
    stream.accept("row")
    if queries.at_parenthesised_query(stream):
        return list(zip(names, _columns_of(queries.parenthesised_query(stream), len(names)), strict=True))
    stream.expect_symbol("(")
    values = [queries.value_or_default(stream)]
    while stream.accept_symbol(","):
        values.append(queries.value_or_default(stream))
    stream.expect_symbol(")")
    if len(names) != len(values):
        raise SqlSyntaxError("number of columns does not match number of values", position=first.position)
    return list(zip(names, values, strict=True))


def _columns_of(query: exp.Query, count: int) -> list[exp.Expression]:
    """The columns of a subquery, each as a scalar subquery of its own."""
    names = [f"c{i}" for i in range(count)]
    found: list[exp.Expression] = []
    for name in names:
        alias = exp.TableAlias(this=exp.to_identifier("q"), columns=[exp.to_identifier(n) for n in names])
        source = exp.Subquery(this=query.copy(), alias=alias)
        found.append(exp.Subquery(this=exp.Select(expressions=[exp.column(name)], from_=exp.From(this=source))))
    return found


def _where(stream: TokenStream) -> exp.Expression | None:
    return expression(stream) if stream.accept("where") else None


def _returning(stream: TokenStream) -> tuple[exp.Expression, ...]:
    return tuple(queries.select_items(stream)) if stream.accept("returning") else ()
