"""The aggregate functions: result types, how DuckDB computes them, and what incremental maintenance may assume of them.

Source: RisingWave documentation, "Aggregate functions".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from engine.functions.registry import FunctionTable
from engine.sql.errors import UndefinedFunction
from engine.sql.expressions import AggregateCall, Expr, render_order
from engine.sql.types import SqlType

Maintenance = Literal["count", "sum", "avg", "extreme", "recompute"]
"""How a changed group is brought up to date.

`count`, `sum`, `avg`: exact and invertible, a retraction is subtracted. `extreme`: min and max, merged while rows are only
added. `recompute`: from the group's rows. Float sums are recomputed too: adding is not exactly undone by subtracting, and
the result would depend on where epochs were cut.
"""

_TABLE = FunctionTable()
_ORDERED = (
    "int2",
    "int4",
    "int8",
    "numeric",
    "float4",
    "float8",
    "varchar",
    "bytea",
    "date",
    "time",
    "timestamp",
    "timestamptz",
    "interval",
)


def _declare() -> None:
    t = _TABLE
    t.add("count", "-> int8", "count(*)")
    t.add("count", "any -> int8", "count({0})")
    t.add("sum", "int2 -> int8", "CAST({sum} AS BIGINT)")
    t.add("sum", "int4 -> int8", "CAST({sum} AS BIGINT)")
    t.add("sum", "int8 -> numeric", "CAST({sum} AS DECIMAL(38,18))")
    t.add("sum", "numeric -> numeric", "{sum}")
    t.add("sum", "float4 -> float4", "CAST({sum} AS FLOAT)")
    t.add("sum", "float8 -> float8", "{sum}")
    t.add("sum", "interval -> interval", "{sum}")
    t.add("avg", "int8 -> numeric", "CAST({avg} AS DECIMAL(38,18))")
    t.add("avg", "numeric -> numeric", "CAST({avg} AS DECIMAL(38,18))")
    t.add("avg", "float8 -> float8", "{avg}")
    for name in ("min", "max"):
        for type_ in _ORDERED:
            t.add(name, f"{type_} -> {type_}", f"{{{name}}}")
    for name in ("stddev_samp", "stddev_pop", "var_samp", "var_pop"):
        t.add(name, "float8 -> float8", f"{{{name}}}")
        t.add(name, "numeric -> numeric", f"CAST({{{name}}} AS DECIMAL(38,18))")
    for name in ("bool_and", "bool_or"):
        t.add(name, "bool -> bool", f"{{{name}}}")
    for name in ("bit_and", "bit_or", "bit_xor"):
        for type_ in ("int2", "int4", "int8"):
            t.add(name, f"{type_} -> {type_}", f"{{{name}}}")
    t.add("string_agg", "varchar, varchar -> varchar", "{string_agg}")
    t.add("array_agg", "anyelement -> anyarray", "{list}")
    t.add("jsonb_agg", "any -> jsonb", "to_json({list})")
    t.add("first_value", "anyelement -> anyelement", "{first}")
    t.add("last_value", "anyelement -> anyelement", "{last}")
    t.add("approx_count_distinct", "any -> int8", "{approx_count_distinct}")


_declare()
_ALIASES = {"stddev": "stddev_samp", "variance": "var_samp", "every": "bool_and"}


@dataclass(frozen=True)
class ResolvedAggregate:
    """An aggregate and the types its arguments are cast to."""

    name: str
    args: tuple[SqlType, ...]
    returns: SqlType


def is_aggregate(name: str) -> bool:
    return _ALIASES.get(name, name) in _TABLE


def resolve_aggregate(name: str, types: list[SqlType], position: int | None) -> ResolvedAggregate:
    """Choose the overload.

    Raises:
        UndefinedFunction: no overload takes these types.
    """
    real = _ALIASES.get(name, name)
    if real not in _TABLE:
        raise UndefinedFunction(f"aggregate `{name}` does not exist", position=position)
    resolved = _TABLE.resolve(real, types, position)
    return ResolvedAggregate(real, resolved.args, resolved.returns)


def maintenance_of(call: AggregateCall) -> Maintenance:
    """How a changed group of this aggregate is brought up to date."""
    if call.distinct or call.order_by:
        return "recompute"
    if call.name == "count":
        return "count"
    argument = call.args[0].type.name if call.args else ""
    exact = argument in {"int2", "int4", "int8", "numeric"}
    if call.name == "sum" and exact:
        return "sum"
    if call.name == "avg" and exact:
        return "avg"
    if call.name in {"min", "max"}:
        return "extreme"
    return "recompute"


def render_aggregate(call: AggregateCall, render_expr: Callable[[Expr], str]) -> str:
    """DuckDB SQL of one aggregate over the rows of a group."""
    args = [render_expr(arg) for arg in call.args]
    distinct = "DISTINCT " if call.distinct else ""
    order = " ORDER BY " + ", ".join(render_order(key, render_expr) for key in call.order_by) if call.order_by else ""
    filter_ = f" FILTER (WHERE {render_expr(call.filter)})" if call.filter is not None else ""
    template = _TABLE.resolve(call.name, [arg.type for arg in call.args]).function.template
    if not call.args:
        return template + filter_
    if template == "count({0})":
        return f"count({distinct}{args[0]}){filter_}"
    head, _, rest = template.partition("{")
    inner, _, tail = rest.partition("}")
    return f"{head}{inner}({distinct}{', '.join(args)}{order}){filter_}{tail}"
