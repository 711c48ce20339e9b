"""INSERT, UPDATE and DELETE: bound, evaluated on the last committed epoch, and handed to the table's buffer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pyarrow as pa
from sqlglot import exp

from engine.catalog.catalog import Catalog
from engine.catalog.objects import ColumnInfo, Input
from engine.front.reading import read_sql
from engine.plan.algebra import Node, OutputColumn, Project, Values
from engine.session import Field
from engine.sql.binder import bind_query
from engine.sql.binder.expression import ExpressionBinder
from engine.sql.binder.query import project
from engine.sql.binder.scope import Environment, Scope, ScopeColumn, position_of
from engine.sql.errors import SqlError, UndefinedColumn, UnsupportedQuery
from engine.sql.expressions import Column, Expr, Literal, render, render_lenient
from engine.sql.statements import Copy, Delete, Insert, ObjectName, Update
from engine.sql.types import UNKNOWN, VARCHAR

ReadRows = Callable[[str], pa.Table]


@dataclass(frozen=True)
class Write:
    """A bound change of a table.

    Attributes:
        table: the target.
        select: DuckDB query of the rows; for insertions the declared columns c0 .., for the others see `kind`.
        kind: insert, update (old columns c0 .., then new ones n0 ..) or delete (all physical columns).
    """

    table: Input
    select: str
    kind: str


def bind_write(statement: Insert | Update | Delete, environment: Environment) -> Write:
    """Bind a change.

    Raises:
        SqlError: the table is no table, a column is unknown or a value does not fit.
    """
    if statement.returning:
        raise UnsupportedQuery("RETURNING is not supported yet", fix="Run FLUSH and SELECT the rows.")
    table = _must_be_table(statement.table, environment.catalog, environment.database)
    if isinstance(statement, Insert):
        return Write(table, _bind_insert(statement, table, environment), "insert")
    if isinstance(statement, Delete):
        everything = ", ".join(f"c{i}" for i in range(len(table.columns)))
        return Write(table, f"SELECT {everything} FROM {table.physical}{_where(statement.where, table, environment)}", "delete")
    return Write(table, _bind_update(statement, table, environment), "update")


def _must_be_table(name: ObjectName, catalog: Catalog, database: str) -> Input:
    found = catalog.must_find(name, database)
    if not isinstance(found, Input) or found.kind != "table":
        raise SqlError(
            f"cannot change {found.kind} `{name.name}`",
            position=name.position,
            sqlstate="42809",
            fix="Only tables take INSERT, UPDATE and DELETE.",
        )
    return found


def _bind_insert(statement: Insert, table: Input, environment: Environment) -> str:
    targets = _target_columns(statement.columns, statement.table, table)
    node = _bind_rows(statement.query, [table.columns[t] for t in targets], environment)
    by_target = {t: i for i, t in enumerate(targets)}
    outputs: list[tuple[str, Expr]] = []
    for position, column in enumerate(table.columns):
        if column.hidden:
            continue
        if position in by_target:
            index = by_target[position]
            outputs.append((column.name, Column(node.columns[index].type, index)))
        else:
            outputs.append((column.name, column.default or Literal(column.type, None)))
    return read_sql(project(node, outputs), environment.catalog, environment.database)


def _target_columns(names: Sequence[str], target: ObjectName, table: Input) -> list[int]:
    positions = {c.name: i for i, c in enumerate(table.columns) if not c.hidden}
    if not names:
        return list(positions.values())
    for name in names:
        if name not in positions:
            raise UndefinedColumn(
                f"column `{name}` of relation `{table.name}` does not exist",
                position=target.position,
                fix=f"Known: {', '.join(positions)}.",
            )
    if len(set(names)) != len(names):
        raise SqlError("a column is named more than once", position=target.position, sqlstate="42701")
    return [positions[name] for name in names]


def _bind_rows(query: exp.Expr, targets: Sequence[ColumnInfo], environment: Environment) -> Node:
    """The rows to insert, cast to the types of the columns they go to."""
    binder = ExpressionBinder(environment, Scope(), "VALUES")
    values = _plain_values(query)
    if values is not None:
        rows = []
        for row in values.expressions:
            items = row.expressions if isinstance(row, exp.Tuple) else [row]
            if len(items) > len(targets):
                raise SqlError("INSERT has more expressions than target columns", position=position_of(row), sqlstate="42601")
            bound = [_value(item, target, binder) for item, target in zip(items, targets, strict=False)]
            bound += [_default(target) for target in targets[len(items) :]]
            rows.append(tuple(bound))
        return Values(tuple(OutputColumn(t.name, t.type) for t in targets), tuple(rows))
    node = bind_query(query, environment).node
    if len(node.columns) > len(targets):
        raise SqlError("INSERT has more expressions than target columns", position=position_of(query), sqlstate="42601")
    exprs: list[Expr] = []
    for index, (column, target) in enumerate(zip(node.columns, targets, strict=False)):
        constant = node.exprs[index] if isinstance(node, Project) else None
        if isinstance(constant, Literal) and constant.type == VARCHAR:
            exprs.append(binder.coerce(Literal(UNKNOWN, constant.value), target.type))
        else:
            exprs.append(binder.assign(Column(column.type, index), target.type, target.name, position_of(query)))
    exprs += [_default(target) for target in targets[len(node.columns) :]]
    return Project(tuple(OutputColumn(t.name, t.type) for t in targets), node, tuple(exprs))


def _plain_values(query: exp.Expr) -> exp.Values | None:
    """The VALUES of `INSERT ... VALUES`, where a constant takes the type of its column."""
    if isinstance(query, exp.Values):
        return query
    if isinstance(query, exp.Select) and len(query.expressions) == 1 and isinstance(query.expressions[0], exp.Star):
        from_ = query.args.get("from_")
        others = [k for k, v in query.args.items() if v and k not in ("expressions", "from_", "kind")]
        if from_ is not None and isinstance(from_.this, exp.Values) and not from_.this.args.get("alias") and not others:
            values: exp.Values = from_.this
            return values
    return None


def _value(item: exp.Expr, target: ColumnInfo, binder: ExpressionBinder) -> Expr:
    if isinstance(item, exp.Var) and item.name.upper() == "DEFAULT":
        return _default(target)
    return binder.assign(binder.bind(item), target.type, target.name, position_of(item))


def _default(target: ColumnInfo) -> Expr:
    return target.default or Literal(target.type, None)


def _bind_update(statement: Update, table: Input, environment: Environment) -> str:
    scope = _scope(table)
    binder = ExpressionBinder(environment, scope, "UPDATE")
    changed: dict[int, Expr] = {}
    positions = {c.name: i for i, c in enumerate(table.columns) if not c.hidden}
    for name, node in statement.assignments:
        if name not in positions:
            raise UndefinedColumn(f"column `{name}` of relation `{table.name}` does not exist", position=position_of(node))
        position = positions[name]
        if position in table.primary_key:
            raise UnsupportedQuery(
                "update modifying the primary key is not supported, as in RisingWave",
                position=position_of(node),
                fix="DELETE the row and INSERT the new one.",
            )
        changed[position] = _value(node, table.columns[position], binder)
    items = [f"c{i}" for i in range(len(table.columns))]
    items += [f"{render(changed[i]) if i in changed else f'c{i}'} AS n{i}" for i in range(len(table.columns))]
    return f"SELECT {', '.join(items)} FROM {table.physical}{_where(statement.where, table, environment)}"


def _scope(table: Input) -> Scope:
    return Scope(tuple(ScopeColumn(table.name, c.name, c.type, i) for i, c in enumerate(table.columns) if not c.hidden))


def _where(where: exp.Expr | None, table: Input, environment: Environment) -> str:
    if where is None:
        return ""
    predicate = ExpressionBinder(environment, _scope(table), "WHERE").bind_boolean(where, "WHERE")
    return f" WHERE {render_lenient(predicate)}"


@dataclass(frozen=True)
class CopyTarget:
    """Where COPY FROM puts its data: the table and the positions of the columns that the data has."""

    table: Input
    positions: list[int]

    @property
    def fields(self) -> tuple[Field, ...]:
        return tuple(Field(self.table.columns[p].name, self.table.columns[p].type) for p in self.positions)


def copy_target(statement: Copy, environment: Environment) -> CopyTarget:
    """Resolve the table and columns of COPY FROM."""
    assert statement.table is not None
    table = _must_be_table(statement.table, environment.catalog, environment.database)
    return CopyTarget(table, _target_columns(statement.columns, statement.table, table))


def changes_of(write: Write, rows: pa.Table, row_ids: Callable[[int], range]) -> pa.Table:
    """The buffer's form of evaluated rows: columns c0 .. of all physical columns, and `d`.

    Raises:
        SqlError: 23502, NULL in a NOT NULL column or a primary key.
    """
    table = write.table
    width = len(table.columns)
    count = rows.num_rows
    if write.kind == "insert":
        columns = list(rows.columns)
        columns += [pa.chunked_array([pa.array(row_ids(count), pa.int64())]) for column in table.columns if column.hidden]
        new = pa.table(columns, names=[f"c{i}" for i in range(width)])
        _check_nulls(table, new)
        return new.append_column("d", pa.array([1] * count, pa.int8()))
    old = pa.table([rows.column(i) for i in range(width)], names=[f"c{i}" for i in range(width)])
    gone = old.append_column("d", pa.array([-1] * count, pa.int8()))
    if write.kind == "delete":
        return gone
    new = pa.table([rows.column(width + i) for i in range(width)], names=[f"c{i}" for i in range(width)])
    _check_nulls(table, new)
    return pa.concat_tables([gone, new.append_column("d", pa.array([1] * count, pa.int8()))], promote_options="permissive")


def _check_nulls(table: Input, rows: pa.Table) -> None:
    for position, column in enumerate(table.columns):
        if (column.not_null or position in table.primary_key) and rows.column(position).null_count:
            raise SqlError(
                f"null value in column `{column.name}` of relation `{table.name}` violates not-null constraint",
                sqlstate="23502",
                fix="Give it a value.",
            )
