"""Aggregates with WITHIN GROUP: their keys become the last argument, as the function table has them.

Source: PostgreSQL documentation, "Ordered-Set Aggregate Functions".
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from engine.sql.errors import SqlError
from engine.sql.expressions import Expr, Literal, OrderKey
from engine.sql.parser.calls import FunctionCall
from engine.sql.types import FLOAT8

if TYPE_CHECKING:
    from sqlglot import exp

    from engine.sql.binder.expression import ExpressionBinder

_ORDERED_SET = ("mode", "percentile_cont", "percentile_disc", "approx_percentile")


def extreme_argument(
    name: str, args: list[Expr], order: tuple[OrderKey, ...], condition: Expr | None, binder: ExpressionBinder, node: exp.Expr
) -> tuple[list[Expr], tuple[OrderKey, ...], Expr]:
    """`arg_min(value, key)` is the first value in the order of the key, of the rows that have one."""
    value, key = (binder.known(arg) for arg in args)
    known = binder.call("not", [binder.call("is null", [key], node)], node)
    if condition is not None:
        known = binder.call("and", [condition, known], node)
    return [value], (OrderKey(key, name == "arg_max", nulls_first=False), *order), known


def ordered_set_arguments(
    call: FunctionCall, args: list[Expr], order: tuple[OrderKey, ...], binder: ExpressionBinder
) -> tuple[list[Expr], tuple[OrderKey, ...]]:
    """Arguments and ORDER BY of a call with WITHIN GROUP; those of any other call as they are.

    Raises:
        SqlError: WITHIN GROUP is missing or out of place, or the fraction is not a constant from 0 to 1.
    """
    if call.name not in _ORDERED_SET:
        if call.within_group:
            raise SqlError(
                f"{call.name} is not an ordered-set aggregate, so it cannot have WITHIN GROUP",
                position=call.position,
                sqlstate="42809",
            )
        return args, order
    if not call.within_group or order:
        raise SqlError(
            f"WITHIN GROUP is required for ordered-set aggregate {call.name}",
            position=call.position,
            sqlstate="42809",
            fix=f"`{call.name}(...) WITHIN GROUP (ORDER BY x)`.",
        )
    if len(call.within_group) != 1 or call.distinct:
        raise SqlError(f"{call.name} takes one ORDER BY key and no DISTINCT", position=call.position, sqlstate="42883")
    key = binder.order_key(call.within_group[0])
    if call.name == "mode":
        return [*args, key.expr], (key,)  # of the most frequent values the first in this order
    if args:
        args = [_fraction(args[0], call, descending=key.descending), *(_error(arg, call) for arg in args[1:])]
    return [*args, key.expr], ()


def _fraction(arg: Expr, call: FunctionCall, *, descending: bool) -> Expr:
    value = arg.value if isinstance(arg, Literal) else None
    if isinstance(arg, Literal) and value is None:
        return Literal(FLOAT8, None)
    try:
        number = float(value) if isinstance(value, (int, float, Decimal, str)) and not isinstance(value, bool) else None
    except ValueError:
        number = None
    if number is None:
        raise SqlError(f"the fraction of {call.name} must be a constant number", position=call.position, sqlstate="42804")
    if not 0 <= number <= 1:
        raise SqlError(f"percentile value {number:g} is not between 0 and 1", position=call.position, sqlstate="22003")
    if not descending:
        return Literal(FLOAT8, number)
    # DuckDB counts a negative fraction from the other end; -0.0 would be the first again.
    return Literal(FLOAT8, -number if number else 1.0)


def _error(arg: Expr, call: FunctionCall) -> Expr:
    """The relative error of `approx_percentile`."""
    value = arg.value if isinstance(arg, Literal) else None
    if not isinstance(value, (int, float, Decimal)) or isinstance(value, bool) or not 0 < value < 1:
        raise SqlError(
            f"the relative error of {call.name} must be a constant between 0 and 1", position=call.position, sqlstate="22023"
        )
    return Literal(FLOAT8, float(value))
