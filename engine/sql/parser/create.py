"""CREATE statements. Each function starts after the words that chose it and returns the statement with an empty text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

from sqlglot import exp

from engine.sql.errors import InvalidDefinition
from engine.sql.parser import clauses, queries
from engine.sql.parser.expressions import expression
from engine.sql.parser.stream import TokenStream
from engine.sql.statements import (
    CreateConnection,
    CreateDatabase,
    CreateIndex,
    CreateMaterializedView,
    CreateSchema,
    CreateSecret,
    CreateSink,
    CreateSource,
    CreateSubscription,
    CreateTable,
    CreateUser,
    CreateView,
    ObjectName,
    Statement,
)

OnConflict = Literal["overwrite", "ignore", "do update if not null"]

_REFUSED: Final = {
    "sequence": "Use a column of type serial, or a key from the data.",
    "trigger": "Use a materialized view and a sink.",
    "type": "Use STRUCT<...> where the type is used.",
    "domain": "Use the base type.",
    "extension": "Nothing has to be installed.",
    "procedure": "Use CREATE FUNCTION.",
    "rule": "Use a materialized view.",
    "role": "Use CREATE USER.",
    "operator": "Use CREATE FUNCTION.",
    "cast": "Use CREATE FUNCTION.",
}


def create(stream: TokenStream) -> Statement:
    """Read a CREATE statement after its first word."""
    from engine.sql.parser.create_function import create_aggregate, create_function

    or_replace = stream.accept("or", "replace")
    if stream.at_any("temporary", "temp") and stream.peek().value == "table":
        raise stream.unsupported("temporary tables are not supported", fix="Create a table and drop it afterwards.")
    stream.accept("temporary")
    if or_replace and not stream.at_any("view", "function", "aggregate"):
        raise stream.unsupported(
            "CREATE OR REPLACE works for views only",
            fix="Drop the object first, or build it beside the old one and ALTER ... SWAP WITH.",
        )
    if stream.accept("view"):
        return _view(stream, or_replace)
    if or_replace:
        raise stream.unsupported(
            f"CREATE OR REPLACE {stream.current.value.upper()} is not supported", fix="Give the new version a name of its own."
        )
    for words, read in _CREATE.items():
        if stream.accept(*words.split()):
            return read(stream)
    if stream.accept("function"):
        return create_function(stream)
    if stream.accept("aggregate"):
        return create_aggregate(stream)
    word = stream.current.value
    if stream.current.kind == "word" and word in _REFUSED:
        raise stream.unsupported(f"CREATE {word.upper()} is not supported", fix=_REFUSED[word])
    raise stream.error()


def _table(stream: TokenStream) -> Statement:
    if_not_exists = clauses.if_not_exists(stream)
    name = stream.object_name()
    elements = clauses.table_elements(stream)
    append_only = stream.accept("append", "only")
    on_conflict = _on_conflict(stream)
    version_column = _version_column(stream)
    include = clauses.include_columns(stream)
    options = clauses.with_options(stream)
    format_ = clauses.format_encode(stream)
    query = queries.query(stream) if stream.accept("as") else None
    cdc = _cdc_table(stream)
    if stream.at("engine"):
        raise stream.unsupported("ENGINE is not supported", fix="Leave it out, and add a sink with connector = 'iceberg'.")
    if stream.at("validate"):
        raise stream.unsupported(
            "VALIDATE of webhook tables is not supported", fix="Validate the signature in front of the engine."
        )
    if not (elements.columns or elements.wildcard or query is not None or format_ is not None or options or cdc):
        raise stream.error()
    return CreateTable(
        text="",
        name=name,
        columns=tuple(elements.columns),
        primary_key=elements.primary_key,
        watermark=elements.watermark,
        append_only=append_only,
        on_conflict=on_conflict,
        include=include,
        options=options,
        format=format_,
        if_not_exists=if_not_exists,
        query=query,
        wildcard=elements.wildcard,
        version_columns=version_column,
    )


def _source(stream: TokenStream) -> Statement:
    if_not_exists = clauses.if_not_exists(stream)
    name = stream.object_name()
    first = stream.current
    elements = clauses.table_elements(stream)
    if elements.watermark is not None and elements.watermark.with_ttl:
        raise InvalidDefinition(
            "WATERMARK ... WITH TTL is for tables: a source keeps no rows", position=first.position, fix="Leave WITH TTL out."
        )
    include = clauses.include_columns(stream)
    options = clauses.with_options(stream)
    format_ = clauses.format_encode(stream)
    return CreateSource(
        text="",
        name=name,
        columns=tuple(elements.columns),
        primary_key=elements.primary_key,
        watermark=elements.watermark,
        include=include,
        options=options,
        format=format_,
        if_not_exists=if_not_exists,
        wildcard=elements.wildcard,
    )


def _on_conflict(stream: TokenStream) -> OnConflict | None:
    if not stream.accept("on", "conflict"):
        return None
    stream.accept("do")
    if stream.accept("overwrite") or stream.accept("update", "full"):
        return "overwrite"
    if stream.accept("ignore") or stream.accept("nothing"):
        return "ignore"
    stream.expect("update", "if", "not", "null")
    return "do update if not null"


def _version_column(stream: TokenStream) -> tuple[str, ...]:
    return stream.names_in_parentheses() if stream.accept("with", "version", "column") else ()


def _cdc_table(stream: TokenStream) -> bool:
    """`FROM source TABLE 'database.table'`."""
    if not stream.at("from"):
        return False
    raise stream.unsupported(
        "tables from a CDC source are not supported by the embedded engine",
        fix="Read the changes from Kafka with FORMAT DEBEZIUM.",
    )


def _materialized_view(stream: TokenStream) -> Statement:
    if_not_exists = clauses.if_not_exists(stream)
    name = stream.object_name()
    columns = stream.names_in_parentheses() if stream.at_symbol("(") else ()
    options = clauses.with_options(stream)
    stream.expect("as")
    query = queries.query(stream)
    return CreateMaterializedView(
        text="",
        name=name,
        query=query,
        columns=columns,
        emit_on_window_close=_emit(stream),
        if_not_exists=if_not_exists,
        options=options,
    )


def _view(stream: TokenStream, or_replace: bool) -> Statement:
    if_not_exists = clauses.if_not_exists(stream)
    name = stream.object_name()
    columns = stream.names_in_parentheses() if stream.at_symbol("(") else ()
    clauses.with_options(stream)
    stream.expect("as")
    return CreateView(
        text="", name=name, query=queries.query(stream), columns=columns, if_not_exists=if_not_exists, or_replace=or_replace
    )


def _emit(stream: TokenStream) -> bool:
    if not stream.accept("emit"):
        return False
    if stream.accept("immediately"):
        return False
    stream.expect("on", "window", "close")
    return True


def _index(stream: TokenStream) -> Statement:
    if_not_exists = clauses.if_not_exists(stream)
    name = None if stream.at("on") and not if_not_exists else stream.object_name()
    stream.expect("on")
    table = stream.object_name()
    if stream.accept("using"):
        method = stream.current
        if stream.label().name not in ("btree", "hash"):
            raise stream.unsupported(f"index method `{method.value}` is not supported", fix="Leave USING out.", token=method)
    stream.expect_symbol("(")
    columns = [_index_column(stream)]
    while stream.accept_symbol(","):
        columns.append(_index_column(stream))
    stream.expect_symbol(")")
    include = stream.names_in_parentheses() if stream.accept("include") else ()
    distributed_by = stream.names_in_parentheses() if stream.accept("distributed", "by") else ()
    clauses.with_options(stream)
    return CreateIndex(
        text="",
        name=name or _index_name(table, columns),
        table=table,
        columns=tuple(columns),
        include=include,
        distributed_by=distributed_by,
        if_not_exists=if_not_exists,
    )


def _index_name(table: ObjectName, columns: list[exp.Expression]) -> ObjectName:
    """PostgreSQL's name for an index without one: `table_column_idx`."""
    names = [key.name if isinstance(key, exp.Column) else "expr" for key in (_key(column) for column in columns)]
    return ObjectName("_".join([table.name, *names, "idx"]), table.schema, table.database, table.position)


