"""GROUP BY with GROUPING SETS, ROLLUP and CUBE: which sets of keys it means, and the algebra of several sets.

Several sets are one aggregate each, side by side: a key that is not in the set is NULL, `grouping(..)` is a constant of the set.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations, product

from sqlglot import exp

from engine.plan.algebra import Aggregate, Node, OutputColumn, Project, UnionAll
from engine.sql.binder.scope import position_of
from engine.sql.errors import GroupingError, SqlError
from engine.sql.expressions import AggregateCall, Call, Column, Expr, Literal
from engine.sql.types import INT4, INT8

Keys = tuple[Expr, ...]
BindKey = Callable[[exp.Expr], Expr]
_MOST_SETS = 64


def grouping_sets(group: exp.Group, bind: BindKey) -> list[Keys]:
    """The sets of keys, in the order written; one set for a plain GROUP BY.

    Args:
        bind: binds one key.
    """
    factors: list[list[Keys]] = [[_keys(item, bind)] for item in group.expressions]
    for kind in ("grouping_sets", "rollup", "cube"):
        factors += [_expanded(item, bind) for item in group.args.get(kind) or []]
    count = 1
    for factor in factors:
        count *= len(factor)
    if count > _MOST_SETS:
        raise SqlError(
            f"{count} grouping sets are too many", position=position_of(group), sqlstate="54000", fix=f"At most {_MOST_SETS}."
        )
    return [tuple(dict.fromkeys(key for part in parts for key in part)) for parts in product(*factors)]


def _keys(item: exp.Expr, bind: BindKey) -> Keys:
    parts = item.expressions if isinstance(item, exp.Tuple) else [item]
    return tuple(bind(part) for part in parts)


def _expanded(item: exp.Expr, bind: BindKey) -> list[Keys]:
    if isinstance(item, exp.GroupingSets):
        return [keys for part in item.expressions for keys in _expanded(part, bind)]
    if isinstance(item, (exp.Rollup, exp.Cube)):
        parts = [_keys(part, bind) for part in item.expressions]
        chosen: list[tuple[Keys, ...]]
        if isinstance(item, exp.Rollup):
            chosen = [tuple(parts[:n]) for n in range(len(parts), -1, -1)]
        else:
            chosen = [c for n in range(len(parts), -1, -1) for c in combinations(parts, n)]
        return [tuple(key for part in choice for key in part) for choice in chosen]
    return [_keys(item, bind)]


def aggregate_sets(node: Node, sets: list[Keys], calls: list[AggregateCall], name: Callable[[Expr], str]) -> Node:
    """Columns: all keys in the order of first use, then the calls; one more where there would be none."""
    keys = list(dict.fromkeys(key for keys in sets for key in keys))
    if not keys and not calls:
        calls = [AggregateCall(INT8, "count", ())]  # rows without a column cannot be told from no rows
    columns = tuple(OutputColumn(name(k), k.type) for k in keys) + tuple(OutputColumn(c.name, c.type) for c in calls)
    branches = tuple(_one_set(node, chosen, keys, calls, columns) for chosen in sets)
    return branches[0] if len(branches) == 1 else UnionAll(columns, branches)


def group_key(key: Expr) -> Expr:
    """What rows are grouped by: a numeric without trailing zeros, because 1.0 and 1.00 are one group."""
    return Call(key.type, "numeric_key", (key,), "hr_numeric_normalize({0})") if key.type.name == "numeric" else key


def _one_set(node: Node, chosen: Keys, keys: list[Expr], calls: list[AggregateCall], columns: tuple[OutputColumn, ...]) -> Node:
    computed = [c for c in calls if c.name != "grouping"]
    if not chosen and not computed:
        computed = [AggregateCall(INT8, "count", ())]  # a row of its own even where nothing is computed
    own = tuple(OutputColumn("?group?", k.type) for k in chosen) + tuple(OutputColumn(c.name, c.type) for c in computed)
    if list(chosen) == keys and computed == calls:
        return Aggregate(columns, node, tuple(map(group_key, chosen)), tuple(calls))
    grouped = Aggregate(own, node, tuple(map(group_key, chosen)), tuple(computed))
    exprs: list[Expr] = [Column(k.type, chosen.index(k)) if k in chosen else Literal(k.type, None) for k in keys]
    for call in calls:
        if call.name == "grouping":
            exprs.append(Literal(INT4, _mask(call, chosen, keys)))
        else:
            exprs.append(Column(call.type, len(chosen) + computed.index(call)))
    return Project(columns, grouped, tuple(exprs))


def _mask(call: AggregateCall, chosen: Keys, keys: list[Expr]) -> int:
    """A bit an argument, the first the highest: 1 where the key is not in the set."""
    mask = 0
    for arg in call.args:
        if arg not in keys:
            raise GroupingError("arguments to GROUPING must be grouping expressions of the associated query level")
        mask = mask * 2 + (arg not in chosen)
    return mask
