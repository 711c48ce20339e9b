"""Subqueries become joins.

| written | becomes |
|---|---|
| `WHERE EXISTS (q)`, `WHERE x IN (q)` | semi join |
| `WHERE NOT EXISTS (q)` | anti join |
| `WHERE x NOT IN (q)` | anti join, and a filter on whether q is empty or holds a NULL |
| a scalar subquery | left join (inner where there is exactly one row) with q, grouped by what it takes from outside |
| EXISTS, IN, ANY, ALL as a value | left join with the distinct matches |
| `LATERAL (q)` | join |

A correlated q is first made a relation of its own (`decorrelation`).
"""

from __future__ import annotations

from dataclasses import replace

from engine.plan.algebra import (
    Aggregate,
    Apply,
    Filter,
    Join,
    MaxOneRow,
    Node,
    OutputColumn,
    Project,
    ProjectSet,
    Scan,
    Subquery,
    TopN,
    Values,
)
from engine.plan.rules.building import (
    both,
    column,
    distinct,
    either,
    extended,
    filled,
    has_subquery,
    is_null,
    moved,
    negation,
    outer_columns,
    picked,
    same,
)
from engine.plan.rules.decorrelation import Bound, counted, decorrelate, is_correlated
from engine.plan.traversal import expressions_of, map_expressions, map_tree, with_inputs
from engine.sql.errors import UnsupportedQuery
from engine.sql.expressions import (
    AggregateCall,
    Call,
    Case,
    Column,
    Expr,
    Literal,
    OuterColumn,
    columns_of,
    conjunction,
    conjuncts,
    is_volatile,
    shift,
    transform,
    walk,
)
from engine.sql.types import BOOL, INT8


def unnest_subqueries(node: Node) -> Node:
    """The same relation without `Subquery` and `Apply`."""
    node = with_inputs(node, tuple(unnest_subqueries(below) for below in node.inputs()))
    if isinstance(node, Apply):
        return _apply(node)
    if not has_subquery(expressions_of(node)):
        return node
    if isinstance(node, Filter):
        return _filter(node)
    if isinstance(node, Join):
        if node.kind != "inner" or node.temporal:
            return _outer_join(node)
        return _filter(Filter(node.columns, replace(node, condition=None), node.condition or Literal(BOOL, True)))
    if not node.inputs():
        raise UnsupportedQuery("a subquery cannot stand in VALUES", fix="Write it as a SELECT.")
    (source,) = node.inputs()
    width = len(source.columns)
    lifted = source
    found = dict.fromkeys(e for expr in expressions_of(node) for e in walk(expr) if isinstance(e, Subquery))
    values: dict[Expr, Expr] = {}
    for subquery in found:
        lifted, values[subquery] = _value(lifted, subquery)
    changed = map_expressions(node, lambda expr: transform(expr, values.get))
    if isinstance(node, (Project, Aggregate)):
        return with_inputs(changed, (lifted,))
    # These hand their input's columns on: what was added goes out again behind them.
    added = node.columns[width:]
    first = len(lifted.columns)
    whole = replace(with_inputs(changed, (lifted,)), columns=lifted.columns + added)
    return picked(whole, [*range(width), *range(first, first + len(added))])


def _outer_join(node: Join) -> Node:
    """The values of subqueries in ON become columns of the side that they depend on (of the left one if of none)."""
    width = len(node.left.columns)
    condition = node.condition or Literal(BOOL, True)
    left, right = node.left, node.right
    values: dict[Expr, tuple[bool, Expr]] = {}
    for subquery in dict.fromkeys(e for e in walk(condition) if isinstance(e, Subquery)):
        used = {i for arg in subquery.args for i in columns_of(arg)}
        of_right = bool(used) and min(used) >= width
        if node.temporal or (not of_right and used and max(used) >= width):
            raise UnsupportedQuery(
                "a subquery in ON of this join may depend on one of its sides only", fix="Join with the subquery instead."
            )
        if of_right:
            own = replace(subquery, args=tuple(shift(arg, -width) for arg in subquery.args))
            right, value = _value(right, own)
        else:
            left, value = _value(left, subquery)
        values[subquery] = (of_right, value)
    by = len(left.columns)

    def place(e: Expr) -> Expr | None:
        if e in values:
            of_right, value = values[e]
            return shift(value, by) if of_right else value
        return Column(e.type, e.index if e.index < width else e.index - width + by) if isinstance(e, Column) else None

    half = node.kind in ("semi", "anti")
    columns = left.columns if half else left.columns + right.columns
    joined = Join(columns, node.kind, left, right, transform(condition, place))
    kept = list(range(width)) + ([] if half else [by + i for i in range(len(node.right.columns))])
    return picked(joined, kept)


