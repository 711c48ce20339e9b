"""Calls of users' functions: SQL bodies are put in place, others become a call that an operator or DuckDB makes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sqlglot import exp

from engine.catalog.objects import Function
from engine.functions.aggregates import resolve_aggregate
from engine.functions.casts import can_cast_implicitly
from engine.sql.binder.scope import position_of
from engine.sql.binder.sql_functions import inline_call
from engine.sql.errors import SqlError, UndefinedFunction
from engine.sql.expressions import AggregateCall, Call, Expr, OrderKey, UdfCall
from engine.sql.types import UNKNOWN, VARCHAR

if TYPE_CHECKING:
    from engine.sql.binder.expression import ExpressionBinder


def choose(candidates: Sequence[Function], args: Sequence[Expr], node: exp.Expr) -> Function:
    """The one that takes these arguments with the fewest casts, the oldest of several; a constant without a type is a text at first.

    Raises:
        UndefinedFunction: none does.
    """
    best: tuple[int, Function] | None = None
    for function in candidates:
        wanted = [type_ for _, type_ in function.arguments]
        if len(wanted) == len(args) and all(can_cast_implicitly(a.type, t) for a, t in zip(args, wanted, strict=True)):
            exact = sum(t == (VARCHAR if a.type == UNKNOWN else a.type) for a, t in zip(args, wanted, strict=True))
            if best is None or exact > best[0]:
                best = exact, function
    if best is not None:
        return best[1]
    shown = ", ".join(arg.type.sql for arg in args)
    known = "; ".join(f"{f.name}({', '.join(t.sql for _, t in f.arguments)})" for f in candidates)
    raise UndefinedFunction(
        f"function `{candidates[0].name}({shown})` does not exist", position=position_of(node), fix=f"Known: {known}."
    )


def typed_arguments(binder: ExpressionBinder, function: Function, args: Sequence[Expr]) -> tuple[Expr, ...]:
    return tuple(binder.coerce(a, t) for a, (_, t) in zip(args, function.arguments, strict=True))


def bind_user_call(binder: ExpressionBinder, function: Function, args: Sequence[Expr], node: exp.Expr) -> Expr:
    """One value a row; for a table function the list of its rows."""
    typed = typed_arguments(binder, function, args)
    environment = binder.environment
    environment.used[function.id] = None
    if function.language == "sql":
        return inline_call(function, list(typed), environment, lambda n, e, s: type(binder)(e, s).bind(n), binder.coerce)
    if function.link is None:
        raise SqlError(
            f"function `{function.name}` cannot be called", position=position_of(node), fix="Create it again.", sqlstate="0A000"
        )
    return UdfCall(function.returns, function.symbol, function.link, typed)


def bind_aggregate(
    binder: ExpressionBinder,
    function: Function,
    args: Sequence[Expr],
    *,
    distinct: bool,
    condition: Expr | None,
    order: tuple[OrderKey, ...],
) -> Expr:
    """The rows of the group as a list, and a call of the function on it.

    So the group is folded anew when it changes: the answer is the same as from scratch, whatever `retract` would do.
    """
    typed = typed_arguments(binder, function, args)
    binder.environment.used[function.id] = None
    (rows,) = function.call_types
    assert rows.element is not None
    assert function.link is not None
    row = Call(rows.element, "row", typed, "struct_pack(" + ", ".join(f"f{i} := {{{i}}}" for i in range(len(typed))) + ")")
    collected = resolve_aggregate("array_agg", [row.type], None)
    group = AggregateCall(rows, collected.name, (row,), distinct, condition, order)
    return UdfCall(function.returns, function.symbol, function.link, (group,))
