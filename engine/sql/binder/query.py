"""Queries: from sqlglot's tree to the relational algebra.

The order of work is SQL's own: FROM, WHERE, GROUP BY, HAVING, window functions, SELECT, DISTINCT, ORDER BY, LIMIT. Aggregate
and window calls are bound where they stand, then taken out: each becomes a column of an Aggregate or Over node below.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from sqlglot import exp

from engine.functions.casts import common_type
from engine.plan.algebra import Aggregate, Filter, Node, OutputColumn, Over, Project, SetOperation, TopN, UnionAll, Values
from engine.sql.binder.expression import ExpressionBinder
from engine.sql.binder.from_clause import bind_from
from engine.sql.binder.grouping import Keys, aggregate_sets, group_key, grouping_sets
from engine.sql.binder.scope import Environment, Scope, ScopeColumn, position_of
from engine.sql.binder.table_functions import extract_set_values
from engine.sql.errors import GroupingError, SqlError, TypeMismatch, UndefinedColumn, UnsupportedQuery, too_deep
from engine.sql.expressions import (
    AggregateCall,
    Call,
    Cast,
    Column,
    Expr,
    FieldAccess,
    Literal,
    OrderKey,
    SetValue,
    WindowCall,
    transform,
    walk,
)
from engine.sql.types import INT8, UNKNOWN, VARCHAR, SqlType


@dataclass(frozen=True)
class BoundQuery:
    """A query's algebra; `node.columns` carry the output names."""

    node: Node

    @property
    def columns(self) -> tuple[OutputColumn, ...]:
        return self.node.columns


def bind_query(query: exp.Expr, environment: Environment) -> BoundQuery:
    """Bind a whole query.

    Args:
        query: SELECT, a set operation, VALUES, or one of these in parentheses.
        environment: what names mean; `environment.used` is filled.

    Raises:
        SqlError: with SQLSTATE and, where known, the position.
    """
    if environment.depth > 64:
        raise too_deep()
    if environment.depth:
        return _bind_query(query, environment)
    try:
        return _bind_query(query, environment)
    except RecursionError as error:
        raise too_deep() from error


def _bind_query(query: exp.Expr, environment: Environment) -> BoundQuery:
    environment = _with_ctes(query, environment)
    if isinstance(query, exp.Subquery):
        inner = bind_query(query.this, environment).node
        return BoundQuery(_limit(_plain_order(inner, query, environment), query, environment))
    if isinstance(query, exp.SetOperation):
        inner = _bind_set_operation(query, environment)
        return BoundQuery(_limit(_plain_order(inner, query, environment), query, environment))
    if isinstance(query, exp.Values):
        rows = _rows_as_queries(query)
        return bind_query(rows, environment) if rows is not None else BoundQuery(bind_values(query, environment))
    if isinstance(query, exp.Select):
        return BoundQuery(_SelectBinder(query, environment).bind())
    raise UnsupportedQuery(f"`{query.key}` is not a query that we understand", position=position_of(query))


def _rows_as_queries(values: exp.Values) -> exp.Query | None:
    """VALUES in which subqueries stand, as one SELECT a row; None where there are none."""
    if values.find(exp.Query) is None or values.find(exp.Var) is not None:
        return None
    names = [f"column{i + 1}" for i in range(len(values.expressions[0].expressions))]
    found: exp.Query | None = None
    for row in values.expressions:
        if len(row.expressions) != len(names):
            raise SqlError("VALUES lists must all be the same length", position=position_of(values), sqlstate="42601")
        items = [exp.Alias(this=e.copy(), alias=exp.to_identifier(n)) for e, n in zip(row.expressions, names, strict=True)]
        select = exp.Select(expressions=items)
        found = select if found is None else exp.Union(this=found, expression=select, distinct=False)
    return found


