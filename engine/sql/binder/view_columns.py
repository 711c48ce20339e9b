"""The columns of a view, found by binding its query again."""

from __future__ import annotations

from engine.catalog.catalog import Catalog
from engine.catalog.objects import ColumnInfo, View
from engine.sql.binder.query import bind_query
from engine.sql.binder.scope import Environment
from engine.sql.parser import parse
from engine.sql.statements import CreateView


def view_columns(view: View, catalog: Catalog) -> list[ColumnInfo]:
    """Names and types of what the view shows."""
    (statement,) = parse(view.sql)
    assert isinstance(statement, CreateView)
    environment = Environment(catalog, view.database).of_view(view)
    columns = bind_query(statement.query, environment).columns
    names = [*view.columns, *(c.name for c in columns[len(view.columns) :])]
    return [ColumnInfo(name, c.type) for name, c in zip(names, columns, strict=True)]
