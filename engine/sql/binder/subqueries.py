"""Subqueries in expressions: EXISTS, IN, ANY, ALL, scalar; and ANY, ALL over an array.

`x op ALL (q)` is `NOT (NOT (x op y)) = ANY`, in three values; `IN` is `= ANY`, `NOT IN` its negation. What a subquery takes from
the query around it is collected in a `Closure`, so that the algebra of a subquery stands for itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from sqlglot import exp

from engine.plan.algebra import Aggregate, Node, OutputColumn, Project, Subquery, TopN
from engine.sql.binder.scope import Closure, position_of
from engine.sql.errors import SqlError, TypeMismatch, UnsupportedQuery
from engine.sql.expressions import AggregateCall, Call, Column, Expr, OuterColumn, Parameter, expand_template
from engine.sql.types import BOOL, UNKNOWN, list_of

if TYPE_CHECKING:
    from engine.sql.binder.expression import ExpressionBinder


def bind_exists(binder: ExpressionBinder, node: exp.Exists) -> Expr:
    closure = binder.closure()
    return Subquery(BOOL, "exists", _query(binder, node.this, closure), tuple(closure.args))


def bind_scalar(binder: ExpressionBinder, node: exp.Expr) -> Expr:
    """`(SELECT one_column ...)` as a value."""
    closure = binder.closure()
    query = _query(binder, node.this if isinstance(node, exp.Subquery) else node, closure)
    if len(query.columns) != 1:
        raise SqlError("subquery must return only one column", position=position_of(node), sqlstate="42601")
    return Subquery(query.columns[0].type, "scalar", query, tuple(closure.args))


def bind_array(binder: ExpressionBinder, node: exp.Array) -> Expr:
    """`ARRAY(SELECT one_column ...)`: in the query's order; empty, not NULL, where it has no rows."""
    closure = binder.closure()
    query = _query(binder, node.expressions[0], closure)
    if len(query.columns) != 1:
        raise SqlError("subquery must return only one column", position=position_of(node), sqlstate="42601")
    element: Expr = Column(query.columns[0].type, 0)
    if isinstance(query, Project) and isinstance(query.input, TopN):
        element, query = query.exprs[0], query.input
    order = query.order_by if isinstance(query, TopN) else ()
    type_ = list_of(element.type)
    call = AggregateCall(type_, "array_agg", (element,), order_by=order)
    grouped = Aggregate((OutputColumn("array", type_),), query, (), (call,))
    value = Subquery(type_, "scalar", grouped, tuple(closure.args))
    return Call(type_, "coalesce", (value, Call(type_, "array", (), "CAST([] AS " + type_.duckdb + ")")), "coalesce({0}, {1})")


def bind_in(binder: ExpressionBinder, node: exp.In) -> Expr:
    query = node.args["query"]
    return _any(binder, node.this, query.this if isinstance(query, exp.Subquery) else query, "=", node)


def bind_quantified(binder: ExpressionBinder, sign: str, left: exp.Expr, right: exp.Any | exp.All, node: exp.Expr) -> Expr:
    """`left sign ANY (...)` or `ALL`, over a query or an array."""
    over = right.this.unnest() if isinstance(right.this, exp.Paren) else right.this
    query = over.this if isinstance(over, exp.Subquery) else over
    every = isinstance(right, exp.All)
    if isinstance(query, exp.Query):
        found = _any(binder, left, query, sign, node, negated=every)
        return binder.call("not", [found], node) if every else found
    return _over_array(binder, sign, left, over, every, node)


def _query(binder: ExpressionBinder, query: exp.Expr, closure: Closure) -> Node:
    from engine.sql.binder.query import bind_query

    return bind_query(query, binder.environment.of_subquery(closure)).node


def _any(
    binder: ExpressionBinder, left: exp.Expr, query: exp.Expr, sign: str, node: exp.Expr, *, negated: bool = False
) -> Expr:
    closure = binder.closure()
    below = _query(binder, query, closure)
    operands = [binder.bind(part) for part in (left.expressions if isinstance(left, exp.Tuple) else [left])]
    if len(operands) != len(below.columns):
        few = "few" if len(operands) > len(below.columns) else "many"
        raise SqlError(f"subquery has too {few} columns", position=position_of(query) or position_of(node), sqlstate="42601")
    tests: list[Expr] = []
    for index, operand in enumerate(operands):
        column = Column(below.columns[index].type, index)
        if operand.type == UNKNOWN:
            operand = binder.coerce(operand, column.type)
        if operand not in closure.args:
            closure.args.append(operand)
        tests.append(binder.call(sign, [OuterColumn(operand.type, closure.args.index(operand)), column], node))
    if len(tests) > 1 and sign not in ("=", "<>"):
        raise UnsupportedQuery(f"rows cannot be compared by `{sign}` with a subquery", position=position_of(node))
    test = tests[0]
    for other in tests[1:]:
        test = binder.call("and" if sign == "=" else "or", [test, other], node)
    if negated:
        test = binder.call("not", [test], node)
    return Subquery(BOOL, "any", below, tuple(closure.args), test)


def _over_array(binder: ExpressionBinder, sign: str, left: exp.Expr, right: exp.Expr, every: bool, node: exp.Expr) -> Expr:
    """Three values: found; else NULL where a comparison is NULL; else not found."""
    operand, array = binder.bind(left), binder.bind(right)
    if array.type == UNKNOWN:
        if operand.type == UNKNOWN and isinstance(array, Parameter):
            raise TypeMismatch("could not determine data type of parameter", position=position_of(node), sqlstate="42P18")
        array = binder.coerce(array, list_of(operand.type))
    if array.type.name != "list" or array.type.element is None:
        word: Literal["ALL", "ANY"] = "ALL" if every else "ANY"
        raise TypeMismatch(f"op {word}/SOME (array) requires array on right side", position=position_of(node), sqlstate="42809")
    element = OuterColumn(array.type.element, 0)  # stands for the lambda's variable
    test = binder.call(sign, [operand, element], node)
    assert isinstance(test, Call)
    operand, element_type = test.args[0], test.args[1].type
    array = binder.coerce(array, list_of(element_type))
    compare = expand_template(test.template, ["{0}", "e"])
    decided, other = ("false", "true") if every else ("true", "false")
    hit = f"NOT ({compare})" if every else compare
    template = (
        f"(CASE WHEN {{1}} IS NULL THEN NULL WHEN len(list_filter({{1}}, lambda e: coalesce({hit}, false))) > 0 THEN {decided}"
        f" WHEN len(list_filter({{1}}, lambda e: ({compare}) IS NULL)) > 0 THEN NULL ELSE {other} END)"
    )
    return Call(BOOL, f"{sign} {'all' if every else 'any'}", (operand, array), template)