def bind_values(values: exp.Values, environment: Environment) -> Values:
    """`VALUES (1, 'a'), (2, NULL)`: column types are the common ones."""
    binder = ExpressionBinder(environment, Scope(), "VALUES")
    rows = [
        [binder.bind(item) for item in (row.expressions if isinstance(row, exp.Tuple) else [row])] for row in values.expressions
    ]
    width = len(rows[0])
    if any(len(row) != width for row in rows):
        raise SqlError("VALUES lists must all be the same length", position=position_of(values), sqlstate="42601")
    types = []
    for index in range(width):
        type_ = common_type([row[index].type for row in rows])
        if type_ is None:
            raise TypeMismatch("VALUES types cannot be matched", position=position_of(values), fix="Add a cast.")
        types.append(VARCHAR if type_ == UNKNOWN else type_)
    bound = tuple(tuple(binder.coerce(item, type_) for item, type_ in zip(row, types, strict=True)) for row in rows)
    return Values(tuple(OutputColumn(f"column{i + 1}", t) for i, t in enumerate(types)), bound)


def project(node: Node, columns: list[tuple[str, Expr]]) -> Node:
    """A projection, left out where it would change nothing."""
    outputs = tuple(OutputColumn(name, expr.type) for name, expr in columns)
    exprs = tuple(expr for _, expr in columns)
    if outputs == node.columns and all(isinstance(e, Column) and e.index == i for i, e in enumerate(exprs)):
        return node
    return Project(outputs, node, exprs)


def _with_ctes(query: exp.Expr, environment: Environment) -> Environment:
    with_ = query.args.get("with_") or query.args.get("with")
    if with_ is None:
        return environment.inside(environment.ctes)
    if with_.args.get("recursive"):
        raise UnsupportedQuery("WITH RECURSIVE is not supported, as in RisingWave", position=position_of(with_))
    return environment.inside({**environment.ctes, **{cte.alias: cte for cte in with_.expressions}})


def _bind_set_operation(query: exp.SetOperation, environment: Environment) -> Node:
    left = bind_query(query.left, environment).node
    right = bind_query(query.right, environment).node
    if query.args.get("by_name"):
        left, right = _corresponding(query, left, right)
    if len(left.columns) != len(right.columns):
        raise SqlError(
            f"each {query.key.upper()} query must have the same number of columns",
            position=position_of(query.right),
            sqlstate="42601",
        )
    types = []
    for i, (a, b) in enumerate(zip(left.columns, right.columns, strict=True)):
        type_ = common_type([a.type, b.type]) or common_type([_written_type(left, i), _written_type(right, i)])
        if type_ is None:
            raise TypeMismatch(
                f"{query.key.upper()} types {a.type} and {b.type} of column `{a.name}` cannot be matched",
                position=position_of(query.right),
                fix="Add a cast.",
            )
        types.append(type_)
    names = [column.name for column in left.columns]
    binder = ExpressionBinder(environment, Scope())

    def cast_to_common(node: Node) -> Node:
        return project(
            node,
            [
                (n, _cast_column(binder, i, c.type, t))
                for i, (n, c, t) in enumerate(zip(names, node.columns, types, strict=True))
            ],
        )

    left, right = cast_to_common(left), cast_to_common(right)
    distinct = query.args.get("distinct") is not False
    if isinstance(query, exp.Union):
        branches = tuple(
            b for side in (left, right) for b in (side.branches if isinstance(side, UnionAll) and not distinct else (side,))
        )
        union: Node = UnionAll(left.columns, branches)
        return _distinct(union) if distinct else union
    kind = "intersect" if isinstance(query, exp.Intersect) else "except"
    if not distinct:
        raise UnsupportedQuery(f"{kind.upper()} ALL is not supported, as in RisingWave", position=position_of(query))
    return SetOperation(left.columns, "intersect" if kind == "intersect" else "except", left, right)


def _cast_column(binder: ExpressionBinder, index: int, type_: SqlType, target: SqlType) -> Expr:
    column = Column(type_, index)
    return Cast(target, column) if type_ == VARCHAR and target != VARCHAR else binder.coerce(column, target)


def _written_type(node: Node, index: int) -> SqlType:
    """The type of an output column, unknown where it is a NULL or a text that nobody gave a type."""
    if isinstance(node, Project) and node.columns[index].type == VARCHAR and isinstance(node.exprs[index], Literal):
        return UNKNOWN
    if isinstance(node, Values) and all(isinstance(row[index], Literal) for row in node.rows):
        return UNKNOWN if node.columns[index].type == VARCHAR else node.columns[index].type
    return node.columns[index].type