def _key(column: exp.Expression) -> exp.Expression:
    return column.this if isinstance(column, exp.Ordered) else column


def _index_column(stream: TokenStream) -> exp.Expression:
    """An expression, or an `exp.Ordered` when an order is written."""
    first = stream.index
    node = expression(stream)
    if not stream.at_any("asc", "desc", "nulls"):
        return node
    stream.rewind(first)
    return queries.ordered(stream)


def _sink(stream: TokenStream) -> Statement:
    if_not_exists = clauses.if_not_exists(stream)
    name = stream.object_name()
    into = stream.object_name() if stream.accept("into") else None
    into_columns = stream.names_in_parentheses() if into is not None and stream.at_symbol("(") else ()
    source = query = None
    emit = False
    if stream.accept("from"):
        source = stream.object_name()
    else:
        stream.expect("as")
        query = queries.query(stream)
        emit = _emit(stream)
    options = clauses.with_options(stream)
    format_ = clauses.format_encode(stream)
    return CreateSink(
        text="",
        name=name,
        source=source,
        query=query,
        into=into,
        into_columns=into_columns,
        options=options,
        format=format_,
        if_not_exists=if_not_exists,
        emit_on_window_close=emit,
    )


def _subscription(stream: TokenStream) -> Statement:
    if_not_exists = clauses.if_not_exists(stream)
    name = stream.object_name()
    stream.expect("from")
    source = stream.object_name()
    return CreateSubscription(
        text="", name=name, source=source, options=clauses.with_options(stream), if_not_exists=if_not_exists
    )


