"""A query with outer columns as a relation that holds its rows for all their values at once.

`decorrelate(Q, D)` gives Q' with Q's columns and, behind them, one column for each outer column that Q depends on: the rows of
Q' in which these columns have the values t are the rows of Q for t. Where Q compares an outer column for equality with one of
its own, that column is the outer column; otherwise Q is joined with the domain D, the distinct values that occur outside.

Source: Neumann, Kemper, "Unnesting Arbitrary Queries", BTW 2015.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from engine.plan.algebra import (
    Aggregate,
    Filter,
    Join,
    MaxOneRow,
    Node,
    OutputColumn,
    Over,
    Project,
    ProjectSet,
    SetOperation,
    TopN,
    UnionAll,
    Values,
    Window,
)
from engine.plan.rules.building import (
    coalesced,
    column,
    extended,
    filled,
    is_null,
    moved,
    negation,
    outer_columns,
    picked,
    same,
)
from engine.plan.traversal import all_expressions, expressions_of
from engine.sql.errors import UnsupportedQuery
from engine.sql.expressions import Call, Column, Expr, Literal, OuterColumn, WindowCall, columns_of, conjunction, conjuncts
from engine.sql.types import BOOL, INT4, INT8, NUMERIC

Domain = Callable[[list[int]], Node]
"""Gives the distinct values of these outer columns, side by side."""


@dataclass(frozen=True)
class Bound:
    """`node` has the original columns first; `at` says which of the others holds which outer column."""

    node: Node
    at: dict[int, int]

    def column(self, outer: int) -> Column:
        return column(self.node, self.at[outer])

    def fill(self, expr: Expr) -> Expr:
        return filled(expr, {outer: self.column(outer) for outer in self.at})


def decorrelate(node: Node, domain: Domain) -> Bound:
    """See the module's head."""
    return _Decorrelation(domain).of(node)


def is_correlated(node: Node) -> bool:
    return any(outer_columns(e) for e in all_expressions(node))


def _outer(exprs: Iterable[Expr]) -> set[int]:
    return {i for e in exprs for i in outer_columns(e)}


