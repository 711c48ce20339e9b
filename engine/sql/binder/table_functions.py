"""Set-returning functions, in FROM and in the SELECT list."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sqlglot import exp

from engine.catalog.objects import Function
from engine.functions.tables import is_set_function, resolve_set_function, set_call
from engine.plan.algebra import Node, OutputColumn, Project, ProjectSet, Values
from engine.sql.binder.record_functions import gives_rows, is_record_function, record_list, scalar_list
from engine.sql.binder.scope import Environment, Scope, ScopeColumn, position_of
from engine.sql.binder.user_functions import bind_user_call, choose
from engine.sql.errors import SqlError, UnsupportedQuery
from engine.sql.expressions import Call, Column, Expr, FieldAccess, Literal, SetValue, transform, walk
from engine.sql.parser.calls import read_call
from engine.sql.types import INT4, INT8, SqlType

if TYPE_CHECKING:
    from engine.sql.binder.expression import ExpressionBinder


def is_set_call(node: object) -> bool:
    """Whether it is a call of a function that gives rows."""
    if not isinstance(node, exp.Anonymous):
        return False
    name = str(node.this).lower()
    return is_set_function(name) or gives_rows(name)


def bind_set_value(binder: ExpressionBinder, node: exp.Expr) -> Expr:
    """A set-returning function in the SELECT list."""
    if binder.forbidden_in is not None:
        raise UnsupportedQuery(
            f"set-returning functions are not allowed in {binder.forbidden_in}",
            position=position_of(node),
            fix="Put the function into FROM.",
        )
    lists = _lists(binder, node)
    if len(lists) > 1:
        raise SqlError("unnest of several arrays may only stand in FROM", position=position_of(node), sqlstate="42883")
    if any(isinstance(e, SetValue) for e in walk(lists[0])):
        raise SqlError(
            "set-returning functions cannot be nested", position=position_of(node), fix="Use a subquery.", sqlstate="0A000"
        )
    return SetValue(_element(lists[0]), lists[0])


def extract_set_values(node: Node, exprs: list[Expr]) -> tuple[Node, list[Expr]]:
    """Put a ProjectSet below where set-returning functions stand in the expressions."""
    calls = list(dict.fromkeys(e.call for expr in exprs for e in walk(expr) if isinstance(e, SetValue)))
    if not calls:
        return node, exprs
    width = len(node.columns)
    positions = {call: width + i for i, call in enumerate(calls)}

    def replace(e: Expr) -> Expr | None:
        return Column(e.type, positions[e.call]) if isinstance(e, SetValue) else None

    return _project_set(node, calls), [transform(e, replace) for e in exprs]


def bind_table_function(binder: ExpressionBinder, call: exp.Expr, item: exp.Expr) -> tuple[Node, Scope]:
    """A set-returning function in FROM; `item` has the alias and WITH ORDINALITY."""
    name = str(call.this).lower()
    alias = item.args.get("alias")
    listed = list(alias.args.get("columns") or []) if alias is not None else []
    users = user_table_functions(binder.environment, call)
    gives_lists = bool(users) or is_set_call(call) or is_record_function(name)
    lists = _lists(binder, call, listed) if gives_lists else [scalar_list(binder, call)]
    ordinality = bool(item.args.get("ordinality"))
    one = Values((OutputColumn("?dual?", INT4),), ((Literal(INT4, 0),),))
    node = _project_set(one, lists, ordinality=ordinality)
    outputs = _expanded(lists, users[0].columns[0][0] if users else name)
    if ordinality:
        outputs.append(("ordinality", Column(INT8, len(node.columns) - 1)))
    table = alias.name if alias is not None and alias.name else name
    given = [c.this.name if isinstance(c, exp.ColumnDef) else c.name for c in listed]
    if len(given) > len(outputs):
        raise SqlError(
            f"table `{table}` has {len(outputs)} columns available but {len(given)} columns specified",
            position=position_of(item),
            sqlstate="42P10",
        )
    names = [n for n, _ in outputs]
    if alias is not None and alias.name and len(outputs) == 1 + ordinality:
        names[0] = alias.name  # a function of one column: the table's alias names it too
    names[: len(given)] = given
    columns = tuple(OutputColumn(n, e.type) for n, (_, e) in zip(names, outputs, strict=True))
    result = Project(columns, node, tuple(e for _, e in outputs))
    return result, Scope(tuple(ScopeColumn(table, c.name, c.type, i) for i, c in enumerate(columns)))


def user_table_functions(environment: Environment, node: object) -> list[Function]:
    """Users' table functions of the name that is called."""
    if not isinstance(node, exp.Anonymous) or is_set_call(node):
        return []
    found = environment.catalog.functions_called(str(node.this).lower(), environment.database, node.meta.get("schema"))
    return [function for function in found if function.form == "table"]


def _lists(binder: ExpressionBinder, node: exp.Expr, columns: Sequence[exp.Expr] = ()) -> Sequence[Expr]:
    """The lists of one call; `unnest` of several arrays is one list each."""
    call = read_call(node)
    assert call is not None
    if is_record_function(call.name):
        return [record_list(binder, call, list(columns))]
    args = [binder.bind(arg) for arg in call.arguments]
    users = user_table_functions(binder.environment, node)
    if users:
        return [bind_user_call(binder, choose(users, args, node), args, node)]
    if call.name == "unnest" and len(args) > 1:
        return [_list(binder, "unnest", [arg], call.position) for arg in args]
    return [_list(binder, call.name, args, call.position)]


def _list(binder: ExpressionBinder, name: str, args: list[Expr], position: int | None) -> Call:
    wanted = resolve_set_function(name, [a.type for a in args], position)
    return set_call(name, tuple(binder.coerce(a, t) for a, t in zip(args, wanted, strict=True)), position)


def _project_set(source: Node, calls: Sequence[Expr], *, ordinality: bool = False) -> ProjectSet:
    columns = source.columns + tuple(OutputColumn(getattr(call, "name", "?set?"), _element(call)) for call in calls)
    if ordinality:
        columns += (OutputColumn("ordinality", INT8),)
    return ProjectSet(columns, source, tuple(calls), ordinality)


def _expanded(calls: Sequence[Expr], name: str) -> list[tuple[str, Expr]]:
    """The columns of functions whose elements stand behind one column; structs are taken apart."""
    outputs: list[tuple[str, Expr]] = []
    for index, call in enumerate(calls):
        type_ = _element(call)
        value = Column(type_, 1 + index)
        if type_.name == "struct":
            outputs += [(n, FieldAccess(t, value, n)) for n, t in type_.fields]
        else:
            outputs.append((name, value))
    return outputs


def _element(call: Expr) -> SqlType:
    assert call.type.element is not None
    return call.type.element
