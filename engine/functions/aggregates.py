"""The aggregate functions: result types, how DuckDB computes them, and what incremental maintenance may assume of them.

Source: RisingWave documentation, "Aggregate functions".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal as OneOf

from engine.functions import int256
from engine.functions.casts import interval_parts
from engine.functions.json import json_of
from engine.functions.registry import FunctionTable
from engine.sql.errors import UndefinedFunction
from engine.sql.expressions import AggregateCall, Expr, Literal, expand_template, render_order
from engine.sql.types import SqlType

Maintenance = OneOf["count", "sum", "avg", "extreme", "recompute"]
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


_WHOLE = "hr_numeric_whole({0})"
_PARTS = (
    "CAST({sum(" + _WHOLE + ")} AS HUGEINT), CAST({sum(hr_numeric_fraction({0}))} AS HUGEINT), CAST({max({0} & 31)} AS HUGEINT)"
)
_INTERVAL_SUMS = tuple(f"{{sum({part})}}" for part in interval_parts("{0}"))
_INTERVAL_SUM = (
    f"to_months(CAST({_INTERVAL_SUMS[0]} AS INTEGER)) + to_days(CAST({_INTERVAL_SUMS[1]} AS INTEGER))"
    f" + to_microseconds(CAST({_INTERVAL_SUMS[2]} AS BIGINT))"
)
_INT_PARTS = "CAST({sum({0})} AS HUGEINT), 0, 0"


def _declare() -> None:
    """A template has one `{function(arguments)}` for each of DuckDB's aggregates in it; `{0}` inside is an argument."""
    t = _TABLE
    t.add("count", "-> int8", "{count(*)}")
    t.add("count", "any -> int8", "{count({0})}")
    for name in ("int2", "int4"):
        t.add("sum", f"{name} -> int8", "CAST({sum({0})} AS BIGINT)")
    t.add("sum", "int8 -> numeric", f"hr_numeric_sum({_INT_PARTS})")
    t.add("sum", "numeric -> numeric", f"hr_numeric_sum({_PARTS})")
    t.add("sum", "float4 -> float4", "CAST({sum({0})} AS FLOAT)")
    t.add("sum", "float8 -> float8", "{sum({0})}")
    int256.declare_aggregates(t)
    t.add("sum", "interval -> interval", f"({_INTERVAL_SUM})")
    for name in ("int2", "int4", "int8"):
        t.add("avg", f"{name} -> numeric", "hr_numeric_avg_whole(CAST({sum({0})} AS HUGEINT), {count({0})})")
    t.add("avg", "numeric -> numeric", f"hr_numeric_avg({_PARTS}, {{count({{0}})}})")
    t.add("avg", "float4 -> float8", "{avg({0})}")
    t.add("avg", "float8 -> float8", "{avg({0})}")
    average = (
        f"hr_interval_scale({', '.join(f'CAST({part} AS BIGINT)' for part in _INTERVAL_SUMS)}, 1.0::DOUBLE / {{count({{0}})}})"
    )
    t.add("avg", "interval -> interval", f"CAST({average} AS INTERVAL)")
    for name in ("min", "max"):
        for type_ in (*_ORDERED, "bool", "anyarray"):
            t.add(name, f"{type_} -> {type_}", f"{{{name}({{0}})}}")
    for name in ("stddev_samp", "stddev_pop", "var_samp", "var_pop"):
        flags = f"{'samp' in name}, {'stddev' in name}".lower()
        for type_ in ("int2", "int4", "int8"):
            squares = "CAST({sum(CAST({0} AS HUGEINT) * CAST({0} AS HUGEINT))} AS HUGEINT)"
            sums = f"CAST({{count({{0}})}} AS HUGEINT), hr_numeric_sum({_INT_PARTS}), hr_numeric_from_int({squares})"
            t.add(name, f"{type_} -> numeric", f"hr_numeric_variance({sums}, {flags})")
        values = "{list({0}) FILTER (WHERE {0} IS NOT NULL)}"
        squared = f"hr_numeric_sum_list(list_transform({values}, lambda x: hr_numeric_multiply(x, x)))"
        sums = f"CAST({{count({{0}})}} AS HUGEINT), hr_numeric_sum_list({values}), {squared}"
        t.add(name, "numeric -> numeric", f"hr_numeric_variance({sums}, {flags})")
        t.add(name, "float8 -> float8", f"{{{name}({{0}})}}")
    for name in ("bool_and", "bool_or"):
        t.add(name, "bool -> bool", f"{{{name}({{0}})}}")
    for name in ("bit_and", "bit_or", "bit_xor"):
        for type_ in ("int2", "int4", "int8"):
            t.add(name, f"{type_} -> {type_}", f"{{{name}({{0}})}}")
    t.add("string_agg", "varchar, varchar -> varchar", "{string_agg({0}, {1})}")
    t.add("string_agg", "bytea, bytea -> bytea", "unhex(array_to_string({list(hex({0}))}, {max(hex({1}))}))")
    t.add("array_agg", "anyelement -> anyarray", "{list({0})}")
    t.add("jsonb_agg", "any -> jsonb", _jsonb_agg)
    t.add("jsonb_object_agg", "varchar, any -> jsonb", _jsonb_object_agg)
    for name, function in (("first_value", "first"), ("last_value", "last")):
        t.add(name, "anyelement -> anyelement", f"{{{function}({{0}})}}")
    t.add("approx_count_distinct", "any -> int8", "{approx_count_distinct({0})}")
    # The ordered-set aggregates: the argument in parentheses first, then the key of WITHIN GROUP.
    t.add("mode", "anyelement -> anyelement", "{mode({0})}")
    t.add("percentile_cont", "float8, float8 -> float8", "{quantile_cont({1}, {0})}")
    t.add("percentile_disc", "float8, anyelement -> anyelement", "{quantile_disc({1}, {0})}")
    sketched = "hr_sketch_quantile({list(@) FILTER (WHERE @ IS NOT NULL)}, {0}, #)"
    t.add("approx_percentile", "float8, float8 -> float8", sketched.replace("@", "{1}").replace("#", "0.01::DOUBLE"))
    t.add("approx_percentile", "float8, float8, float8 -> float8", sketched.replace("@", "{2}").replace("#", "{1}"))
    # As aggregates they are `first_value` in an order of its own, see `engine.sql.binder.aggregates`; as window functions these.
    t.add("arg_min", "anyelement, any -> anyelement", "{arg_min_null({0}, {1})}")
    t.add("arg_max", "anyelement, any -> anyelement", "{arg_max_null({0}, {1})}")