def _corresponding(query: exp.SetOperation, left: Node, right: Node) -> tuple[Node, Node]:
    """CORRESPONDING [BY (..)]: the columns that both sides name, in the left one's order."""
    sides = [[c.name for c in side.columns] for side in (left, right)]
    wanted = [i.name for i in query.args.get("on") or []] or [n for n in sides[0] if n in sides[1]]
    if not wanted:
        raise SqlError(
            "the sides of CORRESPONDING have no column name in common", position=position_of(query.right), sqlstate="42601"
        )
    picked = []
    for side, names in zip((left, right), sides, strict=True):
        for name in wanted:
            if names.count(name) != 1:
                raise UndefinedColumn(
                    f"column `{name}` of CORRESPONDING must occur once on each side", position=position_of(query.right)
                )
        positions = [names.index(name) for name in wanted]
        picked.append(project(side, [(n, Column(side.columns[p].type, p)) for n, p in zip(wanted, positions, strict=True)]))
    return picked[0], picked[1]


def _distinct(node: Node) -> Node:
    return Aggregate(node.columns, node, tuple(group_key(Column(c.type, i)) for i, c in enumerate(node.columns)), ())


def _plain_order(node: Node, query: exp.Expr, environment: Environment) -> Node:
    """ORDER BY over the output columns only."""
    order = query.args.get("order")
    if order is None:
        return node
    scope = Scope(tuple(ScopeColumn(None, c.name, c.type, i) for i, c in enumerate(node.columns)))
    binder = ExpressionBinder(environment, scope, "ORDER BY")
    keys = []
    for item in order.expressions:
        ordinal = _ordinal(item.this, len(node.columns))
        if ordinal is None:
            keys.append(binder.order_key(item))
        else:
            key = binder.order_key(exp.Ordered(this=exp.Null(), **{k: v for k, v in item.args.items() if k != "this"}))
            keys.append(OrderKey(Column(node.columns[ordinal].type, ordinal), key.descending, key.nulls_first))
    return TopN(node.columns, node, tuple(keys), None, 0)


def _limit(node: Node, query: exp.Expr, environment: Environment) -> Node:
    limit = query.args.get("limit")
    offset = query.args.get("offset")
    if limit is None and offset is None:
        return node
    count_node = None
    with_ties = False
    if isinstance(limit, exp.Fetch):
        count_node = limit.args.get("count") or exp.Literal.number(1)
        options = limit.args.get("limit_options")
        with_ties = bool(limit.args.get("with_ties")) or bool(options is not None and options.args.get("with_ties"))
    elif limit is not None:
        count_node = limit.expression
    count = _constant_count(count_node, "LIMIT", environment) if count_node is not None else None
    skip = _constant_count(offset.expression, "OFFSET", environment) if offset is not None else 0
    if with_ties and skip:
        raise UnsupportedQuery("WITH TIES is not supported together with OFFSET", position=position_of(query))
    if isinstance(node, TopN) and node.limit is None:
        return TopN(node.columns, node.input, node.order_by, count, skip or 0, with_ties)
    if with_ties:
        raise SqlError("WITH TIES needs an ORDER BY", position=position_of(query), sqlstate="42601")
    return TopN(node.columns, node, (), count, skip or 0)


def _constant_count(node: exp.Expr, what: str, environment: Environment) -> int | None:
    bound = _folded(ExpressionBinder(environment, Scope(), what).bind(node))
    if not isinstance(bound, Literal):
        if environment.parameters is None and isinstance(node, (exp.Parameter, exp.Placeholder)):
            environment.parameter_types.setdefault(int(node.name), INT8)
            return None
        raise UnsupportedQuery(f"{what} must be a constant", position=position_of(node))
    if bound.value is None:
        return None
    try:
        value = int(str(bound.value))
    except ValueError:
        raise SqlError(
            f"{what} must be a whole number, not `{bound.value}`", position=position_of(node), sqlstate="22023"
        ) from None
    if value < 0:
        raise SqlError(f"{what} must not be negative", position=position_of(node), sqlstate="2201W")
    return value


def _folded(expr: Expr) -> Expr:
    """Sums and products of whole numbers, computed; casts of numbers without the cast."""
    if isinstance(expr, Cast):
        inner = _folded(expr.arg)
        return inner if isinstance(inner, Literal) else expr
    if isinstance(expr, Call) and expr.name in ("+", "-", "*") and len(expr.args) == 2:
        left, right = (_folded(arg) for arg in expr.args)
        if isinstance(left, Literal) and isinstance(right, Literal):
            if left.value is None or right.value is None:
                return Literal(INT8, None)
            if isinstance(left.value, int) and isinstance(right.value, int):
                a, b = left.value, right.value
                return Literal(INT8, {"+": a + b, "-": a - b, "*": a * b}[expr.name])
    return expr