def _filter(node: Filter) -> Node:
    parts = conjuncts(node.predicate)
    result = node.input
    width = len(result.columns)
    plain = conjunction([p for p in parts if not has_subquery([p])])
    if plain is not None:
        result = Filter(result.columns, result, plain)
    for part in parts:
        if not has_subquery([part]):
            continue
        subquery, negated = _stripped(part)
        if isinstance(subquery, Subquery) and subquery.kind == "exists":
            result = _exists(result, subquery, negated)
        elif isinstance(subquery, Subquery) and subquery.kind == "any":
            result = _not_any(result, subquery) if negated else _semi(result, subquery, "semi")
        else:
            values: dict[Expr, Expr] = {}
            for inner in dict.fromkeys(e for e in walk(part) if isinstance(e, Subquery)):
                result, values[inner] = _value(result, inner)
            result = Filter(result.columns, result, transform(part, values.get))
    return picked(result, list(range(width)))


def _stripped(expr: Expr) -> tuple[Expr, bool]:
    """Without NOTs, and whether they negate."""
    negated = False
    while isinstance(expr, Call) and expr.name == "not":
        expr, negated = expr.args[0], not negated
    return expr, negated


def _prepared(subquery: Subquery) -> Subquery:
    """Unnested inside; what is computed of outer columns alone is taken from outside instead."""
    args = list(subquery.args)

    def hoist(expr: Expr) -> Expr | None:
        if isinstance(expr, (OuterColumn, AggregateCall)) or not outer_columns(expr):
            return None
        if (
            columns_of(expr)
            or has_subquery([expr])
            or is_volatile(expr)
            or any(isinstance(e, AggregateCall) for e in walk(expr))
        ):
            return None
        value = filled(expr, args)
        if value not in args:
            args.append(value)
        return OuterColumn(expr.type, args.index(value))

    below = map_tree(unnest_subqueries(subquery.node), lambda e: transform(e, hoist))
    test = transform(subquery.test, hoist) if subquery.test is not None else None
    return Subquery(subquery.type, subquery.kind, below, tuple(args), test)


def _bound(left: Node, subquery: Subquery) -> Bound:
    return decorrelate(subquery.node, lambda outer: _domain(left, subquery, outer))


def _domain(left: Node, subquery: Subquery, outer: list[int]) -> Node:
    exprs = tuple(subquery.args[o] for o in outer)
    columns = tuple(OutputColumn("?outer?", e.type) for e in exprs)
    return Aggregate(columns, left, exprs, ())


def _matches(left: Node, subquery: Subquery, bound: Bound) -> list[Expr]:
    """Conditions of a join of left and bound.node: the same outer values."""
    width = len(left.columns)
    return [same(subquery.args[o], shift(bound.column(o), width)) for o in sorted(bound.at)]


def _semi(left: Node, subquery: Subquery, kind: str, *, test: Expr | None = None) -> Node:
    subquery = _prepared(subquery)
    bound = _bound(left, subquery)
    parts = _matches(left, subquery, bound)
    test = subquery.test if test is None else test
    if test is not None:
        parts += conjuncts(filled(shift(test, len(left.columns)), subquery.args))
    return Join(left.columns, "semi" if kind == "semi" else "anti", left, bound.node, conjunction(parts))


def _exists(left: Node, subquery: Subquery, negated: bool) -> Node:
    if is_correlated(subquery.node):
        return _semi(left, subquery, "anti" if negated else "semi")
    width = len(left.columns)
    joined = _with_row(left, _some(unnest_subqueries(subquery.node)))
    some: Expr = Column(BOOL, width)
    return picked(Filter(joined.columns, joined, negation(some) if negated else some), list(range(width)))


