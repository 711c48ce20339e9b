"""SHOW, DESCRIBE and SHOW CREATE. Source: RisingWave documentation, the SHOW commands."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping

from engine.catalog.indexes import index_shape
from engine.catalog.objects import CatalogObject, ColumnInfo, Connection, Function, Index, Relation, Secret, Sink, View
from engine.front.cursors import QueryCursor, SubscriptionCursor
from engine.front.live import progress_text, state_names
from engine.front.variables import Variables
from engine.runtime.ddl import sink_fields
from engine.runtime.engine import Engine
from engine.session import Field
from engine.sql.binder import bind_query
from engine.sql.binder.scope import Environment
from engine.sql.errors import SqlError
from engine.sql.parser import parse_query
from engine.sql.parser.clauses import SECRET_MARK
from engine.sql.statements import Describe, Show, ShowCreate
from engine.sql.types import VARCHAR

Rows = list[tuple[str | None, ...]]

_KINDS = {
    "tables": "table", "sources": "source", "materialized views": "materialized view", "views": "view", "sinks": "sink",
    "subscriptions": "subscription",
}  # fmt: skip
_TITLES = {
    "users": ("Name", "Super User", "Create DB", "Create User", "Can Login"),
    "cluster": ("Id", "Addr", "Type", "State", "Parallelism"),
    "processlist": ("Id", "User", "Database", "Info"),
    "internal tables": ("Name",),
    "connections": ("Name", "Type", "Properties"),
    "secrets": ("Name",),
}


def show(
    statement: Show | Describe | ShowCreate, engine: Engine, environment: Environment, variables: Variables
) -> tuple[tuple[Field, ...], Rows]:
    """Columns and rows of the answer; all are text."""
    database = environment.database
    if isinstance(statement, ShowCreate):
        found = _to_show(statement, environment)
        return _named("Name", "Create Sql"), [(f"{found.schema}.{found.name}", found.sql)]
    if isinstance(statement, Describe):
        fields, described = _columns(statement, engine, environment)
        return fields, described + _about(statement, environment)
    if statement.what == "columns":
        assert statement.name is not None
        fields, rows = _columns(Describe(statement.text, statement.name), engine, environment)
        return fields, [row for row in rows if _like(str(row[0]), statement.like)]
    if statement.what == "indexes":
        return _indexes(statement, environment)
    if statement.what in _TITLES:
        return _named(*_TITLES[statement.what]), _others(statement.what, engine, environment)
    kind = _KINDS.get(statement.what)
    if kind is not None:
        schemas = (statement.name.name,) if statement.name is not None else environment.catalog.path or ("public",)
        listed = [o for o in engine.catalog.in_database(database) if o.kind == kind and o.schema in schemas]
        names = [(o.schema, o.name) for o in listed if _like(o.name, statement.like)]
        return _named("Name"), [(f"{schema}.{name}",) for schema, name in sorted(names)]
    if statement.what == "schemas":
        return _named("Name"), [
            (name,) for name in sorted({*engine.catalog.databases[database], "pg_catalog", "rw_catalog", "information_schema"})
        ]
    if statement.what == "databases":
        return _named("Name"), [(name,) for name in sorted(engine.catalog.databases)]
    if statement.what == "functions":
        functions = [o for o in engine.catalog.in_database(database) if isinstance(o, Function)]
        rows = [(f.name, ", ".join(t.sql for _, t in f.arguments), f.returns.sql, f.language, f.server) for f in functions]
        return _named("Name", "Arguments", "Return Type", "Language", "Link"), rows
    if statement.what == "jobs":
        jobs: Rows = [(str(number), b.object.sql, progress_text(b)) for number, b in sorted(engine.backfills.items())]
        return _named("Id", "Statement", "Progress"), [row for row in jobs if _like(str(row[1]), statement.like)]
    if statement.what in ("all", "parameters"):
        return _named("Name", "Setting", "Description"), [(name, value, "") for name, value in variables.all()]
    return _named(_title(statement.what)), [(variables.get(statement.what),)]


def _to_show(statement: ShowCreate, environment: Environment) -> CatalogObject:
    """What SHOW CREATE names; a secret has nothing to show."""
    catalog, database = environment.catalog, environment.database
    if statement.kind == "function":
        found = catalog.find_functions(statement.name.name, database, statement.name.schema)
        if not found:
            raise SqlError(f"function `{statement.name}` does not exist", position=statement.name.position, sqlstate="42883")
        return found[0]
    if statement.kind == "secret":
        raise SqlError(
            "a secret cannot be shown", position=statement.name.position, sqlstate="0A000", fix="SHOW SECRETS lists the names."
        )
    return catalog.must_find(statement.name, database, (statement.kind,))


def _indexes(statement: Show, environment: Environment) -> tuple[tuple[Field, ...], Rows]:
    """All indexes of a table, or the names of all in a schema."""
    catalog = environment.catalog
    found = [o for o in catalog.in_database(environment.database) if isinstance(o, Index)]
    if statement.name is not None:
        table = catalog.must_find(statement.name, environment.database)
        found = [o for o in found if o.relation == table.id]
    rows: Rows = []
    for index in found:
        if _like(index.name, statement.like):
            relation = catalog.relation(index.relation)
            shape = index_shape(index, relation)
            parts = (shape.keys, shape.include, shape.distributed_by)
            rows.append((index.name, relation.name, *(", ".join(map(str, part)) for part in parts)))
    return _named("Name", "On", "Key", "Include", "Distributed By"), sorted(rows, key=lambda row: str(row[0]))


def _others(what: str, engine: Engine, environment: Environment) -> Rows:
    if what == "users":
        users = environment.catalog.users.values()
        rights = [(u.name, u.superuser, u.create_db, u.create_user, u.login) for u in users]
        return [(name, *(str(right).lower() for right in others)) for name, *others in rights]
    if what == "cluster":
        return [("1", "127.0.0.1", "WORKER_TYPE_ALL", "RUNNING", str(engine.settings.threads))]
    if what == "processlist":
        return [("1", environment.constants.get("current_user", "root"), environment.database, "SHOW PROCESSLIST")]
    if what == "secrets":
        return [(o.name,) for o in environment.catalog.in_database(environment.database) if isinstance(o, Secret)]
    if what == "connections":
        found = [o for o in environment.catalog.in_database(environment.database) if isinstance(o, Connection)]
        return [(o.name, o.options["type"], _shown_options(o)) for o in found]
    if what == "internal tables":
        names = (
            name for job in engine.jobs.values() if job.object.database == environment.database for name in state_names(job)
        )
        return sorted((name.removeprefix("hr."),) for name, _ in names)
    return []


def _shown_options(connection: Connection) -> str:
    """The options as written, secrets by name."""
    return ", ".join(
        f"{key} = SECRET {value.removeprefix(SECRET_MARK)}" if value.startswith(SECRET_MARK) else f"{key} = '{value}'"
        for key, value in connection.options.items()
        if key != "type"
    )


def _about(statement: Describe, environment: Environment) -> Rows:
    """Behind the columns: keys, indexes, and what the relation is called."""
    found = environment.catalog.must_find(statement.name, environment.database)
    rows: Rows = []
    if isinstance(found, Relation) and found.key:
        key = ", ".join(found.columns[p].name for p in found.key)
        rows += [("primary key", key, None, None), ("distribution key", key, None, None)]
    for index in environment.catalog.in_database(environment.database):
        if isinstance(index, Index) and index.relation == found.id:
            shape = index_shape(index, environment.catalog.relation(found.id))
            text = f"index({', '.join(map(str, shape.keys))})"
            text += f" include({', '.join(shape.include)})" if shape.include else ""
            rows.append((index.name, f"{text} distributed by({', '.join(shape.distributed_by)})", None, None))
    return [*rows, ("table description", found.name, None, environment.catalog.comments.get((found.id, 0)))]


def show_cursors(
    what: str, cursors: Mapping[str, QueryCursor | SubscriptionCursor], user: str, database: str
) -> tuple[tuple[Field, ...], Rows]:
    """The cursors of this session; each one ends with it."""
    names = ["Session", "User", "Host", "Database", "Cursor Name"]
    if what == "cursors":
        return _named(*names), [
            ("current", user, "", database, name) for name, c in cursors.items() if isinstance(c, QueryCursor)
        ]
    rows: Rows = [
        ("current", user, "", database, name, c.subscription.name, "Fetch", f"{c.idle_seconds:.0f} s")
        for name, c in cursors.items()
        if isinstance(c, SubscriptionCursor)
    ]
    return _named(*names, "Subscription", "State", "Idle Duration"), rows


def _columns(statement: Describe, engine: Engine, environment: Environment) -> tuple[tuple[Field, ...], Rows]:
    found = environment.catalog.must_find(statement.name, environment.database)
    fields = _named("Name", "Type", "Is Hidden", "Description")
    if isinstance(found, View):
        bound = bind_query(parse_query(f'SELECT * FROM "{found.schema}"."{found.name}"'), environment)
        return fields, [(c.name, c.type.sql, "false", None) for c in bound.columns]
    if isinstance(found, Sink):
        sent = sink_fields(found, engine.jobs[found.id], engine.catalog.pinned(found.pins))
        return fields, [(name, type_.sql, "false", None) for name, type_ in sent]
    if not isinstance(found, Relation):
        raise SqlError(
            f"`{found.name}` is a {found.kind}, it has no columns", position=statement.name.position, sqlstate="42809"
        )
    comments = environment.catalog.comments
    shown = [(i, c) for i, c in enumerate(found.columns, start=1) if not c.name.startswith("_dropped_")]
    shown.sort(key=lambda item: item[1].hidden)
    return fields, [(c.name, _type_text(c), str(c.hidden).lower(), comments.get((found.id, i))) for i, c in shown]


def _type_text(column: ColumnInfo) -> str:
    return "serial" if column.name == "_row_id" and column.hidden else column.type.sql


def _named(*names: str) -> tuple[Field, ...]:
    return tuple(Field(name, VARCHAR) for name in names)


def _title(name: str) -> str:
    return name.replace(" ", "_")


def _like(name: str, pattern: str | None) -> bool:
    """LIKE with `%` and `_`."""
    if pattern is None:
        return True
    return fnmatch.fnmatchcase(name, pattern.replace("[", "[[]").replace("%", "*").replace("_", "?"))
