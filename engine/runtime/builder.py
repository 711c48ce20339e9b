"""From a CREATE statement to catalog objects and a plan: a pure function of the statement, the catalog and a few facts.

Used twice: when a statement runs, and when a data folder is opened again. So recovery is the same code as creation.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from sqlglot import exp

from engine.catalog.catalog import Catalog
from engine.catalog.objects import (
    CatalogObject,
    ColumnInfo,
    Connection,
    Function,
    Index,
    Input,
    MaterializedView,
    Relation,
    Secret,
    Sink,
    Subscription,
    View,
)
from engine.catalog.text import quote_name
from engine.operators.base import Operator
from engine.operators.leaf import RelationLeaf
from engine.plan.stream import compile_stream, name_states
from engine.python_udfs.create import python_function
from engine.runtime.alterations import altered
from engine.runtime.options import OptionReader
from engine.runtime.table_changes import add_generated
from engine.sql.binder import bind_query
from engine.sql.binder.expression import ExpressionBinder
from engine.sql.binder.scope import Environment, Scope, ScopeColumn
from engine.sql.binder.sql_functions import inline_call
from engine.sql.errors import InvalidDefinition, InvalidParameter, SqlError, TypeMismatch, UndefinedColumn, UnsupportedQuery
from engine.sql.expressions import Column, Expr, Literal
from engine.sql.parser import parse_query
from engine.sql.statements import (
    ColumnDefinition,
    CreateConnection,
    CreateFunction,
    CreateIndex,
    CreateMaterializedView,
    CreateSecret,
    CreateSink,
    CreateSource,
    CreateSubscription,
    CreateTable,
    CreateView,
    IncludeColumn,
    ObjectName,
    Statement,
)
from engine.sql.types import BYTEA, INT4, INT8, JSONB, TIMESTAMP, TIMESTAMPTZ, UNKNOWN, VARCHAR, SqlType, list_of, struct_of

# Source: RisingWave documentation, "INCLUDE clause".
_INCLUDE_TYPES: dict[str, SqlType] = {
    "key": BYTEA, "timestamp": TIMESTAMPTZ, "partition": VARCHAR, "offset": VARCHAR, "payload": JSONB,
    "header": list_of(struct_of(("key", VARCHAR), ("value", BYTEA))),
}  # fmt: skip
RATE_LIMIT = "source_rate_limit"
"""An option that ALTER changes; the fact of that name is what was set last."""
_RETENTION_DEFAULT_SECONDS = 86_400.0


@dataclass(frozen=True)
class Built:
    """A new object, its plan if it has one, and what else the runtime needs.

    Attributes:
        object: for the catalog.
        root: the operators that feed it (views, sinks, subscriptions).
        watermark: the watermark expression over the physical columns of an input.
        facts: what must be stored beside the SQL text.
    """

    object: CatalogObject
    root: Operator | None = None
    watermark: Expr | None = None
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Place:
    """Where a new object goes, and what it is called there."""

    id: int
    database: str
    schema: str
    name: str


def build(statement: Statement, place: Place, catalog: Catalog, facts: Mapping[str, str]) -> Built:
    """Make the object that a CREATE statement describes.

    Args:
        statement: parsed.
        place: id and name.
        catalog: everything that existed before.
        facts: empty at creation (they are made up then), or as stored.

    Raises:
        SqlError: the statement is refused.
    """
    if isinstance(statement, (CreateTable, CreateSource)):
        return _input(statement, place, catalog, facts)
    if isinstance(statement, CreateMaterializedView):
        return _materialized_view(statement, place, catalog, facts)
    if isinstance(statement, CreateView):
        return _view(statement, place, catalog)
    if isinstance(statement, CreateSink):
        return _sink(statement, place, catalog, facts)
    if isinstance(statement, CreateSubscription):
        return _subscription(statement, place, catalog)
    if isinstance(statement, CreateFunction):
        return _function(statement, place, catalog)
    if isinstance(statement, CreateIndex):
        return _index(statement, place, catalog)
    if isinstance(statement, CreateSecret):
        return _secret(statement, place)
    if isinstance(statement, CreateConnection):
        return _connection(statement, place, catalog)
    raise UnsupportedQuery(f"`{type(statement).__name__}` is not supported yet")


def table_environment(catalog: Catalog, database: str) -> Environment:
    return Environment(catalog, database)


def scope_of(relation: Relation) -> Scope:
    """The visible columns at their physical positions."""
    return Scope(tuple(ScopeColumn(relation.name, c.name, c.type, i) for i, c in enumerate(relation.columns) if not c.hidden))


def _input(statement: CreateTable | CreateSource, place: Place, catalog: Catalog, facts: Mapping[str, str]) -> Built:
    is_table = isinstance(statement, CreateTable)
    connector = "connector" in statement.options
    reader = OptionReader(catalog, place.database)
    options, shape = reader.read(statement.options), reader.read_format(statement.format)
    options |= {name: facts[name] for name in (RATE_LIMIT,) if name in facts}
    if not is_table and not connector:
        raise InvalidParameter(
            "a source needs `connector` in WITH", fix="For example `WITH (connector = 'kafka', topic = ..., ...)`."
        )
    columns = [ColumnInfo(c.name, c.type, c.not_null, default=_default(c, catalog, place.database)) for c in statement.columns]
    include: list[tuple[str, int]] = []
    for item in statement.include:
        columns.append(ColumnInfo(item.alias or f"_rw_kafka_{item.kind}", _include_type(item)))
        include.append((item.kind, len(columns) - 1))
    _check_columns([c.name for c in columns], statement.columns)
    columns = _with_generated(columns, statement, catalog, place)
    primary_key = _primary_key(statement, columns)
    if primary_key:
        key = primary_key
    elif connector:
        columns += [ColumnInfo("_row_partition", INT4, hidden=True), ColumnInfo("_row_offset", INT8, hidden=True)]
        key = (len(columns) - 2, len(columns) - 1)
    else:
        columns.append(ColumnInfo("_row_id", INT8, hidden=True))
        key = (len(columns) - 1,)
    append_only = not is_table or (isinstance(statement, CreateTable) and statement.append_only)
    on_conflict = (statement.on_conflict if isinstance(statement, CreateTable) else None) or "overwrite"
    if append_only and primary_key and is_table and on_conflict != "ignore":
        raise InvalidDefinition(
            "an APPEND ONLY table with a primary key can only ignore conflicts",
            fix="Add `ON CONFLICT DO NOTHING`.",
            sqlstate="0A000",
        )
    watermark = statement.watermark
    if watermark is not None and is_table and not append_only and not watermark.with_ttl:
        raise InvalidDefinition(
            "a WATERMARK on a table needs APPEND ONLY or WITH TTL", fix="Add APPEND ONLY.", sqlstate="0A000"
        )
    position = next((i for i, c in enumerate(columns) if watermark is not None and c.name == watermark.column), None)
    if watermark is not None and position is None:
        raise UndefinedColumn(f"watermark column `{watermark.column}` does not exist")
    result = Input(
        place.id, place.database, place.schema, place.name, statement.text, tuple(reader.used), "table" if is_table else "source",
        tuple(columns), key, append_only, (position,) if position is not None else (),
        primary_key, on_conflict, watermark, tuple(include), dict(statement.options), statement.format,
        {k: v for k, v in facts.items() if k in ("max_future_skew_us", "required_columns")},
        _version(statement, columns, primary_key, on_conflict),
    )  # fmt: skip
    result = replace(altered(result, facts, catalog), options=options, format=shape)
    expression = _watermark_expression(result, catalog) if watermark is not None else None
    return Built(result, None, expression, facts)


def _with_generated(
    columns: list[ColumnInfo], statement: CreateTable | CreateSource, catalog: Catalog, place: Place
) -> list[ColumnInfo]:
    """Bind the expressions of generated columns; they see all columns that are not generated."""
    definitions = {i: c for i, c in enumerate(statement.columns) if c.generated is not None}
    if not definitions:
        return columns
    plain = tuple(ScopeColumn(place.name, c.name, c.type, i) for i, c in enumerate(columns) if i not in definitions)
    binder = ExpressionBinder(table_environment(catalog, place.database), Scope(plain), "a generated column")
    result = list(columns)
    for position, definition in definitions.items():
        assert definition.generated is not None
        if any(node.name in {d.name for d in definitions.values()} for node in definition.generated.find_all(exp.Column)):
            raise InvalidDefinition(
                f"generated column `{definition.name}` refers to a generated column", position=definition.position, fix="Repeat its expression."
            )  # fmt: skip
        bound = binder.bind(definition.generated)
        type_ = definition.type if definition.type != UNKNOWN else VARCHAR if bound.type == UNKNOWN else bound.type
        expression = binder.assign(bound, type_, definition.name, definition.position)
        result[position] = replace(columns[position], type=type_, generated=expression)
    return result


def _version(
    statement: CreateTable | CreateSource, columns: list[ColumnInfo], primary_key: tuple[int, ...], on_conflict: str
) -> tuple[int, ...]:
    names = statement.version_columns if isinstance(statement, CreateTable) else ()
    positions = {c.name: i for i, c in enumerate(columns)}
    for name in names:
        if name not in positions:
            raise UndefinedColumn(f"version column `{name}` does not exist", fix=f"Known: {', '.join(positions)}.")
    if names and (not primary_key or on_conflict == "ignore"):
        raise InvalidDefinition(
            "WITH VERSION COLUMN needs a PRIMARY KEY whose conflicts are not ignored", sqlstate="0A000", fix="Write ON CONFLICT OVERWRITE."
        )  # fmt: skip
    return tuple(positions[name] for name in names)


def _default(column: ColumnDefinition, catalog: Catalog, database: str) -> Expr | None:
    if column.default is None:
        return None
    binder = ExpressionBinder(table_environment(catalog, database), Scope(), "DEFAULT")
    return binder.assign(binder.bind(column.default), column.type, column.name, column.position)


def _include_type(item: IncludeColumn) -> SqlType:
    if item.kind not in _INCLUDE_TYPES:
        raise UnsupportedQuery(f"`INCLUDE {item.kind}` is not supported", fix=f"Known: {', '.join(sorted(_INCLUDE_TYPES))}.")
    if item.kind == "header" and item.inner_field is not None:
        return item.type or BYTEA
    return _INCLUDE_TYPES[item.kind]


def _check_columns(names: list[str], definitions: tuple[ColumnDefinition, ...]) -> None:
    if not names:
        raise InvalidDefinition("a table needs at least one column", sqlstate="42601")
    seen: set[str] = set()
    for name in names:
        if name in seen:
            position = next((d.position for d in reversed(definitions) if d.name == name), None)
            raise InvalidDefinition(f"column `{name}` specified more than once", position=position, sqlstate="42701")
        seen.add(name)


def _primary_key(statement: CreateTable | CreateSource, columns: list[ColumnInfo]) -> tuple[int, ...]:
    names = list(statement.primary_key) + [c.name for c in statement.columns if c.primary_key]
    positions = {c.name: i for i, c in enumerate(columns)}
    for name in names:
        if name not in positions:
            raise UndefinedColumn(f"column `{name}` named in key does not exist")
    return tuple(dict.fromkeys(positions[name] for name in names))


def _watermark_expression(relation: Input, catalog: Catalog) -> Expr:
    assert relation.watermark is not None
    column = relation.columns[relation.watermarked[0]]
    if column.type not in (TIMESTAMP, TIMESTAMPTZ):
        raise TypeMismatch(f"watermark column `{column.name}` must be a timestamp, not {column.type}")
    binder = ExpressionBinder(table_environment(catalog, relation.database), scope_of(relation), "WATERMARK")
    bound = binder.bind(relation.watermark.expression)
    if bound.type != column.type:
        raise TypeMismatch(f"the watermark of `{column.name}` must be {column.type}, not {bound.type}")
    return bound


def _materialized_view(statement: CreateMaterializedView, place: Place, catalog: Catalog, facts: Mapping[str, str]) -> Built:
    environment = table_environment(catalog, place.database)
    bound = bind_query(statement.query, environment)
    names = [c.name for c in bound.columns]
    if statement.columns:
        if len(statement.columns) != len(names):
            raise InvalidDefinition(f"{len(statement.columns)} column names for {len(names)} columns", sqlstate="42601")
        names = list(statement.columns)
    _check_columns(names, ())
    root = compile_stream(bound.node, catalog, emit_on_window_close=statement.emit_on_window_close)
    name_states(root, f"hr.s{place.id}")
    columns = [ColumnInfo(name, type_) for name, type_ in zip(names, root.types[: root.visible], strict=True)]
    columns += [ColumnInfo(f"_hidden_{i}", type_, hidden=True) for i, type_ in enumerate(root.types[root.visible :])]
    view = MaterializedView(
        place.id, place.database, place.schema, place.name, statement.text, tuple(environment.used), "materialized view",
        tuple(columns), root.key, root.append_only, tuple(sorted(root.watermarked)), statement.emit_on_window_close,
    )  # fmt: skip
    return Built(view, root, facts=facts)


def _view(statement: CreateView, place: Place, catalog: Catalog) -> Built:
    environment = table_environment(catalog, place.database)
    bound = bind_query(statement.query, environment)
    if statement.columns and len(statement.columns) > len(bound.columns):
        raise InvalidDefinition("CREATE VIEW specifies more column names than columns", sqlstate="42601")
    view = View(
        place.id, place.database, place.schema, place.name, statement.text, tuple(environment.used), "view", statement.columns
    )
    return Built(view)


def _sink(statement: CreateSink, place: Place, catalog: Catalog, facts: Mapping[str, str]) -> Built:
    _check_snapshot(statement)
    if statement.into is not None:
        return _sink_into(statement, statement.into, place, catalog, facts)
    if "connector" not in statement.options:
        raise InvalidParameter("a sink needs `connector` in WITH", fix="For example `WITH (connector = 'kafka', ...)`.")
    reader = OptionReader(catalog, place.database)
    options, shape = reader.read(statement.options), reader.read_format(statement.format)
    root, uses = _job_root(statement, place, catalog)
    relation = uses[0] if statement.source is not None and isinstance(catalog.get(uses[0]), Relation) else 0
    facts = {"uuid": str(uuid.uuid4()), **facts}
    _check_sink_type(statement, root)
    sink = Sink(
        place.id, place.database, place.schema, place.name, statement.text, (*uses, *reader.used), "sink", relation, facts["uuid"],
        options, shape,
    )  # fmt: skip
    return Built(sink, root, facts=facts)


def _sink_into(statement: CreateSink, into: ObjectName, place: Place, catalog: Catalog, facts: Mapping[str, str]) -> Built:
    """A sink whose rows become rows of a table, in the same epoch."""
    target = catalog.must_find(into, place.database)
    if not isinstance(target, Input) or target.kind != "table" or target.has_connector:
        raise InvalidDefinition(
            f"`{target.name}` is not a table that clients write to, a sink cannot go into it",
            position=into.position,
            sqlstate="42809",
            fix="Create a table without a connector.",
        )
    root, uses = _job_root(statement, place, catalog)
    if any(target.id in (i, *catalog.sources_closure(i)) for i in uses):
        raise InvalidDefinition(
            f"the sink would go into `{target.name}`, from which it reads", position=into.position, fix="Break the circle with another table."
        )  # fmt: skip
    forced = statement.options.get("force_append_only", "false").lower() == "true"
    if not root.append_only and not forced and (target.append_only or not target.primary_key):
        raise InvalidDefinition(
            f"the input of the sink retracts rows, and table `{target.name}` cannot take that back",
            position=into.position,
            sqlstate="0A000",
            fix="Give the table a PRIMARY KEY, or add `force_append_only = 'true'` to send insertions only.",
        )
    relation = uses[0] if statement.source is not None else 0
    sink = Sink(
        place.id, place.database, place.schema, place.name, statement.text, tuple(dict.fromkeys((*uses, target.id))), "sink", relation,
        options=dict(statement.options), into=target.id, feed=_feed_values(statement, into, target, root),
        inserts_only=root.append_only or forced,
    )  # fmt: skip
    return Built(sink, root, facts=facts)


def _feed_values(statement: CreateSink, into: ObjectName, target: Input, root: Operator) -> tuple[Expr | None, ...]:
    """By the order of the columns, or those that are named; the table's defaults for the others."""
    free = {c.name: i for i, c in enumerate(target.columns) if not c.hidden and c.generated is None}
    for name in statement.into_columns:
        if name not in free:
            known = ", ".join(free)
            raise UndefinedColumn(
                f"column `{name}` of table `{target.name}` does not exist or is generated", position=into.position, fix=f"Known: {known}."
            )  # fmt: skip
    positions = [free[name] for name in statement.into_columns] or list(free.values())
    types = root.types[: root.visible]
    if len(types) > len(positions):
        raise InvalidDefinition(
            f"the sink has {len(types)} columns, table `{target.name}` takes {len(positions)}",
            position=into.position,
            sqlstate="42601",
            fix="Name the columns that it takes: `INTO t (a, b)`.",
        )
    values: dict[int, Expr] = {
        i: c.default or Literal(c.type, None) for i, c in enumerate(target.columns) if c.generated is None
    }
    for index, (position, type_) in enumerate(zip(positions, types, strict=False)):
        column = target.columns[position]
        if type_ != column.type:
            raise TypeMismatch(
                f"column `{column.name}` of table `{target.name}` is of type {column.type}, the sink gives {type_}",
                position=into.position,
                fix=f"Cast it: `CREATE SINK ... INTO {target.name} AS SELECT x::{column.type} ...`.",
            )
        values[position] = Column(type_, index)
    add_generated(target, values)
    # A column that was added to the table later is hidden from the sink, and gets its default.
    return tuple(None if c.hidden and c.name == "_row_id" else values[i] for i, c in enumerate(target.columns))