class _Decorrelation:
    def __init__(self, domain: Domain) -> None:
        self._domain = domain

    def of(self, node: Node) -> Bound:
        if not is_correlated(node):
            return Bound(node, {})
        rule = _RULES.get(type(node))
        if rule is None:
            raise UnsupportedQuery(
                f"a `{type(node).__name__}` cannot depend on the query around it", fix="Rewrite it as a join."
            )
        return rule(self, node)

    def _bind(self, bound: Bound, needed: Iterable[int]) -> Bound:
        """Join with the domain of those outer columns that are still open."""
        missing = sorted(set(needed) - bound.at.keys())
        if not missing:
            return bound
        values = self._domain(missing)
        width = len(bound.node.columns)
        node = Join(bound.node.columns + values.columns, "inner", bound.node, values, None)
        return Bound(node, bound.at | {outer: width + i for i, outer in enumerate(missing)})

    def _ordered(self, bound: Bound, node: Node, columns: list[int]) -> Bound:
        """`node` over `bound.node`: these columns, then the outer ones (which `node` has where its input has them)."""
        outer = sorted(bound.at)
        return Bound(
            picked(node, [*columns, *(bound.at[o] for o in outer)]), {o: len(columns) + i for i, o in enumerate(outer)}
        )

    def _filter(self, node: Filter) -> Bound:
        return self._filtered(self.of(node.input), conjuncts(node.predicate), len(node.columns))

    def _filtered(self, bound: Bound, parts: list[Expr], width: int) -> Bound:
        """Rows for which all parts are true. Equalities with an outer column that is still open say where it is."""
        plain = [p for p in parts if not outer_columns(p)]
        open_ = [p for p in parts if outer_columns(p)]
        pending: list[Expr] = []
        equal: dict[int, Expr] = {}
        for part in open_:
            found = _equality(part)
            if found is not None and found[0] not in bound.at and found[0] not in equal:
                equal[found[0]] = found[1]
                plain.append(negation(is_null(found[1])))  # NULL equals nothing
            else:
                pending.append(part)
        result = Bound(_where(bound.node, plain), bound.at)
        computed = [(o, e) for o, e in equal.items() if not isinstance(e, Column)]
        at = dict(bound.at) | {o: e.index for o, e in equal.items() if isinstance(e, Column)}
        first = len(result.node.columns)
        result = Bound(
            extended(result.node, [e for _, e in computed]), at | {o: first + i for i, (o, _) in enumerate(computed)}
        )
        if pending:
            result = self._bind(result, _outer(pending))
            result = Bound(_where(result.node, [result.fill(p) for p in pending]), result.at)
        # What was put behind the original columns stays there; only the outer ones among it are known.
        return self._ordered(result, result.node, list(range(width)))

    def _project(self, node: Project) -> Bound:
        bound = self._bind(self.of(node.input), _outer(node.exprs))
        outer = sorted(bound.at)
        columns = (*node.columns, *(bound.node.columns[bound.at[o]] for o in outer))
        exprs = (*(bound.fill(e) for e in node.exprs), *(bound.column(o) for o in outer))
        return Bound(Project(columns, bound.node, exprs), {o: len(node.columns) + i for i, o in enumerate(outer)})

    def _project_set(self, node: ProjectSet) -> Bound:
        bound = self._bind(self.of(node.input), _outer(node.calls))
        width, added = len(node.input.columns), node.columns[len(node.input.columns) :]
        result = replace(
            node,
            columns=bound.node.columns + added,
            input=bound.node,
            calls=tuple(bound.fill(e) for e in node.calls),
        )
        first = len(bound.node.columns)
        return self._ordered(bound, result, [*range(width), *range(first, first + len(added))])

    def _aggregate(self, node: Aggregate) -> Bound:
        bound = self._bind(self.of(node.input), _outer(expressions_of(node)))
        outer = sorted(bound.at)
        groups = tuple(bound.fill(g) for g in node.groups)
        calls: Any = tuple(bound.fill(c) for c in node.aggregates)
        keys = tuple(bound.column(o) for o in outer)
        n = len(groups)
        columns = node.columns[:n] + tuple(OutputColumn("?outer?", k.type) for k in keys) + node.columns[n:]
        grouped: Node = Aggregate(columns, bound.node, groups + keys, calls)
        order = [*range(n), *range(n + len(keys), len(columns)), *range(n, n + len(keys))]
        result = Bound(picked(grouped, order), {o: len(node.columns) + i for i, o in enumerate(outer)})
        return self._with_empty(node, result) if not groups else result

    def _with_empty(self, node: Aggregate, bound: Bound) -> Bound:
        """Without GROUP BY there is a row for every value, also where nothing is counted."""
        outer = sorted(bound.at)
        values = self._domain(outer)
        k = len(outer)
        condition = conjunction([same(column(values, i), moved(bound.column(o), k)) for i, o in enumerate(outer)])
        joined = Join(values.columns + bound.node.columns, "left", values, bound.node, condition)
        exprs = [counted(node, i, column(joined, k + i)) for i in range(len(node.aggregates))]
        columns = (*node.columns, *values.columns)
        return Bound(
            Project(columns, joined, (*exprs, *(column(joined, i) for i in range(k)))),
            {o: len(node.columns) + i for i, o in enumerate(outer)},
        )

    def _join(self, node: Join) -> Bound:
        if node.temporal or node.kind in ("right", "full"):
            kind = "temporal" if node.temporal else node.kind
            raise UnsupportedQuery(
                f"a {kind} join cannot depend on the query around it", fix="Write it as a LEFT JOIN, or outside the subquery."
            )
        left, right = self.of(node.left), self.of(node.right)
        parts = conjuncts(node.condition) if node.condition is not None else []
        width = len(node.left.columns)
        half = node.kind in ("semi", "anti")
        if node.kind != "inner":
            left = self._bind(left, right.at.keys() | _outer(parts))
        by = len(left.node.columns)
        places = {i: i for i in range(width)} | {width + i: by + i for i in range(len(node.right.columns))}
        right_at = {o: by + p for o, p in right.at.items()}
        everything = left.node.columns + right.node.columns
        condition = [moved(p, places) for p in parts if node.kind != "inner" or not outer_columns(p)]
        condition = [left.fill(p) for p in condition]
        for o in sorted(left.at.keys() & right_at.keys()):
            condition.append(same(left.column(o), Column(everything[right_at[o]].type, right_at[o])))
        joined = Join(left.node.columns if half else everything, node.kind, left.node, right.node, conjunction(condition))
        result = Bound(joined, left.at if half else right_at | left.at)
        kept = list(range(width)) if half else [places[i] for i in range(len(node.columns))]
        result = self._ordered(result, joined, kept)
        if node.kind == "inner":
            return self._filtered(result, [p for p in parts if outer_columns(p)], len(node.columns))
        return result

    def _over(self, node: Over) -> Bound:
        bound = self._bind(self.of(node.input), _outer(node.calls))
        keys = tuple(bound.column(o) for o in sorted(bound.at))
        calls: list[WindowCall] = []
        for call in node.calls:
            changed = bound.fill(call)
            assert isinstance(changed, WindowCall)
            calls.append(replace(changed, partition_by=changed.partition_by + keys))
        width = len(node.input.columns)
        over = Over(bound.node.columns + node.columns[width:], bound.node, tuple(calls))
        first = len(bound.node.columns)
        return self._ordered(bound, over, [*range(width), *range(first, first + len(calls))])

    def _top_n(self, node: TopN) -> Bound:
        bound = self._bind(self.of(node.input), _outer(expressions_of(node)))
        if node.limit is None and not node.offset:
            return bound
        order = tuple(replace(k, expr=bound.fill(k.expr)) for k in node.order_by)
        keys = tuple(bound.column(o) for o in sorted(bound.at))
        name = "rank" if node.with_ties else "row_number"
        call = WindowCall(INT8, name, (), keys, order)
        width = len(bound.node.columns)
        over = Over((*bound.node.columns, OutputColumn("?rank?", INT8)), bound.node, (call,))
        rank = Column(INT8, width)
        limits: list[Expr] = []
        if node.limit is not None:
            limits.append(Call(BOOL, "<=", (rank, Literal(INT8, node.limit + node.offset)), "({0} <= {1})"))
        if node.offset:
            limits.append(Call(BOOL, ">", (rank, Literal(INT8, node.offset)), "({0} > {1})"))
        return self._ordered(bound, _where(over, limits), list(range(len(node.columns))))

    def _union(self, node: UnionAll) -> Bound:
        outer = sorted(_outer(all_expressions(node)))
        branches = tuple(self._aligned(branch, outer) for branch in node.branches)
        width = len(node.columns)
        columns = node.columns + branches[0].columns[width:]
        return Bound(UnionAll(columns, branches), {o: width + i for i, o in enumerate(outer)})

    def _set_operation(self, node: SetOperation) -> Bound:
        outer = sorted(_outer(all_expressions(node)))
        left, right = self._aligned(node.left, outer), self._aligned(node.right, outer)
        at = {o: len(node.columns) + i for i, o in enumerate(outer)}
        return Bound(SetOperation(node.columns + left.columns[len(node.columns) :], node.kind, left, right), at)

    def _aligned(self, node: Node, outer: list[int]) -> Node:
        bound = self._bind(self.of(node), outer)
        return self._ordered(bound, bound.node, list(range(len(node.columns)))).node

    def _window(self, node: Window) -> Bound:
        bound = self.of(node.input)
        width, first = len(node.input.columns), len(bound.node.columns)
        result = replace(node, columns=bound.node.columns + node.columns[width:], input=bound.node)
        return self._ordered(bound, result, [*range(width), first, first + 1])

    def _values(self, node: Values) -> Bound:
        one = Values((OutputColumn("?dual?", INT4),), ((Literal(INT4, 0),),))
        branches: tuple[Node, ...] = tuple(Project(node.columns, one, row) for row in node.rows)
        return self.of(UnionAll(node.columns, branches) if len(branches) > 1 else branches[0])

    def _max_one_row(self, node: MaxOneRow) -> Bound:
        bound = self.of(node.input)
        by = node.by + tuple(bound.at[o] for o in sorted(bound.at))
        return Bound(MaxOneRow(bound.node.columns, bound.node, by), bound.at)


