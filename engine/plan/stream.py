"""From the algebra to operators: the plan that keeps a materialized view up to date."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from engine.catalog.catalog import Catalog
from engine.catalog.objects import Relation
from engine.operators.base import Operator
from engine.operators.changelog import Changelog
from engine.operators.deduplicate import Deduplicate
from engine.operators.dynamic_filter import DynamicFilter, comparison
from engine.operators.filter import Filter
from engine.operators.group_top_n import GroupTopN
from engine.operators.hash_aggregate import HashAggregate
from engine.operators.join import Join, equi_keys
from engine.operators.leaf import RelationLeaf, ValuesLeaf
from engine.operators.monotone import time_column
from engine.operators.now_filter import NowFilter, uses_only_now
from engine.operators.over_window import OverWindow
from engine.operators.project import Project
from engine.operators.project_set import ProjectSet
from engine.operators.recompute_aggregate import RecomputeAggregate
from engine.operators.temporal_join import TemporalJoin
from engine.operators.top_n import TopN
from engine.operators.udf_call import UdfCalls
from engine.operators.union_all import UnionAll
from engine.operators.window_close_aggregate import WindowCloseAggregate
from engine.operators.window_close_over import WindowCloseOver
from engine.operators.window_close_sort import WindowCloseSort
from engine.operators.window_table import WindowTable
from engine.plan import algebra
from engine.plan.rules import rewrite
from engine.plan.rules.bad_rows import tolerate_bad_rows
from engine.plan.rules.subquery_unnesting import at_most_one_row
from engine.plan.traversal import expressions_of, is_repeatable, without_names
from engine.sql.errors import InvalidDefinition, UnsupportedQuery, too_deep
from engine.sql.expressions import (
    Call,
    Column,
    Expr,
    Literal,
    UdfCall,
    columns_of,
    conjunction,
    conjuncts,
    is_volatile,
    transform,
    walk,
)
from engine.sql.types import BOOL, INT8


def compile_stream(node: algebra.Node, catalog: Catalog, *, emit_on_window_close: bool = False) -> Operator:
    """Choose an operator for every node.

    Raises:
        UnsupportedQuery: something in the query cannot be kept up to date.
        InvalidDefinition: EMIT ON WINDOW CLOSE without a watermark to close by.
    """
    try:
        return _compile(tolerate_bad_rows(rewrite(node)), catalog, emit_on_window_close)
    except RecursionError as error:
        raise too_deep() from error


def _compile(top: algebra.Node, catalog: Catalog, emit_on_window_close: bool) -> Operator:
    compiler = _Compiler(catalog, emit_on_window_close)
    if isinstance(top, algebra.TopN) and top.limit is None and not top.offset:
        top = top.input  # ORDER BY alone has no meaning for a stored relation
    root = compiler.compile(top)
    if emit_on_window_close and not (compiler.closes and root.append_only):
        if root.watermarked:
            root = WindowCloseSort(root, min(root.watermarked))
        elif not compiler.closes:
            raise _needs_watermark()
    return root


def name_states(root: Operator, prefix: str) -> None:
    """Give every operator's tables their names: `<prefix>_<number of the operator>`, bottom up."""
    for number, operator in enumerate(operators(root)):
        operator.name_state(f"{prefix}_{number}")


def operators(root: Operator) -> Iterator[Operator]:
    """All operators, inputs before their consumers, each once even where two consumers share it."""
    yield from _unseen(root, set())


def _unseen(root: Operator, seen: set[int]) -> Iterator[Operator]:
    if id(root) in seen:
        return
    seen.add(id(root))
    for source in root.inputs:
        yield from _unseen(source, seen)
    yield root


def explain(root: Operator, depth: int = 0) -> list[str]:
    """The plan as an indented tree."""
    flags = [f"key ({', '.join(f'c{p}' for p in root.key)})"]
    if root.append_only:
        flags.append("append-only")
    if root.watermarked:
        flags.append(f"watermark ({', '.join(f'c{p}' for p in sorted(root.watermarked))})")
    details = root.details()
    line = f"{'  ' * depth}{root.name}{' { ' + details + ' }' if details else ''}  [{'; '.join(flags)}]"
    return [line] + [below for source in root.inputs for below in explain(source, depth + 1)]


