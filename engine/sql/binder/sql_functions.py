"""Functions in SQL: a call is replaced by the function's body, its arguments in the places of their names.

Source: RisingWave documentation, "SQL UDFs".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from sqlglot import exp

from engine.catalog.objects import Function
from engine.functions.casts import can_cast_implicitly
from engine.sql.binder.scope import Environment, Scope, ScopeColumn
from engine.sql.errors import InvalidDefinition, SqlError, UnsupportedQuery
from engine.sql.expressions import Column, Expr, Parameter, transform
from engine.sql.types import SqlType

_MAX_DEPTH = 32  # calls inside calls; a function cannot exist before the ones it calls, but two may be exchanged by name

BindExpression = Callable[[exp.Expr, Environment, Scope], Expr]
Coerce = Callable[[Expr, SqlType], Expr]


def inline_call(
    function: Function, args: Sequence[Expr], environment: Environment, bind: BindExpression, coerce: Coerce
) -> Expr:
    """The body over these arguments, cast to the type that the function returns.

    Raises:
        SqlError: the body is no expression, or of another type.
    """
    if environment.depth > _MAX_DEPTH:
        raise SqlError(f"function `{function.name}` calls itself too deeply", sqlstate="54001", fix="Call it less deeply.")
    types = [type_ for _, type_ in function.arguments]
    scope = Scope(tuple(ScopeColumn(None, name, t, i) for i, (name, t) in enumerate(function.arguments) if name))
    inside = replace(
        environment.inside({}),
        parameters=None,
        parameter_types=dict(enumerate(types, start=1)),
        database=function.database,
        catalog=replace(environment.catalog, before=function.id),
    )
    bound = bind(_body(function), inside, scope)

    def argument(e: Expr) -> Expr | None:
        if isinstance(e, Column):
            return args[e.index]
        if isinstance(e, Parameter):
            if e.number > len(args):
                raise InvalidDefinition(
                    f"function `{function.name}` has no argument `${e.number}`", fix=f"It takes {len(args)}.", sqlstate="42P02"
                )
            return args[e.number - 1]
        return None

    result = transform(bound, argument)
    if not can_cast_implicitly(result.type, function.returns):
        raise InvalidDefinition(
            f"function `{function.name}` returns {function.returns}, but its body is of type {result.type}",
            fix="Cast the body.",
            sqlstate="42P13",
        )
    return coerce(result, function.returns)


def _body(function: Function) -> exp.Expr:
    from engine.sql.parser import parse_query

    query = parse_query(function.body or "")
    others = [key for key, value in query.args.items() if value and key not in ("expressions", "kind")]
    if not isinstance(query, exp.Select) or others or len(query.expressions) != 1:
        raise UnsupportedQuery(
            f"the body of function `{function.name}` must be one expression: `SELECT expression`",
            fix="Use a view for a query with FROM.",
        )
    item: exp.Expr = query.expressions[0]
    return item.unalias()