def _job_root(statement: CreateSink, place: Place, catalog: Catalog) -> tuple[Operator, tuple[int, ...]]:
    if statement.query is not None:
        environment = table_environment(catalog, place.database)
        bound = bind_query(statement.query, environment)
        root = compile_stream(bound.node, catalog, emit_on_window_close=statement.emit_on_window_close)
        name_states(root, f"hr.s{place.id}")
        return root, tuple(environment.used)
    assert statement.source is not None
    found = catalog.must_find(statement.source, place.database)
    if isinstance(found, View):
        everything = parse_query(f"SELECT * FROM {quote_name(found.schema)}.{quote_name(found.name)}")
        return _job_root(replace(statement, source=None, query=everything), place, catalog)
    if not isinstance(found, Relation) or found.kind == "system":
        raise SqlError(
            f"`{found.name}` is a {found.kind}, a sink cannot read from it",
            position=statement.source.position,
            sqlstate="42809",
        )
    return RelationLeaf(found), (found.id,)


def _check_sink_type(statement: CreateSink, root: Operator) -> None:
    plain = (
        statement.format.format == "PLAIN" if statement.format is not None else statement.options.get("type") == "append-only"
    )
    forced = statement.options.get("force_append_only", "false").lower() == "true"
    if statement.format is not None:
        forced = forced or statement.format.options.get("force_append_only", "false").lower() == "true"
    if plain and not root.append_only and not forced:
        raise InvalidDefinition(
            "the sink is append-only, but its input retracts rows",
            fix="Add `force_append_only = 'true'` to send insertions only, or use FORMAT UPSERT with a primary key.",
            sqlstate="0A000",
        )