_DELIMITED = "hr_string_agg({list(struct_pack(v := {0}, d := {1}))})"


def _jsonb_agg(types: tuple[SqlType, ...]) -> str:
    return f"CAST(hr_json_array({{list({json_of('{0}', types[0])})}}) AS JSON)"


def _jsonb_object_agg(types: tuple[SqlType, ...]) -> str:
    return f"CAST(hr_json_object({{list({{0}})}}, {{list({json_of('{1}', types[1])})}}) AS JSON)"


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


def render_aggregate(call: AggregateCall, render_expr: Callable[[Expr], str], over: str = "") -> str:
    """DuckDB SQL of one aggregate over the rows of a group.

    Args:
        over: the OVER clause, when it is used as a window function.
    """
    args = [render_expr(arg) for arg in call.args]
    distinct = "DISTINCT " if call.distinct else ""
    # A constant orders nothing, and DuckDB would take a number for a position.
    keys = [render_order(key, render_expr) for key in call.order_by if not isinstance(key.expr, Literal)]
    order = f" ORDER BY {', '.join(keys)}" if keys else ""
    suffix = f" FILTER (WHERE {render_expr(call.filter)})" if call.filter is not None else ""
    suffix += f" OVER ({over})" if over else ""
    types = [arg.type for arg in call.args]
    if call.distinct and call.name in ("sum", "avg") and types[0].name == "numeric":
        return f"hr_numeric_{call.name}_list(list(DISTINCT hr_numeric_normalize({args[0]})){suffix})"
    template = _TABLE.resolve(call.name, types).function.template
    if call.name == "string_agg" and types[0].name == "varchar" and not isinstance(call.args[1], Literal):
        template = _DELIMITED  # DuckDB wants a constant
    if call.distinct:
        # 1.0 and 1.00 are one value.
        args = [f"hr_numeric_normalize({a})" if t.name == "numeric" else a for a, t in zip(args, types, strict=True)]
        if not order and call.name in ("array_agg", "jsonb_agg", "string_agg"):
            # Each value once, as after a sort, so that the result does not depend on where rows came from.
            sorted_by = f"struct_pack(v := {args[0]}, d := {args[1]})" if template == _DELIMITED else args[0]
            order = f" ORDER BY {sorted_by} ASC NULLS LAST"
    return _expand(template, args, distinct, order, suffix)


def _expand(template: str, args: list[str], distinct: str, order: str, suffix: str) -> str:
    """Put each aggregate of a template together with DISTINCT, ORDER BY, FILTER and OVER."""
    out: list[str] = []
    at = 0
    while at < len(template):
        if template[at] != "{":
            out.append(template[at])
            at += 1
            continue
        end = _closing(template, at)
        inner = template[at + 1 : end]
        name, _, rest = inner.partition("(")
        if inner.isdigit():
            out.append(args[int(inner)])
        else:
            body, _, own_filter = rest.rpartition(" FILTER ") if " FILTER " in rest else (rest, "", "")
            body = expand_template(body.removesuffix(")"), args)
            own = f" FILTER {expand_template(own_filter, args)}" if own_filter and " FILTER " not in suffix else ""
            keyword = "" if body == "*" else distinct
            out.append(f"{name}({keyword}{body}{'' if body == '*' else order}){own}{suffix}")
        at = end + 1
    return "".join(out)


def _closing(template: str, start: int) -> int:
    depth = 0
    for at in range(start, len(template)):
        depth += {"{": 1, "}": -1}.get(template[at], 0)
        if not depth:
            return at
    raise AssertionError(f"a brace is not closed in {template}")


def signatures() -> dict[str, list[str]]:
    """As `FunctionTable.signatures`."""
    return _TABLE.signatures()
