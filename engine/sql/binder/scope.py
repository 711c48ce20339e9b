"""Which names can be seen where, and what they mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pyarrow as pa
from sqlglot import exp

from engine.catalog.catalog import Catalog
from engine.catalog.objects import CatalogObject, Shape
from engine.catalog.relations import LiveRows
from engine.sql.errors import AmbiguousColumn, UndefinedColumn, UndefinedTable
from engine.sql.expressions import Column, Expr, OuterColumn
from engine.sql.types import SqlType


@dataclass(frozen=True)
class ScopeColumn:
    """A column that an expression may name.

    Attributes:
        merged: the other side of a USING join, found only when qualified.
        hidden: found by its name, no part of `*`.
    """

    table: str | None
    name: str
    type: SqlType
    index: int
    merged: bool = False
    hidden: bool = False


@dataclass(frozen=True)
class Scope:
    """The columns of one FROM clause, in order."""

    columns: tuple[ScopeColumn, ...] = ()

    def find(self, name: str, table: str | None, position: int | None) -> Column:
        """Resolve a column name.

        Raises:
            UndefinedColumn, AmbiguousColumn, UndefinedTable: as PostgreSQL would.
        """
        matches = [c for c in self.columns if c.name == name and (c.table == table if table else not c.merged)]
        if len(matches) > 1:
            raise AmbiguousColumn(
                f"column reference `{name}` is ambiguous",
                position=position,
                fix=f"Qualify it: {', '.join(f'`{c.table}.{name}`' for c in matches)}.",
            )
        if matches:
            return Column(matches[0].type, matches[0].index)
        if table and not any(c.table == table for c in self.columns):
            raise UndefinedTable(
                f"missing FROM-clause entry for table `{table}`",
                position=position,
                fix=f"In scope: {', '.join(f'`{t}`' for t in dict.fromkeys(c.table for c in self.columns) if t)}.",
            )
        shown = f"{table}.{name}" if table else name
        known = ", ".join(f"`{c.name}`" for c in self.columns[:12])
        raise UndefinedColumn(
            f"column `{shown}` does not exist", position=position, fix=f"In scope: {known}." if known else None
        )

    def has(self, name: str) -> bool:
        return any(c.name == name for c in self.columns)

    def of_table(self, table: str, position: int | None) -> list[ScopeColumn]:
        found = [c for c in self.columns if c.table == table and not c.hidden]
        if not found:
            raise UndefinedTable(f"missing FROM-clause entry for table `{table}`", position=position)
        return found

    @property
    def width(self) -> int:
        """How many columns the relation has; a merged one is listed twice."""
        return max((c.index for c in self.columns), default=-1) + 1

    def beside(self, other: Scope) -> Scope:
        """Both scopes, the other's columns shifted behind mine."""
        by = self.width
        moved = tuple(replace(c, index=c.index + by) for c in other.columns)
        return Scope(self.columns + moved)


@dataclass
class Closure:
    """What a subquery takes from the query around it.

    Attributes:
        scope: columns of the query around it.
        outer: that query's own closure, where it is a subquery too.
        args: expressions over the columns of the query around it, in the order of first use.
    """

    scope: Scope
    outer: Closure | None
    args: list[Expr] = field(default_factory=list)

    def find(self, name: str, table: str | None, position: int | None) -> OuterColumn:
        """Resolve a name that the subquery itself does not have."""
        found: Expr
        try:
            found = self.scope.find(name, table, position)
        except (UndefinedColumn, UndefinedTable):
            if self.outer is None:
                raise
            found = self.outer.find(name, table, position)
        if found not in self.args:
            self.args.append(found)
        return OuterColumn(found.type, self.args.index(found))


@dataclass
class Environment:
    """What a whole statement is bound against.

    Attributes:
        catalog: the snapshot that names are looked up in.
        database: the session's database.
        ctes: common table expressions in sight.
        parameters: values of `$1` ... as literals, or None while preparing.
        parameter_types: types that were given or inferred, by number.
        relations: ids of relations and functions that were used, in order of use.
        known_columns: inside a view, the columns that it knew when it was created.
        settings: run-time parameters of the session.
        live: rows of system relations that only the running engine knows.
        tables: rows in memory that the statement's query reads by name.
        constants: what functions without arguments say about the session (`current_database`, `current_user` ...).
    """

    catalog: Catalog
    database: str
    ctes: Mapping[str, exp.CTE] = field(default_factory=dict)
    parameters: tuple[object, ...] | None = None
    parameter_types: dict[int, SqlType] = field(default_factory=dict)
    used: dict[int, None] = field(default_factory=dict)
    depth: int = 0
    closure: Closure | None = None
    known_columns: Mapping[int, Shape] = field(default_factory=dict)
    constants: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    live: Mapping[str, LiveRows] = field(default_factory=dict)
    tables: dict[str, pa.Table] = field(default_factory=dict)

    @property
    def zone(self) -> str:
        """The session's time zone; views and other jobs are in UTC."""
        return self.settings.get("timezone", "UTC")

    def inside(self, ctes: Mapping[str, exp.CTE]) -> Environment:
        """The same statement, with other common table expressions in sight."""
        return replace(self, ctes=ctes, depth=self.depth + 1)

    def of_subquery(self, closure: Closure) -> Environment:
        """The inside of a subquery: what it does not find it takes through `closure`."""
        return replace(self, closure=closure, depth=self.depth + 1)

    def of_view(self, view: CatalogObject) -> Environment:
        """The inside of a view: names mean what they meant when it was created."""
        path = view.pins.path or self.catalog.path
        catalog = replace(self.catalog, pins=view.pins.names, path=path, trace=None, before=view.id)
        known = view.pins.columns
        return replace(self.inside({}), closure=None, catalog=catalog, database=view.database, known_columns=known)


def position_of(node: exp.Expr) -> int | None:
    """The 1-based position of the node in the statement, where the parser left one."""
    for part in node.walk():
        position = part.meta.get("position")
        if position is not None:
            return int(position)
    return None
