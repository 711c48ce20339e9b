"""INSERT, UPDATE and DELETE: bound, evaluated on the last committed epoch, and handed to the table's buffer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal as OneOf

import pyarrow as pa
from sqlglot import exp

from engine.catalog.catalog import Catalog
from engine.catalog.objects import ColumnInfo, Input
from engine.catalog.text import quote_name
from engine.connectors.arrow_types import physical_type
from engine.front.constants import constant_rows
from engine.front.reading import read_sql
from engine.plan.algebra import Node, OutputColumn, Project, Scan, Values
from engine.runtime.table_changes import add_generated
from engine.session import Field
from engine.sql.binder import BoundQuery, bind_query
from engine.sql.binder.expression import ExpressionBinder
from engine.sql.binder.query import project
from engine.sql.binder.scope import Environment, Scope, ScopeColumn, position_of
from engine.sql.errors import SqlError, UndefinedColumn, UnsupportedQuery
from engine.sql.expressions import Call, Column, Expr, Literal, render, render_lenient
from engine.sql.statements import ColumnDefinition, Copy, CreateTable, Delete, Insert, ObjectName, Update
from engine.sql.types import UNKNOWN, VARCHAR

_CONSTRUCTORS = ("row", "array", "map_from_key_values")


@dataclass(frozen=True)
class Write:
    """A bound change of a table.

    Attributes:
        table: the target.
        select: DuckDB query of the rows; for insertions the visible columns c0 .., for the others see `kind`; what RETURNING
            asks for stands behind them.
        kind: insert, update (old columns c0 .., then new ones n0 ..) or delete (all physical columns).
        returning: columns of the answer; None without RETURNING.
        constants: the rows themselves, where they are constants; then there is no query.
    """

    table: Input
    select: str
    kind: OneOf["insert", "update", "delete"]
    returning: tuple[Field, ...] | None = None
    constants: pa.Table | None = None

    def split(self, rows: pa.Table) -> tuple[pa.Table, pa.Table | None]:
        """The rows to write, and the answer of RETURNING."""
        if self.returning is None:
            return rows, None
        width = rows.num_columns - len(self.returning)
        return rows.select(range(width)), rows.select(range(width, rows.num_columns))


def bind_write(statement: Insert | Update | Delete, environment: Environment) -> Write:
    """Bind a change.

    Raises:
        SqlError: the table is no table, a column is unknown or a value does not fit.
    """
    table = _must_be_table(statement.table, environment.catalog, environment.database)
    if isinstance(statement, Insert):
        return _with_returning(_bind_insert(statement, table, environment), statement, environment)
    if table.append_only:
        raise UnsupportedQuery(
            f"table `{table.name}` is APPEND ONLY, its rows cannot be changed or deleted",
            position=statement.table.position,
            fix="Only INSERT works on it.",
        )
    if isinstance(statement, Delete):
        return _with_returning(Write(table, _bind_delete(statement, table, environment), "delete"), statement, environment)
    return _with_returning(Write(table, _bind_update(statement, table, environment), "update"), statement, environment)


def _with_returning(write: Write, statement: Insert | Update | Delete, environment: Environment) -> Write:
    """Compute the items of RETURNING beside the rows, so that both see the same values."""
    if not statement.returning:
        return write
    name = statement.table
    target = exp.Table(**{k: exp.to_identifier(v, quoted=True) for k, v in (("this", name.name), ("db", name.schema)) if v})
    select = exp.Select(expressions=[e.copy() for e in statement.returning], from_=exp.From(this=target))
    node = bind_query(select, environment).node
    exprs: Sequence[Expr] = [Column(c.type, i) for i, c in enumerate(node.columns)]
    if isinstance(node, Project) and isinstance(node.input, Scan):
        exprs = node.exprs
    elif not isinstance(node, Scan):
        raise UnsupportedQuery(
            "RETURNING takes plain expressions of the changed row",
            position=position_of(statement.returning[0]),
            fix="Run a SELECT for anything else.",
        )
    physical = [i for i, c in enumerate(write.table.columns) if not c.hidden]
    letter = "n" if write.kind == "update" else "c"

    def name_of(index: int) -> str:
        return f"x.c{index}" if write.kind == "insert" else f"x.{letter}{physical[index]}"

    items = "".join(f", {render(e, name_of)} AS r{i}" for i, e in enumerate(exprs))
    fields = tuple(Field(c.name, c.type) for c in node.columns)
    return Write(write.table, f"SELECT x.*{items} FROM ({write.select}) AS x", write.kind, fields)


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


def _bind_insert(statement: Insert, table: Input, environment: Environment) -> Write:
    targets = _target_columns(statement.columns, statement.table, table)
    node = _bind_rows(statement.query, [table.columns[t] for t in targets], environment, named=bool(statement.columns))
    by_target = {t: i for i, t in enumerate(targets)}
    values: dict[int, Expr] = {}
    for position, column in enumerate(table.columns):
        if position in by_target:
            index = by_target[position]
            values[position] = Column(node.columns[index].type, index)
        else:
            values[position] = _default(column)
    add_generated(table, values)
    outputs = [(column.name, values[position]) for position, column in enumerate(table.columns) if not column.hidden]
    constants = constant_rows(node, [value for _, value in outputs]) if not statement.returning else None
    select = read_sql(project(node, outputs), environment) if constants is None else ""
    return Write(table, select, "insert", constants=constants)


def _target_columns(names: Sequence[str], target: ObjectName, table: Input) -> list[int]:
    positions = {c.name: i for i, c in enumerate(table.columns) if not c.hidden}
    if not names:
        return [i for i in positions.values() if table.columns[i].generated is None]
    for name in names:
        if name in positions and table.columns[positions[name]].generated is not None:
            raise SqlError(
                f"cannot insert a value into generated column `{name}`",
                position=target.position,
                sqlstate="428C9",
                fix="Leave the column out; it is computed.",
            )
        if name not in positions:
            raise UndefinedColumn(
                f"column `{name}` of relation `{table.name}` does not exist",
                position=target.position,
                fix=f"Known: {', '.join(positions)}.",
            )
    if len(set(names)) != len(names):
        raise SqlError("a column is named more than once", position=target.position, sqlstate="42701")
    return [positions[name] for name in names]


def _bind_rows(query: exp.Expr, targets: Sequence[ColumnInfo], environment: Environment, *, named: bool) -> Node:
    """The rows to insert, cast to the types of the columns they go to; columns that are `named` need a value each."""
    binder = ExpressionBinder(environment, Scope(), "VALUES")
    values = _plain_values(query)
    if values is not None:
        rows: list[tuple[Expr, ...]] = []
        width = 0
        for row in values.expressions:
            items = row.expressions if isinstance(row, exp.Tuple) else [row]
            _check_width(len(items), len(targets), row, named=named)
            if rows and len(items) != width:
                raise SqlError("VALUES lists must all be the same length", position=position_of(row), sqlstate="42601")
            width = len(items)
            bound = [_value(item, target, binder) for item, target in zip(items, targets, strict=False)]
            bound += [_default(target) for target in targets[len(items) :]]
            rows.append(tuple(bound))
        return Values(tuple(OutputColumn(t.name, t.type) for t in targets), tuple(rows))
    node = bind_query(query, environment).node
    _check_width(len(node.columns), len(targets), query, named=named)
    exprs: list[Expr] = []
    for index, (column, target) in enumerate(zip(node.columns, targets, strict=False)):
        written = node.exprs[index] if isinstance(node, Project) else None
        if isinstance(written, Literal) and written.type == VARCHAR:
            exprs.append(binder.coerce(Literal(UNKNOWN, written.value), target.type))
        elif isinstance(written, Call) and written.name in _CONSTRUCTORS and written.type != target.type:
            # Its constants take the types of the column; the query below computes it so.
            inner = binder.assign(written, target.type, target.name, position_of(query))
            node = _with_output(node, index, inner)
            exprs.append(Column(target.type, index))
        else:
            exprs.append(binder.assign(Column(column.type, index), target.type, target.name, position_of(query)))
    exprs += [_default(target) for target in targets[len(node.columns) :]]
    return Project(tuple(OutputColumn(t.name, t.type) for t in targets), node, tuple(exprs))


def _check_width(found: int, wanted: int, node: exp.Expr, *, named: bool) -> None:
    if found > wanted:
        raise SqlError("INSERT has more expressions than target columns", position=position_of(node), sqlstate="42601")
    if named and found < wanted:
        raise SqlError("INSERT has more target columns than expressions", position=position_of(node), sqlstate="42601")


def _with_output(node: Node, index: int, expr: Expr) -> Node:
    """The projection with another expression for one of its columns."""
    assert isinstance(node, Project)
    columns = tuple(OutputColumn(c.name, expr.type) if i == index else c for i, c in enumerate(node.columns))
    return replace(node, columns=columns, exprs=tuple(expr if i == index else e for i, e in enumerate(node.exprs)))


def _plain_values(query: exp.Expr) -> exp.Values | None:
    """The VALUES of `INSERT ... VALUES`, where a constant takes the type of its column."""
    if isinstance(query, exp.Values):
        return query
    if isinstance(query, exp.Select) and len(query.expressions) == 1 and isinstance(query.expressions[0], exp.Star):
        from_ = query.args.get("from_")
        others = [k for k, v in query.args.items() if v and k not in ("expressions", "from_", "kind")]
        if from_ is not None and isinstance(from_.this, exp.Values) and not from_.this.args.get("alias") and not others:
            values: exp.Values = from_.this
            return values if values.find(exp.Query) is None or values.find(exp.Var) is not None else None
    return None


def _value(item: exp.Expr, target: ColumnInfo, binder: ExpressionBinder) -> Expr:
    if _is_default(item):
        return _default(target)
    return binder.assign(binder.bind(item), target.type, target.name, position_of(item))


def _is_default(item: exp.Expr) -> bool:
    return isinstance(item, exp.Var) and item.name.upper() == "DEFAULT"


def _default(target: ColumnInfo) -> Expr:
    return target.default or Literal(target.type, None)


def _bind_delete(statement: Delete, table: Input, environment: Environment) -> str:
    everything = ", ".join(f"c{i}" for i in range(len(table.columns)))
    if _has_subquery(statement.where):
        return read_sql(_changed_rows(table, {}, statement.where, environment), _whole(table, environment))
    return f"SELECT {everything} FROM {table.physical}{_where(statement.where, table, environment)}"


def _bind_update(statement: Update, table: Input, environment: Environment) -> str:
    written: dict[int, exp.Expr] = {}
    positions = {c.name: i for i, c in enumerate(table.columns) if not c.hidden}
    for name, node in statement.assignments:
        if name not in positions:
            known = ", ".join(positions)
            raise UndefinedColumn(
                f"column `{name}` of relation `{table.name}` does not exist",
                position=position_of(node) or statement.table.position,
                fix=f"Known: {known}.",
            )
        position = positions[name]
        if position in table.primary_key:
            raise UnsupportedQuery(
                "update modifying the primary key is not supported, as in RisingWave",
                position=position_of(node),
                fix="DELETE the row and INSERT the new one.",
            )
        if table.columns[position].generated is not None:
            raise SqlError(
                f"cannot update generated column `{name}`", position=position_of(node), sqlstate="428C9", fix="It is computed."
            )
        if position in written:
            raise SqlError(f"column `{name}` is assigned more than once", position=position_of(node), sqlstate="42601")
        written[position] = node
    width = len(table.columns)
    values: dict[int, Expr] = {i: Column(c.type, i) for i, c in enumerate(table.columns)}
    if any(_has_subquery(node) for node in (*written.values(), statement.where)):
        source = _changed_rows(table, written, statement.where, environment)
        for index, position in enumerate(written):
            values[position] = Column(table.columns[position].type, width + index)
        add_generated(table, values)
        outputs: list[tuple[str, Expr]] = [(f"c{i}", Column(c.type, i)) for i, c in enumerate(table.columns)]
        outputs += [(f"n{i}", values[i]) for i in range(width)]
        names = ", ".join([f"c{i}" for i in range(width)] + [f"c{width + i} AS n{i}" for i in range(width)])
        return f"SELECT {names} FROM ({read_sql(project(source, outputs), _whole(table, environment))}) AS u"
    binder = ExpressionBinder(environment, _scope(table), "UPDATE")
    for position, item in written.items():
        values[position] = _value(item, table.columns[position], binder)
    add_generated(table, values)
    items = [f"c{i}" for i in range(width)] + [f"{render(values[i])} AS n{i}" for i in range(width)]
    return f"SELECT {', '.join(items)} FROM {table.physical}{_where(statement.where, table, environment)}"


def _has_subquery(node: exp.Expr | None) -> bool:
    return node is not None and node.find(exp.Query) is not None


def _whole(table: Input, environment: Environment) -> Environment:
    """The environment in which the table shows its hidden columns, too."""
    shown = replace(table, columns=tuple(replace(c, hidden=False) for c in table.columns))
    return replace(environment, catalog=environment.catalog.with_objects([shown]))


def _changed_rows(table: Input, written: Mapping[int, exp.Expr], where: exp.Expr | None, environment: Environment) -> Node:
    """All physical columns of the rows that WHERE chooses, then the new values in the order of `written`: bound as a query,
    so that subqueries may stand in both."""
    environment = _whole(table, environment)
    target = exp.Table(this=exp.to_identifier(table.name, quoted=True), db=exp.to_identifier(table.schema, quoted=True))
    star = exp.Column(this=exp.Star(), table=exp.to_identifier(table.name, quoted=True))
    values = [node.copy() if not _is_default(node) else exp.Null() for node in written.values()]
    select = exp.Select(expressions=[star, *values], from_=exp.From(this=target))
    if where is not None:
        select.set("where", exp.Where(this=where.copy()))
    node = bind_query(select, environment).node
    binder = ExpressionBinder(environment, Scope(), "UPDATE")
    width = len(table.columns)
    outputs: list[tuple[str, Expr]] = [(f"c{i}", Column(c.type, i)) for i, c in enumerate(table.columns)]
    for index, (position, written_node) in enumerate(written.items()):
        column = table.columns[position]
        constant = node.exprs[width + index] if isinstance(node, Project) else None
        if _is_default(written_node):
            value = _default(column)
        elif isinstance(constant, Literal) and constant.type == VARCHAR:
            value = binder.coerce(Literal(UNKNOWN, constant.value), column.type)
        else:
            found = Column(node.columns[width + index].type, width + index)
            value = binder.assign(found, column.type, column.name, position_of(written_node))
        outputs.append((column.name, value))
    return project(node, outputs)


def _scope(table: Input) -> Scope:
    return Scope(tuple(ScopeColumn(table.name, c.name, c.type, i) for i, c in enumerate(table.columns) if not c.hidden))


def _where(where: exp.Expr | None, table: Input, environment: Environment) -> str:
    if where is None:
        return ""
    predicate = ExpressionBinder(environment, _scope(table), "WHERE").bind_boolean(where, "WHERE")
    return f" WHERE {render_lenient(predicate)}"


def table_of_query(statement: CreateTable, bound: BoundQuery) -> CreateTable:
    """The plain CREATE TABLE that `CREATE TABLE ... AS query` begins with."""
    if any(c.type != UNKNOWN or c.generated is not None for c in statement.columns):
        raise UnsupportedQuery(
            "CREATE TABLE ... AS takes the types of its columns from the query",
            position=statement.name.position,
            fix="Name the columns only, and cast in the query.",
        )
    if len(statement.columns) > len(bound.columns):
        raise SqlError(
            f"{len(statement.columns)} column names for {len(bound.columns)} columns",
            position=statement.name.position,
            sqlstate="42601",
        )
    names = [c.name for c in statement.columns] + [c.name for c in bound.columns[len(statement.columns) :]]
    columns = tuple(ColumnDefinition(name, c.type) for name, c in zip(names, bound.columns, strict=True))
    listed = ", ".join(f"{quote_name(c.name)} {c.type.sql}" for c in columns)
    modes = " APPEND ONLY" if statement.append_only else ""
    text = f"CREATE TABLE {'.'.join(quote_name(part) for part in str(statement.name).split('.'))} ({listed}){modes}"
    return replace(statement, text=text, query=None, columns=columns)


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
        SqlError: 23502, NULL in a NOT NULL column; a primary key may be NULL, as in RisingWave.
    """
    table = write.table
    width = len(table.columns)
    count = rows.num_rows
    if write.kind == "insert":
        given = iter(rows.columns)
        columns = [next(given) if not column.hidden else _hidden_values(column, count, row_ids) for column in table.columns]
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


def _hidden_values(column: ColumnInfo, count: int, row_ids: Callable[[int], range]) -> pa.ChunkedArray:
    """Row ids, or nothing in a column that was dropped."""
    values = pa.array(row_ids(count), pa.int64()) if column.name == "_row_id" else pa.nulls(count, physical_type(column.type))
    return pa.chunked_array([values])


def _check_nulls(table: Input, rows: pa.Table) -> None:
    for position, column in enumerate(table.columns):
        if column.not_null and not column.hidden and rows.column(position).null_count:
            raise SqlError(
                f"null value in column `{column.name}` of relation `{table.name}` violates not-null constraint",
                sqlstate="23502",
                fix="Give it a value.",
            )