def _check_snapshot(statement: CreateSink) -> None:
    """`snapshot = 'false'` leaves the backfill out. Source: RisingWave documentation, CREATE SINK."""
    value = statement.options.get("snapshot", "true").lower()
    if value not in ("true", "false"):
        raise InvalidParameter(f"option `snapshot` cannot be `{value}`", fix="Allowed are true, false.")
    if value == "false" and statement.query is not None:
        raise InvalidParameter(
            "`snapshot = 'false'` is for CREATE SINK ... FROM only",
            fix="Create a materialized view of the query, and the sink FROM it.",
        )


def _subscription(statement: CreateSubscription, place: Place, catalog: Catalog) -> Built:
    found = catalog.must_find(statement.source, place.database)
    if not isinstance(found, Relation) or found.kind not in ("table", "materialized view"):
        raise SqlError(
            f"`{found.name}` is a {found.kind}, one cannot subscribe to it",
            position=statement.source.position,
            sqlstate="42809",
        )
    if "retention" not in statement.options:
        raise InvalidParameter("a subscription needs `retention`", fix="For example `WITH (retention = '1 day')`.")
    from engine.sql.intervals import parse_interval

    retention_us = parse_interval(statement.options["retention"]).fixed_us
    seconds = retention_us / 1e6 if retention_us is not None else _RETENTION_DEFAULT_SECONDS * 30
    subscription = Subscription(
        place.id, place.database, place.schema, place.name, statement.text, (found.id,), "subscription", found.id, seconds
    )
    return Built(subscription, RelationLeaf(found))