def _equality(part: Expr) -> tuple[int, Expr] | None:
    """(outer column, own expression) of `own = outer`."""
    if not isinstance(part, Call) or part.name != "=":
        return None
    for a, b in (part.args, part.args[::-1]):
        if isinstance(b, OuterColumn) and not outer_columns(a) and columns_of(a) and a.type == b.type != NUMERIC:
            # Equal numerics may differ in scale, and are then other outer values.
            return b.index, a
    return None


def _where(node: Node, parts: list[Expr]) -> Node:
    predicate = conjunction(parts)
    return node if predicate is None else Filter(node.columns, node, predicate)


def counted(node: Aggregate, call: int, value: Expr) -> Expr:
    """The value of an aggregate without GROUP BY whose group may be missing: a count is then 0."""
    name = node.aggregates[call].name
    return coalesced(value, Literal(value.type, 0)) if name in ("count", "approx_count_distinct") else value


_RULES: dict[type[Node], Callable[[_Decorrelation, Any], Bound]] = {
    Filter: _Decorrelation._filter,
    Project: _Decorrelation._project,
    ProjectSet: _Decorrelation._project_set,
    Aggregate: _Decorrelation._aggregate,
    Join: _Decorrelation._join,
    Over: _Decorrelation._over,
    TopN: _Decorrelation._top_n,
    UnionAll: _Decorrelation._union,
    SetOperation: _Decorrelation._set_operation,
    Window: _Decorrelation._window,
    Values: _Decorrelation._values,
    MaxOneRow: _Decorrelation._max_one_row,
}
