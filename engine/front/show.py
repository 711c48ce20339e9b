"""SHOW, DESCRIBE and SHOW CREATE. Source: RisingWave documentation, the SHOW commands."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping

from engine.catalog.objects import Function, Relation, View
from engine.front.cursors import QueryCursor, SubscriptionCursor
from engine.front.variables import Variables
from engine.runtime.engine import Engine
from engine.session import Field
from engine.sql.binder import bind_query
from engine.sql.binder.scope import Environment
from engine.sql.errors import SqlError
from engine.sql.parser import parse_query
from engine.sql.statements import Describe, Show, ShowCreate
from engine.sql.types import VARCHAR

Rows = list[tuple[str | None, ...]]

_KINDS = {
    "tables": "table", "sources": "source", "materialized views": "materialized view", "views": "view", "sinks": "sink",
    "subscriptions": "subscription", "indexes": "index",
}  # fmt: skip


def show(
    statement: Show | Describe | ShowCreate, engine: Engine, environment: Environment, variables: Variables
) -> tuple[tuple[Field, ...], Rows]:
    """Columns and rows of the answer; all are text."""
    database = environment.database
    if isinstance(statement, ShowCreate):
        found = environment.catalog.must_find(statement.name, database)
        return _named("Name", "Create Sql"), [(f"{found.schema}.{found.name}", found.sql)]
    if isinstance(statement, Describe):
        return _columns(statement, environment)
    if statement.what == "columns":
        assert statement.name is not None
        return _columns(Describe(statement.text, statement.name), environment)
    kind = _KINDS.get(statement.what)
    if kind is not None:
        schema = statement.name.name if statement.name is not None else (environment.catalog.path or ("public",))[0]
        names = [o.name for o in engine.catalog.in_database(database) if o.kind == kind and o.schema == schema]
        return _named("Name"), [(name,) for name in sorted(names) if _like(name, statement.like)]
    if statement.what == "schemas":
        return _named("Name"), [
            (name,) for name in sorted({*engine.catalog.databases[database], "pg_catalog", "rw_catalog", "information_schema"})
        ]
    if statement.what == "databases":
        return _named("Name"), [(name,) for name in sorted(engine.catalog.databases)]
    if statement.what == "functions":
        functions = [o for o in engine.catalog.in_database(database) if isinstance(o, Function)]
        rows: Rows = [(f.name, ", ".join(t.sql for _, t in f.arguments), f.returns.sql, f.language, f.link) for f in functions]
        return _named("Name", "Arguments", "Return Type", "Language", "Link"), rows
    if statement.what == "jobs":
        return _named("Id", "Statement", "Progress"), []
    if statement.what in ("all", "parameters"):
        return _named("Name", "Setting", "Description"), [(name, value, "") for name, value in variables.all()]
    return _named(_title(statement.what)), [(variables.get(statement.what),)]


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


def _columns(statement: Describe, environment: Environment) -> tuple[tuple[Field, ...], Rows]:
    found = environment.catalog.must_find(statement.name, environment.database)
    fields = _named("Name", "Type", "Is Hidden", "Description")
    if isinstance(found, View):
        bound = bind_query(parse_query(f'SELECT * FROM "{found.schema}"."{found.name}"'), environment)
        return fields, [(c.name, c.type.sql, "false", None) for c in bound.columns]
    if not isinstance(found, Relation):
        raise SqlError(
            f"`{found.name}` is a {found.kind}, it has no columns", position=statement.name.position, sqlstate="42809"
        )
    return fields, [(c.name, c.type.sql, str(c.hidden).lower(), None) for c in found.columns]


def _named(*names: str) -> tuple[Field, ...]:
    return tuple(Field(name, VARCHAR) for name in names)


def _title(name: str) -> str:
    return name.replace(" ", "_")


def _like(name: str, pattern: str | None) -> bool:
    """LIKE with `%` and `_`."""
    if pattern is None:
        return True
    return fnmatch.fnmatchcase(name, pattern.replace("[", "[[]").replace("%", "*").replace("_", "?"))