def _function(statement: CreateFunction, place: Place, catalog: Catalog) -> Built:
    if statement.link is None and statement.language == "python":
        return Built(python_function(statement, place.id, place.database, place.schema))
    position = statement.name.position
    if statement.aggregate:
        raise UnsupportedQuery(
            f"LANGUAGE {statement.language} aggregates are not supported", position=position, fix="Write it in LANGUAGE python."
        )
    if statement.returns_table or statement.returns is None:
        raise UnsupportedQuery(
            "table functions are supported in LANGUAGE python only",
            position=position,
            fix="Write it in LANGUAGE python, or return an array and unnest it.",
        )
    if statement.link is None and statement.language != "sql":
        raise UnsupportedQuery(
            f"LANGUAGE {statement.language} functions are not supported",
            position=position,
            fix="Write it in LANGUAGE sql or python, or serve it with `USING LINK`.",
        )
    language = "sql" if statement.link is None else statement.language
    function = Function(
        place.id, place.database, place.schema, place.name, statement.text, (), "function", statement.arguments, statement.returns,
        statement.link, language, statement.body, statement.body or place.name,
    )  # fmt: skip
    if statement.link is not None:
        return Built(function)
    environment = table_environment(catalog, place.database)
    binder = ExpressionBinder(environment, Scope(), "a function")
    nothing = [Literal(type_, None) for _, type_ in function.arguments]
    try:
        inline_call(function, nothing, environment, lambda n, e, s: ExpressionBinder(e, s).bind(n), binder.coerce)
    except SqlError as error:
        error.position = position  # it counts in the body, which is a constant of the statement
        raise
    return Built(replace(function, depends_on=tuple(environment.used)))


