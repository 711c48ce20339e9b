"""Drop columns that nobody above needs, so that joins and windows remember narrow rows.

`SELECT a.x FROM wide AS a JOIN wide AS b ON a.k = b.k` keeps x and k of the left side and k of the right.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from engine.plan.algebra import (
    Aggregate,
    Filter,
    GroupTopN,
    Join,
    Node,
    Over,
    Project,
    ProjectSet,
    TopN,
    UnionAll,
    Window,
)
from engine.sql.expressions import Column, Expr, columns_of, transform

Mapping = dict[int, int]
"""Old column position to new one."""


def prune_columns(node: Node) -> Node:
    """The same relation, narrower inside. The outermost columns stay as they are."""
    return _exactly(node, list(range(len(node.columns))))


def _exactly(node: Node, wanted: list[int]) -> Node:
    """Prune, and give exactly these columns in this order."""
    pruned, moved = _prune(node, set(wanted))
    positions = [moved[w] for w in wanted]
    if positions == list(range(len(pruned.columns))):
        return pruned
    return _select(pruned, positions)


def _select(node: Node, positions: list[int]) -> Node:
    columns = tuple(node.columns[p] for p in positions)
    return Project(columns, node, tuple(Column(node.columns[p].type, p) for p in positions))


def _prune(node: Node, needed: set[int]) -> tuple[Node, Mapping]:
    rule = _RULES.get(type(node))
    if rule is not None:
        return rule(node, needed)
    keep = sorted(needed)
    if len(keep) == len(node.columns) or not keep:
        return node, {i: i for i in range(len(node.columns))}
    return _select(node, keep), {old: new for new, old in enumerate(keep)}


def _moved(expr: Expr, moved: Mapping) -> Expr:
    return transform(expr, lambda e: Column(e.type, moved[e.index]) if isinstance(e, Column) else None)


def _used(exprs: list[Expr]) -> set[int]:
    return {i for e in exprs for i in columns_of(e)}


def _project(node: Project, needed: set[int]) -> tuple[Node, Mapping]:
    keep = sorted(needed) or [0]
    source, moved = _prune(node.input, _used([node.exprs[i] for i in keep]))
    columns = tuple(node.columns[i] for i in keep)
    return Project(columns, source, tuple(_moved(node.exprs[i], moved) for i in keep)), {
        old: new for new, old in enumerate(keep)
    }


def _filter(node: Filter, needed: set[int]) -> tuple[Node, Mapping]:
    source, moved = _prune(node.input, needed | columns_of(node.predicate))
    return Filter(source.columns, source, _moved(node.predicate, moved)), moved


def _aggregate(node: Aggregate, needed: set[int]) -> tuple[Node, Mapping]:
    groups = len(node.groups)
    keep = [i for i in range(len(node.aggregates)) if groups + i in needed]
    if not groups and not keep:
        keep = [0]  # its one row must stay
    calls = [node.aggregates[i] for i in keep]
    source, moved = _prune(node.input, _used([*node.groups, *calls]))
    columns = node.columns[:groups] + tuple(node.columns[groups + i] for i in keep)
    changed: Any = tuple(_moved(call, moved) for call in calls)
    mapping = {i: i for i in range(groups)} | {groups + old: groups + new for new, old in enumerate(keep)}
    return Aggregate(columns, source, tuple(_moved(g, moved) for g in node.groups), changed), mapping


def _join(node: Join, needed: set[int]) -> tuple[Node, Mapping]:
    width = len(node.left.columns)
    used = needed | (columns_of(node.condition) if node.condition is not None else set())
    left, left_moved = _prune(node.left, {i for i in used if i < width} or {0})
    if node.temporal:
        # The right side of a temporal join is read from its own storage and stays a scan.
        right, right_moved = node.right, {i: i for i in range(len(node.right.columns))}
    else:
        right, right_moved = _prune(node.right, {i - width for i in used if i >= width} or {0})
    new_width = len(left.columns)
    mapping = dict(left_moved) | {width + old: new_width + new for old, new in right_moved.items()}
    columns = left.columns if node.kind in ("semi", "anti") else left.columns + right.columns
    condition = _moved(node.condition, mapping) if node.condition is not None else None
    return replace(node, columns=columns, left=left, right=right, condition=condition), mapping


def _over(node: Over, needed: set[int]) -> tuple[Node, Mapping]:
    width = len(node.input.columns)
    keep = [i for i in range(len(node.calls)) if width + i in needed]
    if not keep:
        return _prune(node.input, needed)
    calls = [node.calls[i] for i in keep]
    source, moved = _prune(node.input, {i for i in needed if i < width} | _used(list(calls)))
    new_width = len(source.columns)
    columns = source.columns + tuple(node.columns[width + i] for i in keep)
    changed: Any = tuple(_moved(call, moved) for call in calls)
    return Over(columns, source, changed), moved | {width + old: new_width + new for new, old in enumerate(keep)}


def _project_set(node: ProjectSet, needed: set[int]) -> tuple[Node, Mapping]:
    width = len(node.input.columns)
    source, moved = _prune(node.input, {i for i in needed if i < width} | _used(list(node.calls)))
    new_width = len(source.columns)
    calls = tuple(_moved(call, moved) for call in node.calls)
    added = node.columns[width:]
    changed = replace(node, columns=source.columns + added, input=source, calls=calls)
    return changed, moved | {width + i: new_width + i for i in range(len(added))}


def _group_top_n(node: GroupTopN, needed: set[int]) -> tuple[Node, Mapping]:
    width = len(node.input.columns)
    ranked = node.ranked and width in needed
    source, moved = _prune(node.input, {i for i in needed if i < width} | columns_of(node.call))
    new_width = len(source.columns)
    call: Any = _moved(node.call, moved)
    columns = source.columns + (node.columns[width:] if ranked else ())
    return GroupTopN(columns, source, call, node.limit, ranked), moved | ({width: new_width} if ranked else {})


def _top_n(node: TopN, needed: set[int]) -> tuple[Node, Mapping]:
    source, moved = _prune(node.input, needed | _used([key.expr for key in node.order_by]))
    keys = tuple(replace(key, expr=_moved(key.expr, moved)) for key in node.order_by)
    return replace(node, columns=source.columns, input=source, order_by=keys), moved


def _union(node: UnionAll, needed: set[int]) -> tuple[Node, Mapping]:
    keep = sorted(needed) or [0]
    branches = tuple(_exactly(branch, keep) for branch in node.branches)
    return UnionAll(tuple(node.columns[i] for i in keep), branches), {old: new for new, old in enumerate(keep)}


def _window(node: Window, needed: set[int]) -> tuple[Node, Mapping]:
    width = len(node.input.columns)
    source, moved = _prune(node.input, {i for i in needed if i < width} | {node.time_column})
    new_width = len(source.columns)
    columns = source.columns + node.columns[width:]
    changed = replace(node, columns=columns, input=source, time_column=moved[node.time_column])
    return changed, moved | {width: new_width, width + 1: new_width + 1}


_RULES: dict[type[Node], Callable[[Any, set[int]], tuple[Node, Mapping]]] = {
    Project: _project,
    Filter: _filter,
    Aggregate: _aggregate,
    Join: _join,
    Over: _over,
    ProjectSet: _project_set,
    GroupTopN: _group_top_n,
    TopN: _top_n,
    UnionAll: _union,
    Window: _window,
}