def _with_row(left: Node, row: Node) -> Node:
    """Left beside a relation of exactly one row."""
    return Join(left.columns + row.columns, "inner", left, row, None)


def _count(of: Expr | None = None) -> AggregateCall:
    return AggregateCall(INT8, "count", (of,) if of is not None else ())


def _compared(sign: str, left: Expr, right: Expr) -> Expr:
    return Call(BOOL, sign, (left, right), f"({{0}} {sign} {{1}})")


def _some(node: Node) -> Node:
    """One row, one column: whether the relation has rows."""
    counted_ = Aggregate((OutputColumn("n", INT8),), node, (), (_count(),))
    return Project((OutputColumn("some", BOOL),), counted_, (_compared(">", Column(INT8, 0), Literal(INT8, 0)),))


def _equality(test: Expr | None) -> tuple[Expr, Expr] | None:
    """(own side, outer side) of a test that is one equality between the query's columns and outer ones."""
    if not isinstance(test, Call) or test.name != "=":
        return None
    for own, outer in (test.args, test.args[::-1]):
        if columns_of(own) and not outer_columns(own) and not columns_of(outer):
            return own, outer
    return None


def _not_any(left: Node, subquery: Subquery) -> Node:
    """Rows for which the test is false for every row of the query: a NULL is not false."""
    equality = _equality(subquery.test)
    if equality is None:
        assert subquery.test is not None
        maybe = Call(BOOL, "coalesce", (subquery.test, Literal(BOOL, True)), "coalesce({0}, {1})")
        return _semi(left, subquery, "anti", test=maybe)
    width = len(left.columns)
    rest = _semi(left, subquery, "anti")
    with_facts, empty, clean = _facts(rest, subquery, equality[0])
    value = filled(equality[1], subquery.args)
    predicate = either(empty, both(negation(is_null(value)), clean))
    return picked(Filter(with_facts.columns, with_facts, predicate), list(range(width)))


def _facts(left: Node, subquery: Subquery, own: Expr) -> tuple[Node, Expr, Expr]:
    """Left with what must be known of the query beside its matches: whether it is empty, and whether it holds no NULL."""
    subquery = _prepared(subquery)
    bound = _bound(left, subquery)
    outer = sorted(bound.at)
    k = len(outer)
    keys = tuple(bound.column(o) for o in outer)
    columns = (*(OutputColumn("?outer?", e.type) for e in keys), OutputColumn("n", INT8), OutputColumn("m", INT8))
    grouped = Aggregate(columns, bound.node, keys, (_count(), _count(own)))
    clean = _compared("=", Column(INT8, k), Column(INT8, k + 1))
    some = _compared(">", Column(INT8, k), Literal(INT8, 0))
    names = (*columns[:k], OutputColumn("some", BOOL), OutputColumn("clean", BOOL))
    facts = Project(names, grouped, (*(column(grouped, i) for i in range(k)), some, clean))
    width = len(left.columns)
    at = {o: i for i, o in enumerate(outer)}
    if not k:
        joined = _with_row(left, facts)
        return joined, negation(Column(BOOL, width)), Column(BOOL, width + 1)
    condition = conjunction(_matches(left, subquery, Bound(facts, at)))
    joined = Join(left.columns + facts.columns, "left", left, facts, condition)
    return joined, is_null(Column(BOOL, width + k)), Column(BOOL, width + k + 1)


# Subqueries as values


def _value(left: Node, subquery: Subquery) -> tuple[Node, Expr]:
    """Left with further columns, and the subquery's value over them."""
    if subquery.kind == "scalar":
        return _scalar(left, subquery)
    if subquery.kind == "exists":
        if not is_correlated(subquery.node):
            joined = _with_row(left, _some(unnest_subqueries(subquery.node)))
            return joined, Column(BOOL, len(left.columns))
        return _marked(left, subquery, None)
    equality = _equality(subquery.test)
    if equality is None:
        return _scalar(left, _counting(subquery))
    own, outer = equality
    width = len(left.columns)
    marked, found = _marked(left, subquery, own)
    with_facts, empty, clean = _facts(marked, subquery, own)
    value = filled(outer, subquery.args)
    unknown = either(is_null(value), negation(clean))
    branches = ((found, Literal(BOOL, True)), (empty, Literal(BOOL, False)), (unknown, Literal(BOOL, None)))
    assert width <= len(with_facts.columns)
    return with_facts, Case(BOOL, branches, Literal(BOOL, False))