def _index(statement: CreateIndex, place: Place, catalog: Catalog) -> Built:
    found = catalog.must_find(statement.table, place.database)
    if not isinstance(found, Relation) or found.kind not in ("table", "materialized view"):
        raise SqlError(
            f"`{found.name}` is a {found.kind}, it cannot be indexed", position=statement.table.position, sqlstate="42809"
        )
    binder = ExpressionBinder(table_environment(catalog, place.database), scope_of(found), "an index")
    names = []
    for column in statement.columns:
        binder.order_key(column)
        names += [part.name for part in column.find_all(exp.Column)][:1]
    index = Index(
        place.id, place.database, place.schema, place.name, statement.text, (found.id,), "index", found.id, tuple(names)
    )
    return Built(index)


def _secret(statement: CreateSecret, place: Place) -> Built:
    backend = statement.options.get("backend", "meta")
    if backend != "meta":
        raise UnsupportedQuery(
            f"secrets in `{backend}` are not supported",
            position=statement.name.position,
            fix="Write `WITH (backend = 'meta')`.",
        )
    return Built(
        Secret(place.id, place.database, place.schema, place.name, statement.text, (), "secret", value=statement.value)
    )


def _connection(statement: CreateConnection, place: Place, catalog: Catalog) -> Built:
    kind = statement.options.get("type", "").lower()
    if kind not in ("kafka", "iceberg", "schema_registry"):
        raise InvalidParameter(
            f"a connection of type `{kind}` is not supported",
            position=statement.name.position,
            fix="`type` is one of 'kafka', 'iceberg' and 'schema_registry'.",
        )
    reader = OptionReader(catalog, place.database)
    reader.read(statement.options)
    connection = Connection(
        place.id, place.database, place.schema, place.name, statement.text, tuple(reader.used), "connection", options=dict(statement.options)
    )  # fmt: skip
    return Built(connection)
