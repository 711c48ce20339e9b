"""EXPLAIN: the operators that keep an object up to date, or the one query that answers a statement."""

from __future__ import annotations

from engine.catalog.objects import Input
from engine.front.reading import read_sql
from engine.front.writing import bind_write
from engine.plan.stream import compile_stream, explain
from engine.runtime.builder import Built, Place, build
from engine.sql.binder import bind_query
from engine.sql.binder.scope import Environment
from engine.sql.errors import UnsupportedQuery
from engine.sql.statements import (
    CreateIndex,
    CreateMaterializedView,
    CreateSink,
    CreateSource,
    CreateSubscription,
    CreateTable,
    CreateView,
    Delete,
    Insert,
    QueryStatement,
    Statement,
    Update,
)

_CREATES = (CreateTable, CreateSource, CreateView, CreateSink, CreateSubscription, CreateIndex)


def explained(statement: Statement, environment: Environment) -> list[str]:
    """The lines of the plan; nothing is created or changed.

    Raises:
        SqlError: the statement itself is refused, or has no plan.
    """
    if isinstance(statement, CreateMaterializedView):
        node = bind_query(statement.query, environment).node
        return explain(compile_stream(node, environment.catalog, emit_on_window_close=statement.emit_on_window_close))
    if isinstance(statement, QueryStatement):
        return [read_sql(bind_query(statement.query, environment).node, environment)]
    if isinstance(statement, (Insert, Update, Delete)):
        write = bind_write(statement, environment)
        return [f"{write.kind.capitalize()} {{ {write.table.name} }}", f"  {write.select}"]
    if isinstance(statement, _CREATES):
        database, schema = environment.catalog.place(statement.name, environment.database)
        place = Place(environment.catalog.next_id(), database, schema, statement.name.name)
        return _of_object(build(statement, place, environment.catalog, {}))
    raise UnsupportedQuery(
        "EXPLAIN takes a query, a change of a table, or the CREATE of something that has rows",
        fix="Leave EXPLAIN out, or see SHOW CREATE for what exists.",
    )


def _of_object(built: Built) -> list[str]:
    created = built.object
    head = f"{created.kind.title().replace(' ', '')} {{ {created.name} }}"
    if isinstance(created, Input):
        key = ", ".join(created.columns[p].name for p in created.key)
        head = f"{head[:-2]}, key: ({key}), on conflict: {created.on_conflict} }}"
    return [head, *(f"  {line}" for line in (explain(built.root) if built.root is not None else ()))]