def _excluded(star: exp.Star, columns: Iterable[ScopeColumn]) -> set[int]:
    """Indices of the columns that `* EXCEPT (...)` leaves out."""
    found: set[int] = set()
    for item in star.args.get("except_") or star.args.get("except") or []:
        table = item.table if isinstance(item, exp.Column) else ""
        named = {c.index for c in columns if c.name == item.name and table in ("", c.table)}
        if not named:
            raise UndefinedColumn(f"column `{item.name}` does not exist", position=position_of(item))
        found |= named
    return found


def _ordinal(node: exp.Expr, width: int) -> int | None:
    """`ORDER BY 2` as 1; None if it is no ordinal."""
    if not isinstance(node, exp.Literal) or node.is_string or not str(node.this).isdigit():
        return None
    ordinal = int(str(node.this))
    if not 1 <= ordinal <= width:
        raise SqlError(f"position {ordinal} is not in select list", position=position_of(node), sqlstate="42P10")
    return ordinal - 1


class _SelectBinder:
    """One SELECT."""

    def __init__(self, select: exp.Select, environment: Environment) -> None:
        self._select = select
        self._env = environment
        self._scope = Scope()
        self._binder = ExpressionBinder(environment, self._scope)

    def bind(self) -> Node:
        select = self._select
        node, self._scope = bind_from(select, self._env, bind_query_node)
        self._binder = ExpressionBinder(self._env, self._scope)
        self._binder.windows = {w.this.name: w for w in select.args.get("windows") or []}
        where = select.args.get("where")
        if where is not None:
            node = Filter(
                node.columns, node, ExpressionBinder(self._env, self._scope, "WHERE").bind_boolean(where.this, "WHERE")
            )
        outputs = self._select_list()
        groups = self._groups(outputs)
        having_node = select.args.get("having")
        having = self._binder.bind_boolean(having_node.this, "HAVING") if having_node is not None else None
        distinct = select.args.get("distinct")
        distinct_on = self._distinct_on(distinct, outputs)
        order = self._order_keys(outputs)
        exprs = [expr for _, expr in outputs] + [key.expr for key in order] + distinct_on
        node, exprs, having = self._aggregate(node, groups, exprs, having)
        if having is not None:
            node = Filter(node.columns, node, having)
        node, exprs = _extract_windows(node, exprs)
        node, exprs = extract_set_values(node, exprs)
        width = len(outputs)
        names = [name for name, _ in outputs]
        order_exprs = exprs[width : width + len(order)]
        on_exprs = exprs[width + len(order) :]
        if on_exprs:
            return self._finish_distinct_on(node, names, exprs[:width], on_exprs, order, order_exprs)
        columns = list(zip(names, exprs[:width], strict=True))
        keys: list[OrderKey] = []
        for key, expr in zip(order, order_exprs, strict=True):
            index = next((i for i, (_, e) in enumerate(columns) if e == expr), None)
            if index is None:
                if distinct is not None:
                    raise SqlError(
                        "for SELECT DISTINCT, ORDER BY expressions must appear in select list",
                        position=position_of(select),
                        sqlstate="42P10",
                    )
                index = len(columns)
                columns.append(("?order?", expr))
            keys.append(OrderKey(Column(expr.type, index), key.descending, key.nulls_first))
        node = project(node, columns)
        if distinct is not None:
            node = _distinct(node)
        if keys:
            node = TopN(node.columns, node, tuple(keys), None, 0)
        node = _limit(node, select, self._env)
        if len(columns) > width:
            node = project(node, [(n, Column(e.type, i)) for i, (n, e) in enumerate(columns[:width])])
        return node

    def _select_list(self) -> list[tuple[str, Expr]]:
        outputs: list[tuple[str, Expr]] = []
        for item in self._select.expressions:
            target = item.this if isinstance(item, exp.Alias) else item
            if isinstance(target, exp.Star):
                outputs.extend(self._star(target))
            elif isinstance(target, exp.Column) and isinstance(target.this, exp.Star):
                columns = self._scope.of_table(target.table, position_of(target))
                excluded = _excluded(target.this, columns)
                outputs.extend((c.name, Column(c.type, c.index)) for c in columns if c.index not in excluded)
            elif isinstance(target, exp.Dot) and isinstance(target.expression, exp.Star):
                struct = self._binder.bind(target.this)
                if struct.type.name != "struct":
                    raise TypeMismatch(f"type `{struct.type}` is not composite", position=position_of(target), sqlstate="42809")
                outputs.extend((name, FieldAccess(type_, struct, name)) for name, type_ in struct.type.fields)
            else:
                bound = self._binder.bind(target)
                if bound.type == UNKNOWN:
                    bound = self._binder.coerce(bound, VARCHAR)
                outputs.append((item.alias if isinstance(item, exp.Alias) else _output_name(target), bound))
        if not outputs:
            raise SqlError("SELECT needs at least one expression", position=position_of(self._select), sqlstate="42601")
        return outputs

    def _star(self, star: exp.Star) -> list[tuple[str, Expr]]:
        if not self._scope.columns:
            raise SqlError("SELECT * with no tables specified is not valid", position=position_of(star), sqlstate="42601")
        excluded = _excluded(star, self._scope.columns)
        return [
            (c.name, Column(c.type, c.index)) for c in self._scope.columns if not (c.merged or c.hidden or c.index in excluded)
        ]

    def _groups(self, outputs: list[tuple[str, Expr]]) -> list[Keys] | None:
        group = self._select.args.get("group")
        return grouping_sets(group, lambda item: self._group_key(item, outputs)) if group is not None else None

    def _group_key(self, item: exp.Expr, outputs: list[tuple[str, Expr]]) -> Expr:
        ordinal = _ordinal(item, len(outputs))
        bound = outputs[ordinal][1] if ordinal is not None else self._group_expression(item, outputs)
        if any(isinstance(e, (AggregateCall, WindowCall)) for e in walk(bound)):
            raise GroupingError("aggregate functions are not allowed in GROUP BY", position=position_of(item))
        if any(isinstance(e, SetValue) for e in walk(bound)):
            raise UnsupportedQuery(
                "set-returning functions are not allowed in GROUP BY",
                position=position_of(item),
                fix="Put the function into FROM.",
            )
        return bound

    def _group_expression(self, item: exp.Expr, outputs: list[tuple[str, Expr]]) -> Expr:
        try:
            return ExpressionBinder(self._env, self._scope, "GROUP BY").bind(item)
        except UndefinedColumn:
            # PostgreSQL: an output name counts when no input column has it.
            if isinstance(item, exp.Column) and not item.table:
                for name, expr in outputs:
                    if name == item.name:
                        return expr
            raise

    def _order_keys(self, outputs: list[tuple[str, Expr]]) -> list[OrderKey]:
        order = self._select.args.get("order")
        keys: list[OrderKey] = []
        for item in order.expressions if order is not None else []:
            target = item.this if isinstance(item, exp.Ordered) else item
            found: Expr | None = None
            ordinal = _ordinal(target, len(outputs))
            if ordinal is not None:
                found = outputs[ordinal][1]
            elif isinstance(target, exp.Column) and not target.table:
                found = next((expr for name, expr in outputs if name == target.name), None)
            if found is None:
                keys.append(self._binder.order_key(item))
            else:
                flags = self._binder.order_key(
                    exp.Ordered(this=exp.Null(), desc=item.args.get("desc"), nulls_first=item.args.get("nulls_first"))
                )
                keys.append(OrderKey(found, flags.descending, flags.nulls_first))
        return keys

    def _distinct_on(self, distinct: exp.Expr | None, outputs: list[tuple[str, Expr]]) -> list[Expr]:
        on = distinct.args.get("on") if distinct is not None else None
        if on is None:
            return []
        items = on.expressions if isinstance(on, exp.Tuple) else [on.this if isinstance(on, exp.Paren) else on]
        result = []
        for item in items:
            ordinal = _ordinal(item, len(outputs))
            result.append(outputs[ordinal][1] if ordinal is not None else self._group_expression(item, outputs))
        return result

    def _finish_distinct_on(
        self, node: Node, names: list[str], exprs: list[Expr], on: list[Expr], order: list[OrderKey], order_exprs: list[Expr]
    ) -> Node:
        keys = tuple(OrderKey(e, k.descending, k.nulls_first) for k, e in zip(order, order_exprs, strict=True))
        if any(e not in on for e in order_exprs[: len(on)]):
            raise SqlError(
                "SELECT DISTINCT ON expressions must match initial ORDER BY expressions",
                position=position_of(self._select),
                sqlstate="42P10",
            )
        call = WindowCall(INT8, "row_number", (), tuple(on), keys)
        width = len(node.columns)
        node = Over((*node.columns, OutputColumn("?rank?", INT8)), node, (call,))
        first = self._binder._call("=", [Column(INT8, width), Literal(INT8, 1)], self._select)
        node = Filter(node.columns, node, first)
        node = project(node, list(zip(names, exprs, strict=True)))
        if order:
            by_output = {expr: i for i, expr in enumerate(exprs)}
            if all(e in by_output for e in order_exprs):
                node = TopN(
                    node.columns,
                    node,
                    tuple(OrderKey(Column(k.expr.type, by_output[k.expr]), k.descending, k.nulls_first) for k in keys),
                    None,
                    0,
                )
        return _limit(node, self._select, self._env)

    def _aggregate(
        self, node: Node, sets: list[Keys] | None, exprs: list[Expr], having: Expr | None
    ) -> tuple[Node, list[Expr], Expr | None]:
        everything = exprs + ([having] if having is not None else [])
        calls = list(dict.fromkeys(e for expr in everything for e in walk(expr) if isinstance(e, AggregateCall)))
        if sets is None and not calls and having is None:
            return node, exprs, having
        sets = sets or [()]
        below = node
        groups = list(dict.fromkeys(key for keys in sets for key in keys))
        aggregate = aggregate_sets(node, sets, calls, lambda key: _group_name(below, key))
        positions: dict[Expr, int] = {expr: i for i, expr in enumerate([*groups, *calls])}

        def to_output(expr: Expr) -> Expr | None:
            index = positions.get(expr)
            if index is not None:
                return Column(expr.type, index)
            if isinstance(expr, Column):
                name = below.columns[expr.index].name
                raise GroupingError(
                    f"column `{name}` must appear in the GROUP BY clause or be used in an aggregate function",
                    position=position_of(self._select),
                    fix=f"Add `{name}` to GROUP BY, or take `max({name})`.",
                )
            return None

        return aggregate, [transform(e, to_output) for e in exprs], transform(having, to_output) if having is not None else None