def _marked(left: Node, subquery: Subquery, own: Expr | None) -> tuple[Node, Expr]:
    """Left joined with the distinct matches, and whether there is one."""
    test = subquery.test
    subquery = _prepared(subquery)
    bound = _bound(left, subquery)
    outer = sorted(bound.at)
    keys: list[Expr] = [bound.column(o) for o in outer]
    if own is not None:
        keys.append(own)
    matches = distinct(Project(tuple(OutputColumn("?key?", e.type) for e in keys), bound.node, tuple(keys)))
    width, k = len(left.columns), len(outer)
    marker = extended(matches, [Literal(BOOL, True)], "found")
    parts = _matches(left, subquery, Bound(marker, {o: i for i, o in enumerate(outer)}))
    if own is not None:
        assert isinstance(test, Call)
        value = next(a for a in test.args if not columns_of(a))
        key: Expr = Column(own.type, width + k)
        parts.append(Call(BOOL, "=", (filled(value, subquery.args), key), test.template))
    joined = Join(left.columns + marker.columns, "left", left, marker, conjunction(parts))
    return joined, negation(is_null(Column(BOOL, width + len(keys))))


def _counting(subquery: Subquery) -> Subquery:
    """`any` as a scalar subquery that counts: true if a row matches, else NULL if one may, else false."""
    assert subquery.test is not None
    tested = Project((OutputColumn("test", BOOL),), subquery.node, (subquery.test,))
    hit = Column(BOOL, 0)
    calls = (replace(_count(), filter=hit), replace(_count(), filter=is_null(hit)))
    grouped = Aggregate((OutputColumn("n", INT8), OutputColumn("m", INT8)), tested, (), calls)
    some = [_compared(">", Column(INT8, i), Literal(INT8, 0)) for i in (0, 1)]
    value = Case(BOOL, ((some[0], Literal(BOOL, True)), (some[1], Literal(BOOL, None))), Literal(BOOL, False))
    return Subquery(BOOL, "scalar", Project((OutputColumn("any", BOOL),), grouped, (value,)), subquery.args)


def _scalar(left: Node, subquery: Subquery) -> tuple[Node, Expr]:
    subquery = _prepared(subquery)
    width = len(left.columns)
    direct = _over_aggregate(left, subquery)
    if direct is not None:
        return direct
    node = subquery.node
    single = at_most_one_row(node)
    bound = _bound(left, subquery)
    right = bound.node
    if not single:
        right = MaxOneRow(right.columns, right, tuple(bound.at[o] for o in sorted(bound.at)))
    condition = conjunction(_matches(left, subquery, Bound(right, bound.at)))
    kind = "inner" if not bound.at and exactly_one_row(node) else "left"
    joined = Join(left.columns + right.columns, "inner" if kind == "inner" else "left", left, right, condition)
    return joined, Column(subquery.type, width)


def _over_aggregate(left: Node, subquery: Subquery) -> tuple[Node, Expr] | None:
    """Projections over an aggregate without GROUP BY, correlated below it: groups by the outer values, and left rows without
    a group take what the aggregate gives for no rows."""
    node, exprs = subquery.node, None
    value: Expr = Column(subquery.type, 0)
    while isinstance(node, Project):
        exprs = node.exprs
        value = transform(value, lambda e, exprs=exprs: exprs[e.index] if isinstance(e, Column) else None)  # type: ignore[misc]
        node = node.input
    if not isinstance(node, Aggregate) or node.groups or not is_correlated(node.input):
        return None
    if outer_columns(value) or any(outer_columns(e) for e in node.aggregates):
        return None
    inner = replace(subquery, node=node.input)
    bound = _bound(left, inner)
    outer = sorted(bound.at)
    k = len(outer)
    keys = tuple(bound.column(o) for o in outer)
    columns = (*(OutputColumn("?outer?", e.type) for e in keys), *node.columns)
    grouped = Aggregate(columns, bound.node, keys, node.aggregates)
    condition = conjunction(_matches(left, inner, Bound(grouped, {o: i for i, o in enumerate(outer)})))
    joined = Join(left.columns + grouped.columns, "left", left, grouped, condition)
    first = len(left.columns) + k
    calls = [counted(node, i, column(joined, first + i)) for i in range(len(node.aggregates))]
    return joined, transform(value, lambda e: calls[e.index] if isinstance(e, Column) else None)