def _schema(stream: TokenStream) -> Statement:
    if_not_exists = clauses.if_not_exists(stream)
    if stream.accept("authorization"):  # the schema is called after its owner
        return CreateSchema(text="", name=stream.object_name(), if_not_exists=if_not_exists)
    name = stream.object_name()
    if stream.accept("authorization"):
        stream.name()
    return CreateSchema(text="", name=name, if_not_exists=if_not_exists)


def _database(stream: TokenStream) -> Statement:
    if_not_exists = clauses.if_not_exists(stream)
    name = stream.object_name()
    stream.accept("with")
    while stream.at_name():  # OWNER = x, RESOURCE_GROUP = y, BARRIER_INTERVAL_MS = 1: settings of a cluster
        stream.label()
        stream.accept_symbol("=")
        if stream.current.kind in ("string", "number"):
            stream.advance()
        else:
            stream.label()
    return CreateDatabase(text="", name=name, if_not_exists=if_not_exists)


def _secret(stream: TokenStream) -> Statement:
    if_not_exists = clauses.if_not_exists(stream)
    name = stream.object_name()
    options = clauses.with_options(stream)
    stream.expect("as")
    return CreateSecret(text="", name=name, value=stream.string(), options=options, if_not_exists=if_not_exists)


def _connection(stream: TokenStream) -> Statement:
    if_not_exists = clauses.if_not_exists(stream)
    name = stream.object_name()
    if not stream.at("with"):
        raise stream.error()
    return CreateConnection(text="", name=name, options=clauses.with_options(stream), if_not_exists=if_not_exists)


def _user(stream: TokenStream) -> Statement:
    if_not_exists = clauses.if_not_exists(stream)
    name = stream.object_name()
    return CreateUser(text="", name=name, rights=clauses.user_rights(stream), if_not_exists=if_not_exists)


def skip_rest(stream: TokenStream) -> None:
    """Read to the end of the statement."""
    while not stream.at_end and not stream.at_symbol(";"):
        stream.advance()


_CREATE: Final[dict[str, Callable[[TokenStream], Statement]]] = {
    "table": _table,
    "source": _source,
    "materialized view": _materialized_view,
    "index": _index,
    "sink": _sink,
    "subscription": _subscription,
    "schema": _schema,
    "database": _database,
    "secret": _secret,
    "connection": _connection,
    "user": _user,
}
