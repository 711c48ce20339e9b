"""The FROM clause: tables, views, subqueries, window table functions and joins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from sqlglot import exp

from engine.catalog.objects import Input, Relation, View
from engine.plan.algebra import Apply, Changelog, Join, JoinKind, Node, OutputColumn, Project, Scan, Values, Window
from engine.sql.binder.asof import asof_join
from engine.sql.binder.expression import ExpressionBinder, is_scalar_function
from engine.sql.binder.record_functions import is_record_function
from engine.sql.binder.scope import Closure, Environment, Scope, ScopeColumn, position_of
from engine.sql.binder.table_functions import bind_table_function, is_set_call, user_table_functions
from engine.sql.errors import InvalidDefinition, SqlError, TypeMismatch, UndefinedTable, UnsupportedQuery
from engine.sql.expressions import Column, Expr, Literal
from engine.sql.intervals import Interval
from engine.sql.statements import ObjectName
from engine.sql.types import INT2, INT4, INT8, SERIAL, TIMESTAMP, TIMESTAMPTZ

BindNode = Callable[[exp.Expr, Environment], Node]


def bind_from(select: exp.Select, environment: Environment, bind_node: BindNode) -> tuple[Node, Scope]:
    """Bind FROM with all its joins; no FROM is one row without columns."""
    from_ = select.args.get("from_") or select.args.get("from")
    if from_ is None:
        one = Values((OutputColumn("?dual?", INT4),), ((Literal(INT4, 0),),))
        return one, Scope()
    binder = _FromBinder(environment, bind_node)
    node, scope = binder.bind_item(from_.this)
    for join in select.args.get("joins") or []:
        node, scope = binder.join(node, scope, join)
    return node, scope


class _FromBinder:
    def __init__(self, environment: Environment, bind_node: BindNode) -> None:
        self._env = environment
        self._bind_node = bind_node

    def bind_item(self, item: exp.Expr) -> tuple[Node, Scope]:
        """One table, subquery or table function, with the joins in its parentheses."""
        if isinstance(item, exp.Subquery):
            node = (
                self._bind_node(item.this, self._env) if not isinstance(item.this, exp.Table) else self.bind_item(item.this)[0]
            )
            result = _aliased(node, item)
        elif isinstance(item, exp.Values):
            result = _aliased(self._bind_node(item, self._env), item)
        elif isinstance(item, exp.Table):
            result = self._table(item)
        elif isinstance(item, exp.Lateral):
            result = self._lateral(item)
        elif isinstance(item, exp.Paren):
            result = self.bind_item(item.this)
        else:
            raise UnsupportedQuery(
                f"`{item.sql(dialect='risingwave')}` in FROM is not supported yet", position=position_of(item)
            )
        node, scope = result
        for join in item.args.get("joins") or []:
            node, scope = self.join(node, scope, join)
        return node, scope

    def _lateral(self, item: exp.Lateral) -> tuple[Node, Scope]:
        if isinstance(item.this, exp.Subquery):
            return _aliased(self._bind_node(item.this.this, self._env), item)
        if self._gives_rows(item.this):
            return self._rows_of(item.this, item)
        raise UnsupportedQuery(f"LATERAL `{item.this.name}` is not supported", position=position_of(item))

    def _gives_rows(self, call: object) -> bool:
        return is_set_call(call) or bool(user_table_functions(self._env, call))

    def _rows_of(self, call: exp.Expr, item: exp.Expr) -> tuple[Node, Scope]:
        return bind_table_function(ExpressionBinder(self._env, Scope(), "functions in FROM"), call, item)

    def _table(self, item: exp.Table) -> tuple[Node, Scope]:
        if self._gives_rows(item.this):
            return self._rows_of(item.this, item)
        if isinstance(item.this, exp.Anonymous):
            return self._table_function(item, item.this)
        name = ObjectName(item.name, item.db or None, item.catalog or None, position_of(item))
        cte = self._env.ctes.get(item.name) if not item.db else None
        if cte is not None:
            outer = {k: v for k, v in self._env.ctes.items() if k != item.name}
            inside = self._env.inside(outer)
            if cte.meta.get("changelog"):
                node = _changelog(_FromBinder(inside, self._bind_node).bind_item(cte.this)[0])
            else:
                node = self._bind_node(cte.this, inside)
            alias = cte.args.get("alias")
            names = [c.name for c in alias.args.get("columns") or []] if alias is not None else []
            return _aliased(_renamed(node, names, position_of(item)), item, default=item.name)
        found = self._env.catalog.find(name, self._env.database)
        if found is None:
            found = self._env.catalog.must_find(name, self._env.database)
        self._env.used[found.id] = None
        if isinstance(found, View):
            node = self._bind_node(_query_of(found), self._env.of_view(found))
            return _aliased(_renamed(node, list(found.columns), None), item, default=found.name)
        if not isinstance(found, Relation):
            raise UndefinedTable(
                f"`{found.name}` is a {found.kind}, one cannot select from it", position=name.position, sqlstate="42809"
            )
        node, scope = _aliased(self._scan(found), item, default=found.name)
        row_id = shown_row_id(found)
        return node, Scope(tuple(replace(c, hidden=c.hidden or c.index == row_id) for c in scope.columns))

    def _scan(self, found: Relation) -> Node:
        """All columns that the relation shows; a view that was created before some of them sees those it knew."""
        columns = tuple(OutputColumn(c.name, c.type) for c in found.visible)
        scan = Scan(columns, found.id, found.name, _unique(found))
        known = self._env.known_columns.get(found.id)
        if known is None or known == found.shape:
            return scan
        names = dict(known)
        kept = [(i, p) for i, (p, _) in enumerate(found.shape) if p in names]
        columns = tuple(OutputColumn(names[p], scan.columns[i].type) for i, p in kept)
        return Project(columns, scan, tuple(Column(scan.columns[i].type, i) for i, _ in kept))

    def _table_function(self, item: exp.Table, call: exp.Anonymous) -> tuple[Node, Scope]:
        name = str(call.this).upper()
        if name not in ("TUMBLE", "HOP"):
            return self._row_of(call, item)
        wanted = {"TUMBLE": (3, 4), "HOP": (4, 5)}[name]
        if not wanted[0] <= len(call.expressions) <= wanted[1]:
            raise SqlError(
                f"{name} takes a table, a time column and {wanted[0] - 2} interval(s)",
                position=position_of(call),
                sqlstate="42883",
            )
        node, scope = self._table_argument(call.expressions[0])
        time = ExpressionBinder(self._env, scope, name).bind(call.expressions[1])
        if not isinstance(time, Column) or time.type not in (TIMESTAMP, TIMESTAMPTZ):
            raise TypeMismatch(
                f"the second argument of {name} must be a timestamp column, not {time.type}",
                position=position_of(call.expressions[1]),
            )
        for reserved in ("window_start", "window_end"):
            if scope.has(reserved):
                raise InvalidDefinition(
                    f"{name} would add a second column `{reserved}`",
                    position=position_of(call),
                    fix=f"Rename `{reserved}` of the input in a subquery.",
                    sqlstate="42701",
                )
        spans = [self._fixed_interval(arg, scope, name) for arg in call.expressions[2:]]
        slide = spans[0]
        size = spans[1] if name == "HOP" else spans[0]
        offset = spans[-1] if len(call.expressions) == wanted[1] else 0
        if slide <= 0 or size <= 0 or size % slide:
            raise SqlError(
                f"{name} needs positive intervals, the size a multiple of the slide",
                position=position_of(call),
                sqlstate="22023",
            )
        columns = (*node.columns, OutputColumn("window_start", time.type), OutputColumn("window_end", time.type))
        return _aliased(
            Window(columns, node, time.index, slide, size, offset % slide), item, default=_table_of(scope) or name.lower()
        )

    def _row_of(self, call: exp.Anonymous, item: exp.Table) -> tuple[Node, Scope]:
        """A scalar function in FROM: one row."""
        name = str(call.this).lower()
        known = is_scalar_function(name) or is_record_function(name) or name in self._env.constants
        if not known and not self._env.catalog.functions_called(name, self._env.database, call.meta.get("schema")):
            raise UnsupportedQuery(f"table function `{name}` is not supported yet", position=position_of(call))
        return self._rows_of(call, item)

    def _table_argument(self, argument: exp.Expr) -> tuple[Node, Scope]:
        if isinstance(argument, exp.Column):
            table = exp.Table(this=argument.this, db=argument.args.get("table"))
            table.meta.update(argument.meta)
            return self.bind_item(table)
        if isinstance(argument, (exp.Identifier, exp.Var)):
            return self.bind_item(exp.Table(this=argument))
        return self.bind_item(argument)

    def _fixed_interval(self, node: exp.Expr, scope: Scope, name: str) -> int:
        bound = ExpressionBinder(self._env, scope, name).bind(node)
        value = bound.value if isinstance(bound, Literal) else None
        if not isinstance(value, Interval) or value.fixed_us is None:
            raise SqlError(
                f"{name} needs a constant interval without months",
                position=position_of(node),
                sqlstate="22023",
                fix="For example `INTERVAL '10 seconds'`.",
            )
        return value.fixed_us

    def join(self, left: Node, left_scope: Scope, join: exp.Join) -> tuple[Node, Scope]:
        """`left JOIN right ...`."""
        closure = Closure(left_scope, self._env.closure)
        beside = self
        if isinstance(join.this, exp.Lateral) or self._gives_rows(join.this.this):
            beside = _FromBinder(self._env.of_subquery(closure), self._bind_node)
        right, right_scope = beside.bind_item(join.this)
        _check_names(left_scope, right_scope, join)
        temporal = join.this.args.get("version") is not None
        kind = _join_kind(join)
        scope = left_scope.beside(right_scope)
        using = [c.name for c in join.args.get("using") or []]
        if str(join.args.get("method") or "").upper() == "NATURAL":
            using = [c.name for c in left_scope.columns if not (c.merged or c.hidden) and right_scope.has(c.name)]
        condition: Expr | None = None
        binder = ExpressionBinder(self._env, scope, "JOIN conditions")
        pairs = [(left_scope.find(n, None, position_of(join)), right_scope.find(n, None, position_of(join))) for n in using]
        if using:
            condition = _using_condition(pairs, left_scope.width, binder, join)
        elif join.args.get("on") is not None:
            condition = binder.bind_boolean(join.args["on"], "JOIN/ON")
        elif kind != "inner":
            raise SqlError(f"a {kind} join needs ON or USING", position=position_of(join), sqlstate="42601")
        if str(join.args.get("method") or "").upper() == "ASOF":
            return asof_join(kind, left, right, condition, join), scope
        if closure.args:
            return self._apply(kind, left, right, closure, condition, join), scope
        if temporal:
            self._check_temporal(kind, right, join)
        node = Join(left.columns + right.columns, kind, left, right, condition, temporal)
        return _merged(node, using, pairs, scope, binder, join) if using else (node, scope)

    def _apply(self, kind: JoinKind, left: Node, right: Node, closure: Closure, condition: Expr | None, join: exp.Join) -> Node:
        if kind not in ("inner", "left") or join.args.get("using") or join.args.get("method"):
            raise SqlError(
                "LATERAL that refers to what stands before it is an inner or a left join with ON",
                position=position_of(join),
                sqlstate="42P10",
            )
        columns = left.columns + right.columns
        return Apply(columns, "inner" if kind == "inner" else "left", left, right, tuple(closure.args), condition)

    def _check_temporal(self, kind: JoinKind, right: Node, join: exp.Join) -> None:
        position = position_of(join)
        if kind not in ("inner", "left"):
            raise UnsupportedQuery(
                "a temporal join is an inner or a left join",
                position=position,
                fix="Write `LEFT JOIN ... FOR SYSTEM_TIME AS OF PROCTIME()`.",
            )
        relation = self._env.catalog.get(right.relation) if isinstance(right, Scan) else None
        if relation is None or (isinstance(relation, Input) and relation.kind == "source"):
            raise UnsupportedQuery(
                "the right side of a temporal join must be a table, an index or a materialized view",
                position=position,
                fix="Create a materialized view of it first.",
            )


def _check_names(left: Scope, right: Scope, join: exp.Join) -> None:
    """Two tables of one name need an alias, unless the schema tells them apart."""
    names = {c.table for c in left.columns if c.table} & {c.table for c in right.columns if c.table}
    if names and not join.this.args.get("db"):
        name = sorted(names)[0]
        raise SqlError(
            f"table name `{name}` specified more than once",
            position=position_of(join.this),
            sqlstate="42712",
            fix="Give one of them an alias.",
        )


def shown_row_id(relation: Relation) -> int | None:
    """The position of the row id among the columns of a table that shows it, see `with_row_ids`."""
    if not isinstance(relation, Input) or relation.primary_key or len(relation.key) != 1:
        return None
    (key,) = relation.key
    shown = [i for i, c in enumerate(relation.columns) if not c.hidden]
    return shown.index(key) if key in shown and relation.columns[key].type == SERIAL else None


def with_row_ids(query: exp.Expr, environment: Environment) -> Environment:
    """The environment of a query that names `_row_id`: tables without a primary key have that column, though not in `*`."""
    if not any(column.name == "_row_id" for column in query.find_all(exp.Column)):
        return environment
    shown = []
    for found in environment.catalog.in_database(environment.database):
        if isinstance(found, Input) and found.kind == "table" and not found.primary_key and not found.has_connector:
            columns = (replace(c, hidden=False, type=SERIAL) if i in found.key else c for i, c in enumerate(found.columns))
            shown.append(replace(found, columns=tuple(columns)))
    return replace(environment, catalog=environment.catalog.with_objects(shown))


def _query_of(view: View) -> exp.Expr:
    """The query of a stored `CREATE VIEW`."""
    from engine.sql.parser import parse
    from engine.sql.statements import CreateView

    (statement,) = parse(view.sql)
    assert isinstance(statement, CreateView)
    return statement.query


def _using_condition(pairs: list[tuple[Column, Column]], by: int, binder: ExpressionBinder, join: exp.Join) -> Expr:
    condition: Expr | None = None
    for left, right in pairs:
        equal = binder._call("=", [left, Column(right.type, right.index + by)], join)
        condition = equal if condition is None else binder._call("and", [condition, equal], join)
    assert condition is not None
    return condition


def _merged(
    node: Join, names: list[str], pairs: list[tuple[Column, Column]], scope: Scope, binder: ExpressionBinder, join: exp.Join
) -> tuple[Node, Scope]:
    """The columns of USING stand in front, once each, with the value of the side that is always there.

    Source: PostgreSQL documentation, "Joined Tables".
    """
    by = len(node.left.columns)
    merged: list[ScopeColumn] = []
    added: list[Expr] = []
    for name, (left, found) in zip(names, pairs, strict=True):
        right = Column(found.type, found.index + by)
        if node.kind != "full" and left.type == right.type:
            merged.append(ScopeColumn(None, name, left.type, (right if node.kind == "right" else left).index))
            continue
        value = binder._call("coalesce", [right, left] if node.kind == "right" else [left, right], join)
        merged.append(ScopeColumn(None, name, value.type, len(node.columns) + len(added)))
        added.append(value)
    gone = {left.index for left, _ in pairs} | {right.index + by for _, right in pairs}
    others = (replace(c, merged=c.merged or c.index in gone) for c in scope.columns)
    result: Node = node
    if added:
        columns = (*node.columns, *(OutputColumn("?using?", e.type) for e in added))
        result = Project(columns, node, (*(Column(c.type, i) for i, c in enumerate(node.columns)), *added))
    return result, Scope((*merged, *others))


def _table_of(scope: Scope) -> str | None:
    """The one table that all columns are of; its name stays in sight behind TUMBLE and HOP."""
    tables = {c.table for c in scope.columns}
    return tables.pop() if len(tables) == 1 else None


def _changelog(node: Node) -> Node:
    added = (OutputColumn("changelog_op", INT2), OutputColumn("_changelog_row_id", INT8))
    return Changelog(node.columns + added, node)


def _unique(relation: Relation) -> tuple[int, ...]:
    """Positions of the key among the visible columns; nothing where a part of it is hidden."""
    visible = [i for i, c in enumerate(relation.columns) if not c.hidden]
    return tuple(visible.index(k) for k in relation.key) if all(k in visible for k in relation.key) else ()


def _join_kind(join: exp.Join) -> JoinKind:
    side = (join.side or "").upper()
    kind = (join.kind or "").upper()
    if side in ("LEFT", "RIGHT", "FULL") and kind in ("", "OUTER"):
        return {"LEFT": "left", "RIGHT": "right", "FULL": "full"}[side]  # type: ignore[return-value]
    if not side and kind in ("", "INNER", "CROSS"):
        return "inner"
    raise UnsupportedQuery(f"`{side} {kind} JOIN` is not supported", position=position_of(join))


def _renamed(node: Node, names: list[str], position: int | None) -> Node:
    if not names:
        return node
    if len(names) > len(node.columns):
        raise SqlError(f"{len(names)} column names for {len(node.columns)} columns", position=position, sqlstate="42P10")
    full = names + [c.name for c in node.columns[len(names) :]]
    columns = tuple(OutputColumn(name, c.type) for name, c in zip(full, node.columns, strict=True))
    return Project(columns, node, tuple(Column(c.type, i) for i, c in enumerate(node.columns)))


def _aliased(node: Node, item: exp.Expr, default: str | None = None) -> tuple[Node, Scope]:
    alias = item.args.get("alias")
    table = default
    if alias is not None:
        table = alias.name or default
        node = _renamed(node, [c.name for c in alias.args.get("columns") or []], position_of(item))
    return node, Scope(tuple(ScopeColumn(table, c.name, c.type, i) for i, c in enumerate(node.columns)))