def bind_query_node(query: exp.Expr, environment: Environment) -> Node:
    return bind_query(query, environment).node


def _extract_windows(node: Node, exprs: list[Expr]) -> tuple[Node, list[Expr]]:
    """Put an Over node below for each PARTITION BY that occurs."""
    calls = list(dict.fromkeys(e for expr in exprs for e in walk(expr) if isinstance(e, WindowCall)))
    if not calls:
        return node, exprs
    positions: dict[Expr, int] = {}
    by_partition: dict[tuple[Expr, ...], list[WindowCall]] = {}
    for call in calls:
        by_partition.setdefault(call.partition_by, []).append(call)
    for group in by_partition.values():
        start = len(node.columns)
        positions.update({call: start + i for i, call in enumerate(group)})
        node = Over(node.columns + tuple(OutputColumn(c.name, c.type) for c in group), node, tuple(group))
    replace: Callable[[Expr], Expr | None] = lambda e: Column(e.type, positions[e]) if e in positions else None  # noqa: E731
    return node, [transform(e, replace) for e in exprs]


def _group_name(node: Node, expr: Expr) -> str:
    return node.columns[expr.index].name if isinstance(expr, Column) else "?group?"


def _output_name(node: exp.Expr) -> str:
    """The name of an output column without AS, as PostgreSQL chooses it."""
    if isinstance(node, exp.Column):
        return node.name
    if isinstance(node, (exp.Cast, exp.Paren, exp.Filter, exp.Window)):
        return _output_name(node.this)
    if isinstance(node, exp.Dot):
        return str(node.expression.name)
    if isinstance(node, exp.Anonymous):
        return str(node.this).lower()
    if isinstance(node, exp.Case):
        return "case"
    if isinstance(node, exp.Array):
        return "array"
    return "?column?"