def _with_time_groups(source: Operator, groups: tuple[Expr, ...]) -> tuple[Operator, tuple[Expr, ...]]:
    """Groups such as `date_trunc('hour', ts)` as columns, which carry the watermark of their time."""
    timed = {g: 0 for g in groups if not isinstance(g, Column) and time_column(g, source.watermarked) is not None}
    if not timed:
        return source, groups
    width = source.visible
    places = {group: width + i for i, group in enumerate(timed)}
    columns = (*(Column(source.types[p], p) for p in range(width)), *timed)
    return Project(source, columns), tuple(Column(g.type, places[g]) if g in places else g for g in groups)


def _needs_watermark() -> InvalidDefinition:
    return InvalidDefinition(
        "EMIT ON WINDOW CLOSE needs a watermark: none reaches the GROUP BY",
        fix="Define `WATERMARK FOR` on the source, and group by its column or by window_start of TUMBLE or HOP over it.",
        sqlstate="0A000",
    )


class _Compiler:
    def __init__(self, catalog: Catalog, emit_on_window_close: bool) -> None:
        self._catalog = catalog
        self._eowc = emit_on_window_close
        self.closes = False
        self._shareable: list[tuple[algebra.Aggregate, Operator]] = []

    def compile(self, node: algebra.Node) -> Operator:
        compiler = _COMPILERS.get(type(node))
        if compiler is None:
            raise UnsupportedQuery(
                f"`{type(node).__name__}` cannot be kept up to date yet",
                fix="Run it as a query, or set HEADRACE_DATABASE_URL to a RisingWave cluster.",
            )
        if not isinstance(node, _CALLING) and any(isinstance(e, UdfCall) for own in expressions_of(node) for e in walk(own)):
            raise UnsupportedQuery(
                "a user's function cannot be called in a join condition, ORDER BY or a window of a materialized view",
                fix="Compute it as a column of a subquery, and use that column.",
            )
        return compiler(self, node)

    def _scan(self, node: algebra.Scan) -> Operator:
        relation = self._catalog.relation(node.relation)
        if relation.kind == "system":
            raise UnsupportedQuery(
                f"a materialized view over the system relation `{relation.name}` is not supported", fix="Query it directly."
            )
        return RelationLeaf(relation)

    def _values(self, node: algebra.Values) -> Operator:
        return ValuesLeaf(node)

    def _project(self, node: algebra.Project) -> Operator:
        source, exprs = self._with_calls(self._dynamic_filter(node) or self.compile(node.input), node.exprs)
        if not source.append_only and any(is_volatile(e) for e in exprs):
            raise UnsupportedQuery(
                "a function whose value changes cannot be used over input that retracts",
                fix="Store its value first in an append-only view.",
            )
        return Project(source, exprs)

    def _dynamic_filter(self, node: algebra.Project) -> Operator | None:
        """`WHERE x > (SELECT ...)`: a join with one row, of which nothing but the comparison is wanted."""
        join = node.input
        if not isinstance(join, algebra.Join) or join.kind != "inner" or join.temporal or not at_most_one_row(join.right):
            return None
        width = len(join.left.columns)
        compared = comparison(join.condition, width)
        if compared is None or any(i >= width for e in node.exprs for i in columns_of(e)):
            return None
        return DynamicFilter(self.compile(join.left), self.compile(join.right), compared)

    def _with_calls(self, source: Operator, exprs: tuple[Expr, ...]) -> tuple[Operator, tuple[Expr, ...]]:
        """Put calls of users' functions into operators of their own, innermost first."""
        while True:
            calls = [e for expr in exprs for e in walk(expr) if isinstance(e, UdfCall)]
            ready = tuple(
                dict.fromkeys(c for c in calls if not any(isinstance(below, UdfCall) for a in c.args for below in walk(a)))
            )
            if not ready:
                return source, exprs
            width = source.visible
            source = UdfCalls(source, ready)
            positions = {call: width + i for i, call in enumerate(ready)}

            def answered(e: Expr, positions: dict[UdfCall, int] = positions) -> Expr | None:
                return Column(e.type, positions[e]) if isinstance(e, UdfCall) and e in positions else None

            exprs = tuple(transform(expr, answered) for expr in exprs)

    def _filter(self, node: algebra.Filter) -> Operator:
        below = self.compile(node.input)
        source, (predicate,) = self._with_calls(below, (node.predicate,))
        if source is not below:
            filtered = self._filtered(source, predicate)
            return Project(filtered, tuple(Column(type_, p) for p, type_ in enumerate(below.types[: below.visible])))
        return self._filtered(source, predicate)

    def _filtered(self, source: Operator, predicate: Expr) -> Operator:
        parts = conjuncts(predicate)
        timed = [p for p in parts if uses_only_now(p)]
        steady = conjunction([p for p in parts if not is_volatile(p)])
        if any(is_volatile(p) and not uses_only_now(p) for p in parts):
            raise UnsupportedQuery(
                "a function whose value changes cannot be used in WHERE of a materialized view",
                fix="Compute it as a column of another view and filter that.",
            )
        if steady is not None:
            source = Filter(source, steady)
        return NowFilter(source, timed) if timed else source

    def _window(self, node: algebra.Window) -> Operator:
        return WindowTable(self.compile(node.input), node)

    def _aggregate(self, node: algebra.Aggregate) -> Operator:
        """An aggregate that the query has twice (Nexmark's q5) is kept once, whatever the order of its groups."""
        if self._eowc or len(set(node.groups)) < len(node.groups) or not is_repeatable(node):
            return self._own_aggregate(node)
        asked = without_names(node)
        for known, operator in self._shareable:
            if known.input == asked.input and known.aggregates == asked.aggregates and set(known.groups) == set(asked.groups):
                if known.groups == asked.groups:
                    return operator
                places = [known.groups.index(group) for group in asked.groups]
                places += range(len(known.groups), operator.visible)
                return Project(operator, tuple(Column(operator.types[p], p) for p in places))
        operator = self._own_aggregate(node)
        self._shareable.append((asked, operator))
        return operator

    def _own_aggregate(self, node: algebra.Aggregate) -> Operator:
        source, exprs = self._with_calls(self.compile(node.input), (*node.groups, *node.aggregates))
        groups = exprs[: len(node.groups)]
        calls: Any = exprs[len(node.groups) :]
        if self._eowc:
            source, groups = _with_time_groups(source, groups)
        windows = tuple(i for i, g in enumerate(groups) if isinstance(g, Column) and g.index in source.watermarked)
        # What stands on windows that have closed already, and has none of its own, is kept as in any other view.
        above_closed = any(isinstance(o, (WindowCloseAggregate, WindowCloseOver)) for o in operators(source))
        if self._eowc and not (above_closed and not (windows and source.append_only)):
            if not windows:
                raise _needs_watermark()
            if not source.append_only:
                raise UnsupportedQuery(
                    "EMIT ON WINDOW CLOSE over input that retracts is not supported",
                    fix="Aggregate the append-only source first.",
                )
            self.closes = True
            return WindowCloseAggregate(source, groups, calls, windows)
        if source.append_only and groups and not calls:
            return Deduplicate(source, groups)
        if HashAggregate.can_maintain(calls):
            return HashAggregate(source, groups, calls)
        return RecomputeAggregate(source, groups, calls)

    def _join(self, node: algebra.Join) -> Operator:
        if not node.temporal:
            return Join(node.kind, self.compile(node.left), self.compile(node.right), node.condition)
        left = self.compile(node.left)
        if not equi_keys(node.condition, left.visible) and (node.kind != "inner" or not left.append_only):
            raise UnsupportedQuery(
                "a temporal join without an equality is an inner join with an append-only left side",
                fix="Join by the key of the right side.",
            )
        assert isinstance(node.right, algebra.Scan)
        right = self._catalog.get(node.right.relation)
        assert isinstance(right, Relation)
        return TemporalJoin(node.kind, left, right, node.condition)

    def _over(self, node: algebra.Over) -> Operator:
        source = self.compile(node.input)
        if not self._eowc:
            return OverWindow(source, node.calls)
        time = WindowCloseOver.time_of(source, node.calls)
        if time is None:
            raise InvalidDefinition(
                "EMIT ON WINDOW CLOSE needs window functions that are ordered by one watermark column, over append-only input",
                fix="Order by the column of WATERMARK FOR, ascending.",
                sqlstate="0A000",
            )
        self.closes = True
        return WindowCloseOver(source, node.calls, time)

    def _top_n(self, node: algebra.TopN) -> Operator:
        if node.limit is None and not node.offset:
            return self.compile(node.input)
        return TopN(self.compile(node.input), node.order_by, node.limit, node.offset, node.with_ties)

    def _group_top_n(self, node: algebra.GroupTopN) -> Operator:
        if not self._eowc:
            return GroupTopN(self.compile(node.input), node)
        # A first row that is final goes out as any other row of a window function.
        width = len(node.input.columns)
        over = algebra.Over((*node.input.columns, algebra.OutputColumn("?rank?", INT8)), node.input, (node.call,))
        first = Call(BOOL, "<=", (Column(INT8, width), Literal(INT8, node.limit)), "({0} <= {1})")
        kept = tuple(Column(c.type, i) for i, c in enumerate(over.columns[: width + node.ranked]))
        return Project(Filter(self._over(over), first), kept)

    def _project_set(self, node: algebra.ProjectSet) -> Operator:
        below = self.compile(node.input)
        source, calls = self._with_calls(below, node.calls)
        if not source.append_only and any(is_volatile(e) for e in calls):
            raise UnsupportedQuery(
                "a function whose value changes cannot be used over input that retracts",
                fix="Store its value first in an append-only view.",
            )
        width, extra = below.visible, source.visible - below.visible
        if not extra:
            return ProjectSet(source, node)
        answers = tuple(algebra.OutputColumn("?call?", type_) for type_ in source.types[width : width + extra])
        columns = (*node.columns[:width], *answers, *node.columns[width:])
        expanded = ProjectSet(source, replace(node, columns=columns, calls=calls))
        kept = [p for p in range(expanded.visible) if not width <= p < width + extra]
        return Project(expanded, tuple(Column(expanded.types[p], p) for p in kept))

    def _changelog(self, node: algebra.Changelog) -> Operator:
        return Changelog(self.compile(node.input))

    def _max_one_row(self, _node: algebra.MaxOneRow) -> Operator:
        raise UnsupportedQuery(
            "a scalar subquery in a materialized view may give more than one row",
            fix="Aggregate it, fix its key by `=`, or add LIMIT 1.",
        )

    def _union(self, node: algebra.UnionAll) -> Operator:
        return UnionAll([self.compile(branch) for branch in node.branches])


_CALLING = (algebra.Project, algebra.Filter, algebra.Aggregate, algebra.ProjectSet)
"""Nodes whose expressions may call users' functions: the calls become an operator of their own below."""

_COMPILERS: dict[type[algebra.Node], Callable[[_Compiler, Any], Operator]] = {
    algebra.Scan: _Compiler._scan,
    algebra.Values: _Compiler._values,
    algebra.Project: _Compiler._project,
    algebra.Filter: _Compiler._filter,
    algebra.Window: _Compiler._window,
    algebra.Aggregate: _Compiler._aggregate,
    algebra.Join: _Compiler._join,
    algebra.Over: _Compiler._over,
    algebra.TopN: _Compiler._top_n,
    algebra.UnionAll: _Compiler._union,
    algebra.GroupTopN: _Compiler._group_top_n,
    algebra.ProjectSet: _Compiler._project_set,
    algebra.Changelog: _Compiler._changelog,
    algebra.MaxOneRow: _Compiler._max_one_row,
}