def exactly_one_row(node: Node) -> bool:
    while isinstance(node, Project):
        node = node.input
    return (isinstance(node, Aggregate) and not node.groups) or (isinstance(node, Values) and len(node.rows) == 1)


def at_most_one_row(node: Node) -> bool:
    """Whether it cannot have more than one row (for any values of its outer columns)."""
    if exactly_one_row(node):
        return True
    if isinstance(node, Filter) and _by_key(node):
        return True
    if isinstance(node, TopN):
        return (node.limit is not None and node.limit <= 1 and not node.with_ties) or at_most_one_row(node.input)
    if isinstance(node, Join) and node.kind in ("inner", "left"):
        return at_most_one_row(node.left) and at_most_one_row(node.right)
    if isinstance(node, (Project, Filter, MaxOneRow)) or (isinstance(node, Join) and node.kind in ("semi", "anti")):
        return isinstance(node, MaxOneRow) or at_most_one_row(node.inputs()[0])
    return False


def _by_key(node: Filter) -> bool:
    """A filter that fixes the primary key of a relation, or the groups of an aggregate."""
    fixed: set[int] = set()
    for part in conjuncts(node.predicate):
        if isinstance(part, Call) and part.name == "=":
            for a, b in (part.args, part.args[::-1]):
                if isinstance(a, Column) and not columns_of(b):
                    fixed.add(a.index)
    below = node.input
    while isinstance(below, Project):
        exprs = [below.exprs[i] for i in fixed]
        fixed = {e.index for e in exprs if isinstance(e, Column)}
        below = below.input
    if isinstance(below, Scan):
        return bool(below.unique) and fixed >= set(below.unique)
    return isinstance(below, Aggregate) and fixed >= set(range(len(below.groups)))


def _apply(node: Apply) -> Node:
    """LATERAL: the decorrelated right side, joined on the outer values."""
    subquery = _prepared(Subquery(BOOL, "exists", node.right, node.args))
    if has_subquery(node.args):
        raise UnsupportedQuery("a subquery inside a LATERAL reference is not supported", fix="Compute it in a subquery first.")
    rows = _apply_rows(node, subquery)
    if rows is not None:
        return rows
    bound = _bound(node.left, subquery)
    width = len(node.left.columns)
    parts = _matches(node.left, subquery, bound)
    if node.condition is not None:
        parts += conjuncts(moved(node.condition, {i: i for i in range(len(node.columns))}))
    joined = Join(node.left.columns + bound.node.columns, node.kind, node.left, bound.node, conjunction(parts))
    return picked(joined, list(range(width + len(node.right.columns))))


def _apply_rows(node: Apply, right: Subquery) -> Node | None:
    """A set-returning function over the left row's own columns: no join is needed."""
    above = right.node
    if not isinstance(above, Project) or not isinstance(above.input, ProjectSet) or not isinstance(above.input.input, Values):
        return None
    always = node.condition is None or (isinstance(node.condition, Literal) and node.condition.value is True)
    if node.kind == "left" and not always:
        return None
    rows, width = above.input, len(node.left.columns)
    if len(rows.input.columns) != 1:
        return None
    calls = tuple(filled(call, right.args) for call in rows.calls)
    added = rows.columns[1:]
    elements = ProjectSet(node.left.columns + added, node.left, calls, rows.ordinality, outer=node.kind == "left")
    exprs = [filled(shift(e, width - 1), right.args) for e in above.exprs]
    result = Project(node.columns, elements, (*(column(node.left, i) for i in range(width)), *exprs))
    return result if always or node.condition is None else Filter(result.columns, result, node.condition)
