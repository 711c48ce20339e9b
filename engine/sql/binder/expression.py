"""Scalar expressions: from sqlglot's tree to typed, resolved expressions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

from sqlglot import exp

from engine.catalog.objects import Function
from engine.functions import clients
from engine.functions.aggregates import is_aggregate, resolve_aggregate
from engine.functions.casts import can_cast, can_cast_implicitly, common_type
from engine.functions.json import with_known_key
from engine.functions.registry import FunctionTable
from engine.functions.scalar import build_scalar_functions
from engine.functions.windows import is_window_function, resolve_window_function
from engine.sql.binder.aggregates import extreme_argument, ordered_set_arguments
from engine.sql.binder.catalog_functions import catalog_call, special_cast
from engine.sql.binder.frames import bind_frame
from engine.sql.binder.grouping import group_key
from engine.sql.binder.lambdas import bind_lambda_call, is_lambda_call
from engine.sql.binder.maps import bind_map, map_call
from engine.sql.binder.record_functions import populated
from engine.sql.binder.scope import Closure, Environment, Scope, position_of
from engine.sql.binder.subqueries import bind_array, bind_exists, bind_in, bind_quantified, bind_scalar
from engine.sql.binder.table_functions import bind_set_value, is_set_call
from engine.sql.binder.user_functions import bind_aggregate, bind_user_call, choose
from engine.sql.binder.variadic import spread
from engine.sql.binder.zones import zoned_arguments, zoned_cast, zoned_result
from engine.sql.errors import (
    GroupingError,
    SqlError,
    TypeMismatch,
    UndefinedColumn,
    UndefinedFunction,
    UndefinedTable,
    UnsupportedQuery,
)
from engine.sql.expressions import (
    AggregateCall,
    Call,
    Case,
    Column,
    Expr,
    FieldAccess,
    LambdaParameter,
    Literal,
    OrderKey,
    Parameter,
    SetValue,
    WindowCall,
    quote_identifier,
    walk,
)
from engine.sql.intervals import parse_interval
from engine.sql.parser.calls import FunctionCall, read_call
from engine.sql.type_names import parse_type
from engine.sql.types import BOOL, FLOAT8, INT4, INT8, INTERVAL, NUMERIC, UNKNOWN, VARCHAR, SqlType, list_of, map_of, struct_of

_FUNCTIONS: FunctionTable = build_scalar_functions()
clients.declare(_FUNCTIONS)

_BINARY: dict[type[exp.Expr], str] = {
    exp.Add: "+", exp.Sub: "-", exp.Mul: "*", exp.Div: "/", exp.IntDiv: "/", exp.Mod: "%", exp.DPipe: "||", exp.Pow: "^",
    exp.EQ: "=", exp.NEQ: "<>", exp.LT: "<", exp.LTE: "<=", exp.GT: ">", exp.GTE: ">=", exp.And: "and", exp.Or: "or",
    exp.NullSafeEQ: "is not distinct from", exp.NullSafeNEQ: "is distinct from", exp.BitwiseAnd: "&", exp.BitwiseOr: "|",
    exp.BitwiseXor: "#", exp.BitwiseLeftShift: "<<", exp.BitwiseRightShift: ">>", exp.Like: "like", exp.ILike: "ilike",
    exp.RegexpLike: "~", exp.RegexpILike: "~*", exp.SimilarTo: "similar to",
}  # fmt: skip

_COMPARISONS = ("=", "<>", "<", "<=", ">", ">=", "is distinct from", "is not distinct from")
_ENCODINGS = ("hex", "base64", "escape")


def is_scalar_function(name: str) -> bool:
    return name in _FUNCTIONS


class ExpressionBinder:
    """Binds expressions of one query level.

    Args:
        environment: the statement's.
        scope: columns in sight.
        aggregates: whether aggregate and window calls may stand here; otherwise the clause's name for the error.
    """

    def __init__(self, environment: Environment, scope: Scope, forbidden_in: str | None = None) -> None:
        self._env = environment
        self._scope = scope
        self._forbidden_in = forbidden_in
        self.windows: Mapping[str, exp.Window] = {}
        self.lambda_parameters: Mapping[str, LambdaParameter] = {}

    @property
    def forbidden_in(self) -> str | None:
        """The clause in which aggregates and the like may not stand, if it is such a one."""
        return self._forbidden_in

    def bind(self, node: exp.Expr) -> Expr:
        """Bind one expression."""
        for kind, method in _METHODS.items():
            if isinstance(node, kind):
                return method(self, node)
        sign = _BINARY.get(type(node))
        if isinstance(node, exp.Escape):
            # The parser puts ESCAPE around the whole predicate.
            inner = node.this
            return self._call(
                _BINARY[type(inner)], [self.bind(e) for e in (inner.this, inner.expression, node.expression)], node
            )
        if sign in ("and", "or"):
            return self._connected(sign, node)
        if sign is not None:
            if isinstance(node.expression, (exp.Any, exp.All)):
                return bind_quantified(self, sign, node.this, node.expression, node)
            return self._call(sign, [self.bind(node.this), self.bind(node.expression)], node)
        raise UnsupportedQuery(
            f"expression `{node.sql(dialect='risingwave')}` is not supported",
            position=position_of(node),
            fix="Rewrite it with other functions, or run the statement on a RisingWave cluster.",
        )

    def _connected(self, sign: str, node: exp.Expr) -> Expr:
        """A chain of ANDs or ORs as a tree of little depth, however long it is."""
        operands: list[exp.Expr] = []
        rest = node
        while type(rest) is type(node):
            operands.append(rest.expression)
            rest = rest.this
        bound = [self.bind(operand) for operand in (rest, *reversed(operands))]
        while len(bound) > 1:
            pairs = [self._call(sign, bound[i : i + 2], node) for i in range(0, len(bound) - 1, 2)]
            bound = pairs + bound[len(pairs) * 2 :]
        return bound[0]

    def bind_boolean(self, node: exp.Expr, clause: str) -> Expr:
        bound = self.bind(node)
        if not can_cast_implicitly(bound.type, BOOL):
            raise TypeMismatch(f"argument of {clause} must be type boolean, not type {bound.type}", position=position_of(node))
        return self.coerce(bound, BOOL)

    def coerce(self, expr: Expr, target: SqlType) -> Expr:
        """Cast implicitly; the caller has checked that it may."""
        if expr.type == target:
            return expr
        if isinstance(expr, Parameter):
            self._env.parameter_types.setdefault(expr.number, target)
            return Parameter(target, expr.number)
        if isinstance(expr, Literal) and expr.type == UNKNOWN:
            if expr.value is None or target == VARCHAR:
                return Literal(target, expr.value)
            if target == INTERVAL:
                return Literal(INTERVAL, parse_interval(str(expr.value)))
            return zoned_cast(Literal(VARCHAR, expr.value), target, self._env.zone)
        if isinstance(expr, Literal) and expr.type.is_numeric and target.is_numeric and isinstance(expr.value, (int, Decimal)):
            folded = float(expr.value) if target.name.startswith("float") else expr.value
            return Literal(target, folded)
        return zoned_cast(expr, target, self._env.zone)

    def assign(self, expr: Expr, target: SqlType, column: str, position: int | None) -> Expr:
        """Cast a value to the type of the column that it is stored in.

        Raises:
            TypeMismatch: it cannot be stored there.
        """
        expr = self._retyped(expr, target)
        both_numbers = expr.type.is_numeric and target.is_numeric
        if can_cast_implicitly(expr.type, target) or both_numbers or target == VARCHAR:
            return self.coerce(expr, target)
        raise TypeMismatch(
            f"column `{column}` is of type {target} but the expression is of type {expr.type}",
            position=position,
            fix="Cast the expression.",
        )

    def _retyped(self, expr: Expr, target: SqlType) -> Expr:
        """A row, array or map of constants without a type, with the types of what it is stored in: `ROW(1, NULL)`."""
        if isinstance(expr, Literal) and expr.type == VARCHAR and target != VARCHAR:
            return self.coerce(Literal(UNKNOWN, expr.value), target)
        if not isinstance(expr, Call) or expr.type == target:
            return expr
        if expr.name == "row" and target.name == "struct" and len(target.fields) == len(expr.args):
            args = tuple(self._retyped(a, t) for a, (_, t) in zip(expr.args, target.fields, strict=True))
            type_ = struct_of(*((n, a.type) for (n, _), a in zip(expr.type.fields, args, strict=True)))
            return replace(expr, args=args, type=type_)
        if expr.name == "array" and target.element is not None and expr.args:
            args = tuple(self._retyped(a, target.element) for a in expr.args)
            return replace(expr, args=args, type=list_of(args[0].type)) if len({a.type for a in args}) == 1 else expr
        if expr.name == "map_from_key_values" and target.name == "map":
            lists = tuple(self._retyped(a, list_of(t)) for a, (_, t) in zip(expr.args, target.fields, strict=True))
            key, value = (a.type.element for a in lists)
            return replace(expr, args=lists, type=map_of(key, value)) if key is not None and value is not None else expr
        return expr

    # One method a kind of node; the table below says which.

    def _column(self, node: exp.Column) -> Expr:
        if isinstance(node.this, exp.Star):
            raise UnsupportedQuery(
                "`*` may only stand in a SELECT list or in count(*)", position=position_of(node), sqlstate="42601"
            )
        position = position_of(node)
        if not node.table and node.name in self.lambda_parameters:
            return self.lambda_parameters[node.name]
        try:
            return self._scope.find(node.name, node.table or None, position)
        except (UndefinedColumn, UndefinedTable):
            outer = self._outer_column(node, position) or self._whole_row(node)
            if outer is not None:
                return outer
            if not node.table and node.name in ("current_user", "current_database", "current_schema", "user"):
                return self._call("current_user" if node.name == "user" else node.name, [], node)
            raise

    def _outer_column(self, node: exp.Column, position: int | None) -> Expr | None:
        """The column of a query around this one, if there is one of that name."""
        if self._env.closure is None:
            return None
        try:
            return self._env.closure.find(node.name, node.table or None, position)
        except (UndefinedColumn, UndefinedTable):
            return None

    def _whole_row(self, node: exp.Column) -> Expr | None:
        """`t` in `SELECT t FROM t`: all columns of the table as one row."""
        columns = [c for c in self._scope.columns if c.table == node.name and not c.hidden]
        if node.table or not columns:
            return None
        fields = tuple((c.name, c.type) for c in columns)
        parts = ", ".join(f"{quote_identifier(name)} := {{{i}}}" for i, (name, _) in enumerate(fields))
        return Call(struct_of(*fields), "row", tuple(Column(c.type, c.index) for c in columns), f"struct_pack({parts})")

    @property
    def environment(self) -> Environment:
        return self._env

    def closure(self) -> Closure:
        """What a subquery that stands here may take from this query."""
        return Closure(self._scope, self._env.closure)

    def call(self, name: str, args: list[Expr], node: exp.Expr) -> Expr:
        """A built-in function or operator applied to bound arguments."""
        return self._call(name, args, node)

    def _literal(self, node: exp.Literal) -> Expr:
        text = str(node.this)
        if node.is_string:
            return Literal(UNKNOWN, text)
        if "e" in text.lower():
            return Literal(FLOAT8, float(text))
        if "." in text:
            return Literal(NUMERIC, Decimal(text))
        return _integer(int(text))

    def _null(self, _node: exp.Expr) -> Expr:
        return Literal(UNKNOWN, None)

    def _boolean(self, node: exp.Boolean) -> Expr:
        return Literal(BOOL, bool(node.this))

    def _paren(self, node: exp.Paren) -> Expr:
        return self.bind(node.this)

    def _neg(self, node: exp.Neg) -> Expr:
        inner = self.bind(node.this)
        if isinstance(inner, Literal) and isinstance(inner.value, (int, float, Decimal)) and not isinstance(inner.value, bool):
            value = -inner.value
            if not isinstance(value, int):
                return Literal(inner.type, value)
            if isinstance(node.this, exp.Literal):
                return _integer(value)
            limit = _INTEGER_LIMITS.get(inner.type.name)
            if limit is None or -limit <= value < limit:
                return Literal(inner.type, value)
        return self._call("neg", [inner], node)

    def _not(self, node: exp.Not) -> Expr:
        return self._call("not", [self.bind(node.this)], node)

    def _is(self, node: exp.Is) -> Expr:
        left = self.bind(node.this)
        if isinstance(node.expression, exp.Null):
            return self._call("is null", [left], node)
        if isinstance(node.expression, exp.Boolean):
            return self._call("is true" if node.expression.this else "is false", [left], node)
        if isinstance(node.expression, exp.JSON):
            return self._call("is json", [left, Literal(UNKNOWN, str(node.expression.this or "VALUE"))], node)
        return self._call("is not distinct from", [left, self.bind(node.expression)], node)

    def _between(self, node: exp.Between) -> Expr:
        value = self.bind(node.this)
        first, second = self.bind(node.args["low"]), self.bind(node.args["high"])
        ends = [(first, second), (second, first)] if node.args.get("symmetric") else [(first, second)]
        ranges = [
            self._call("and", [self._call(">=", [value, low], node), self._call("<=", [value, high], node)], node)
            for low, high in ends
        ]
        return ranges[0] if len(ranges) == 1 else self._call("or", ranges, node)

    def _in(self, node: exp.In) -> Expr:
        if node.args.get("query") is not None:
            return bind_in(self, node)
        value = self.bind(node.this)
        parts = [self._call("=", [value, self.bind(item)], node) for item in node.expressions]
        result = parts[0]
        for part in parts[1:]:
            result = self._call("or", [result, part], node)
        return result

    def _case(self, node: exp.Case) -> Expr:
        operand = node.this
        conditions: list[Expr] = []
        values: list[Expr] = []
        for branch in node.args.get("ifs") or []:
            if operand is not None:
                conditions.append(self._call("=", [self.bind(operand), self.bind(branch.this)], branch))
            else:
                conditions.append(self.bind_boolean(branch.this, "CASE/WHEN"))
            values.append(self.bind(branch.args["true"]))
        default = self.bind(node.args["default"]) if node.args.get("default") is not None else None
        all_values = [*values, default] if default is not None else values
        type_ = self._common([v for v in all_values if v is not None], node, "CASE")
        branches = tuple((c, self.coerce(v, type_)) for c, v in zip(conditions, values, strict=True))
        return Case(type_, branches, self.coerce(default, type_) if default is not None else None)

    def _cast(self, node: exp.Cast) -> Expr:
        if isinstance(node.this, exp.Array) and node.to.this == exp.DataType.Type.ARRAY and not node.this.meta.get("subquery"):
            return self._cast_elements(node.this, node)
        inner = self.bind(node.this)
        special = special_cast(str(node.to.args.get("kind") or ""), inner, self._env)
        if special is not None:
            return special
        target = parse_type(node.to)
        if isinstance(inner, Parameter):
            self._env.parameter_types.setdefault(inner.number, target)
            return Parameter(target, inner.number)
        if inner.type == UNKNOWN:
            return self.coerce(inner, target)
        if isinstance(inner, Call):
            inner = self._retyped(inner, target)
        if not can_cast(inner.type, target):
            raise TypeMismatch(f"cannot cast type `{inner.type}` to `{target}`", position=position_of(node), sqlstate="42846")
        return inner if inner.type == target else zoned_cast(inner, target, self._env.zone)

    def _cast_elements(self, array: exp.Array, node: exp.Cast) -> Expr:
        """`ARRAY['a', 2]::varchar[]` casts each element, so that they need not fit together before."""
        to = node.to.expressions[0]
        if not array.expressions:
            return Call(parse_type(node.to), "array", (), f"CAST([] AS {parse_type(node.to).duckdb})")
        items = []
        for item in array.expressions:
            cast = exp.Cast(this=item, to=to.copy())
            cast.meta.update(item.meta)
            items.append(self._cast(cast))
        return self._call("array", items, node)

    def _interval(self, node: exp.Interval) -> Expr:
        unit = node.args.get("unit")
        if not isinstance(node.this, exp.Literal):
            raise UnsupportedQuery(
                "INTERVAL needs a constant text",
                position=position_of(node),
                fix="Multiply a constant: `n * INTERVAL '1 second'`.",
            )
        return Literal(
            INTERVAL, parse_interval(str(node.this.this), unit.name if unit is not None else None, position_of(node))
        )

    def _array(self, node: exp.Array) -> Expr:
        if node.meta.get("subquery"):
            return bind_array(self, node)
        return self._call("array", [self.bind(item) for item in node.expressions], node)

    def _bracket(self, node: exp.Bracket) -> Expr:
        if isinstance(node.expressions[0], exp.Slice):
            bounds = node.expressions[0]
            low = self.bind(bounds.this) if bounds.this is not None else Literal(INT4, 1)
            high = self.bind(bounds.expression) if bounds.expression is not None else Literal(INT4, 2**31 - 1)
            return self._call("slice", [self.bind(node.this), low, high], node)
        index = self.bind(node.expressions[0])
        return self._call("subscript", [self.bind(node.this), index], node)

    def _at_time_zone(self, node: exp.AtTimeZone) -> Expr:
        return self._call("at time zone", [self.bind(node.this), self.bind(node.args["zone"])], node)

    def _dot(self, node: exp.Dot) -> Expr:
        inner = self.bind(node.this)
        if isinstance(node.expression, exp.Star):
            raise UnsupportedQuery("`(struct).*` may only stand in a SELECT list", position=position_of(node), sqlstate="42601")
        return self.field(inner, node.expression.name, position_of(node))

    def field(self, struct: Expr, name: str, position: int | None) -> Expr:
        """Access one field of a struct."""
        for field_name, type_ in struct.type.fields:
            if field_name == name:
                return FieldAccess(type_, struct, name)
        if struct.type.name != "struct":
            raise TypeMismatch(
                f"type `{struct.type}` is not composite, it has no field `{name}`", position=position, sqlstate="42809"
            )
        known = ", ".join(f"`{field_name}`" for field_name, _ in struct.type.fields)
        raise UndefinedColumn(f"field `{name}` does not exist in `{struct.type}`", position=position, fix=f"Known: {known}.")

    def _parameter(self, node: exp.Expr) -> Expr:
        number = int(node.name)
        if self._env.parameters is not None:
            if number > len(self._env.parameters):
                raise SqlError(f"there is no parameter `${number}`", position=position_of(node), sqlstate="42P02")
            value = self._env.parameters[number - 1]
            type_ = self._env.parameter_types.get(number, UNKNOWN)
            return Literal(type_, value)
        return Parameter(self._env.parameter_types.get(number, UNKNOWN), number)

    def _any_call(self, node: exp.Expr) -> Expr:
        call = read_call(node)
        assert call is not None
        if call.window is not None:
            return self._window(call, node)
        if is_aggregate(call.name):
            return self._aggregate(call, node)
        user = self._env.catalog.functions_called(call.name, self._env.database, call.schema)
        if user and not is_set_call(node):
            return self._user_function(user, call, node)
        _check_no_filter(call)
        if is_window_function(call.name):
            raise SqlError(f"window function `{call.name}` requires an OVER clause", position=call.position, sqlstate="42809")
        if call.name == "grouping":
            self._check_allowed("grouping operations", node)
            inner = ExpressionBinder(self._env, self._scope, "GROUPING")
            return AggregateCall(INT4, "grouping", tuple(inner.bind(arg) for arg in call.arguments))
        if is_set_call(node):
            return bind_set_value(self, node)
        if is_lambda_call(call):
            return bind_lambda_call(self, call, node)
        args = [self.bind(arg) for arg in call.arguments]
        if call.name == "jsonb_populate_record":
            return populated(self, call, args)
        if call.variadic:
            return self._call(*spread(call.name, args, call.position), node)
        return self._call(call.name, args, node)

    def _operator(self, node: exp.Operator) -> Expr:
        sign = str(node.args["operator"])
        return self._call(sign, [self.bind(node.this), self.bind(node.expression)], node)

    def _bitwise_not(self, node: exp.BitwiseNot) -> Expr:
        return self._call("~", [self.bind(node.this)], node)

    def _tuple(self, node: exp.Tuple) -> Expr:
        args = [self.known(self.bind(item)) for item in node.expressions]
        type_ = struct_of(*((f"f{i + 1}", arg.type) for i, arg in enumerate(args)))
        template = "struct_pack(" + ", ".join(f"f{i + 1} := {{{i}}}" for i in range(len(args))) + ")"
        return Call(type_, "row", tuple(args), template)

    def _window(self, call: FunctionCall, node: exp.Expr) -> Expr:
        self._check_allowed("window functions", node)
        assert call.window is not None
        args = [self.bind(a) for a in call.arguments if not isinstance(a, exp.Star)]
        if self._env.catalog.functions_called(call.name, self._env.database, call.schema):
            raise UnsupportedQuery(
                "users' functions cannot be used as window functions",
                position=call.position,
                fix="Aggregate with GROUP BY, and join the result.",
            )
        returns, cast_args = self._window_type(call.name, args, call.position)
        window = self._named_window(call.window)
        order_node = window.args.get("order")
        order = tuple(self.order_key(o) for o in order_node.expressions) if order_node is not None else ()
        partition = tuple(group_key(self.bind(p)) for p in window.args.get("partition_by") or [])
        condition = self.bind_boolean(call.where, "FILTER") if call.where is not None else None
        if call.distinct:
            raise UnsupportedQuery("DISTINCT is not implemented for window functions", position=call.position)
        parts = (*cast_args, *partition, *(key.expr for key in order))
        if any(isinstance(e, SetValue) for part in parts for e in walk(part)):
            raise UnsupportedQuery(
                "window functions cannot take set-returning functions",
                position=call.position,
                fix="Put the function into FROM.",
            )
        frame = bind_frame(window.args.get("spec"), order, self.bind)
        return WindowCall(returns, call.name, cast_args, partition, order, frame.text, condition, call.ignore_nulls, frame.gap)

    def _named_window(self, window: exp.Window) -> exp.Window:
        """What `OVER w` and `OVER (w ...)` mean, from the WINDOW clause."""
        base = window.args.get("alias")
        if base is None:
            return window
        found = self.windows.get(base.name)
        if found is None:
            raise SqlError(f"window `{base.name}` does not exist", position=position_of(base), sqlstate="42704")
        found = self._named_window(found)
        if window.args.get("partition_by") or (window.args.get("order") is not None and found.args.get("order") is not None):
            raise SqlError(
                f"cannot override PARTITION BY or ORDER BY of window `{base.name}`",
                position=position_of(base),
                sqlstate="42P20",
            )
        own = {k: window.args[k] for k in ("order", "spec") if window.args.get(k) is not None}
        return exp.Window(**{**{k: found.args.get(k) for k in ("partition_by", "order", "spec")}, **own})

    def _window_type(self, name: str, args: list[Expr], position: int | None) -> tuple[SqlType, tuple[Expr, ...]]:
        types = [arg.type for arg in args]
        if is_window_function(name):
            wanted, returns = resolve_window_function(name, types, position)
        elif is_aggregate(name):
            found = resolve_aggregate(name, types, position)
            wanted, returns = found.args, found.returns
        else:
            raise UndefinedFunction(f"window function `{name}` does not exist", position=position)
        return returns, tuple(self.coerce(a, t) for a, t in zip(args, wanted, strict=True))

    def order_key(self, node: exp.Expr) -> OrderKey:
        """One ORDER BY key. PostgreSQL: NULLs are larger than everything."""
        ordered = node if isinstance(node, exp.Ordered) else exp.Ordered(this=node)
        descending = bool(ordered.args.get("desc"))
        nulls_first = ordered.args.get("nulls_first")
        return OrderKey(self.bind(ordered.this), descending, descending if nulls_first is None else bool(nulls_first))

    def _aggregate(self, call: FunctionCall, node: exp.Expr) -> Expr:
        self._check_allowed("aggregate functions", node)
        inner = ExpressionBinder(self._env, self._scope, "aggregate arguments")
        order = tuple(inner.order_key(o) for o in call.order)
        bound = [inner.bind(arg) for arg in call.arguments if not isinstance(arg, exp.Star)]
        bound, order = ordered_set_arguments(call, bound, order, inner)
        if call.name.startswith("percentile") and isinstance(bound[0], Literal) and bound[0].value is None:
            # No fraction, no percentile; still an aggregate of its query.
            type_ = FLOAT8 if call.name == "percentile_cont" else bound[-1].type
            return AggregateCall(type_, "max", (Literal(type_, None),))
        condition = (
            ExpressionBinder(self._env, self._scope, "FILTER").bind_boolean(call.where, "FILTER")
            if call.where is not None
            else None
        )
        name = call.name
        if name in ("arg_min", "arg_max"):
            resolve_aggregate(name, [arg.type for arg in bound], call.position)
            bound, order, condition = extreme_argument(name, bound, order, condition, inner, node)
            name = "first_value"
        resolved = resolve_aggregate(name, [arg.type for arg in bound], call.position)
        cast_args = tuple(self.coerce(a, t) for a, t in zip(bound, resolved.args, strict=True))
        distinct = call.distinct and resolved.name not in ("min", "max", "bool_and", "bool_or")
        return AggregateCall(resolved.returns, resolved.name, cast_args, distinct, condition, order)

    def _user_function(self, candidates: list[Function], call: FunctionCall, node: exp.Expr) -> Expr:
        aggregate = any(f.form == "aggregate" for f in candidates)
        inner = ExpressionBinder(self._env, self._scope, "aggregate arguments") if aggregate else self
        args = [inner.bind(arg) for arg in call.arguments]
        function = choose(candidates, args, node)
        if function.form == "aggregate":
            self._check_allowed("aggregate functions", node)
            condition = inner.bind_boolean(call.where, "FILTER") if call.where is not None else None
            order = tuple(inner.order_key(o) for o in call.order)
            return bind_aggregate(inner, function, args, distinct=call.distinct, condition=condition, order=order)
        _check_no_filter(call)
        if function.form == "table":
            return bind_set_value(self, node)
        return bind_user_call(self, function, args, node)

    def _call(self, name: str, args: list[Expr], node: exp.Expr) -> Expr:
        if (
            name in ("encode", "decode")
            and len(args) == 2
            and isinstance(args[1], Literal)
            and str(args[1].value).lower() not in _ENCODINGS
        ):
            raise SqlError(
                f"unrecognized encoding: `{args[1].value}`",
                position=position_of(node),
                sqlstate="22023",
                fix=f"Known: {', '.join(_ENCODINGS)}.",
            )
        special = catalog_call(name, args, self._env) or map_call(self, name, args, node)
        if special is not None:
            return special
        if name in _COMPARISONS and [a.type.name for a in args] == ["struct", "struct"] and args[0].type != args[1].type:
            first = self._retyped(args[0], args[1].type)
            args = [first, self._retyped(args[1], first.type)]
        if name == "array_cat" and {a.type.element is None for a in args} == {True, False}:
            args = self._untyped_as_array(args)
        if self._env.zone != "UTC":
            args = zoned_arguments(name, args, self._env.zone)
        if name not in _FUNCTIONS:
            raise UndefinedFunction(
                f"function `{name}({', '.join(arg.type.sql for arg in args)})` does not exist",
                position=position_of(node),
                fix="See docs/reference/sql.md for the functions that are there.",
            )
        resolved = _FUNCTIONS.resolve(name, [arg.type for arg in args], position_of(node))
        cast_args = tuple(self.coerce(a, t) for a, t in zip(args, resolved.args, strict=True))
        found = with_known_key(Call(resolved.returns, name, cast_args, resolved.function.template, resolved.function.volatile))
        return found if self._env.zone == "UTC" else zoned_result(name, args, found, self._env.zone)

    def _untyped_as_array(self, args: list[Expr]) -> list[Expr]:
        """A NULL beside an array is an array."""
        type_ = next(a.type for a in args if a.type.element is not None)
        return [self.coerce(a, type_) if a.type == UNKNOWN else a for a in args]

    def known(self, expr: Expr) -> Expr:
        return self.coerce(expr, VARCHAR) if expr.type == UNKNOWN else expr

    def _common(self, exprs: list[Expr], node: exp.Expr, what: str) -> SqlType:
        type_ = common_type([e.type for e in exprs])
        if type_ is None:
            shown = ", ".join(dict.fromkeys(e.type.sql for e in exprs))
            raise TypeMismatch(f"{what} types cannot be matched: {shown}", position=position_of(node), fix="Add a cast.")
        return type_

    def _check_allowed(self, what: str, node: exp.Expr) -> None:
        if self._forbidden_in is not None:
            raise GroupingError(f"{what} are not allowed in {self._forbidden_in}", position=position_of(node))

    def _exists(self, node: exp.Exists) -> Expr:
        return bind_exists(self, node)

    def _scalar_subquery(self, node: exp.Expr) -> Expr:
        return bind_scalar(self, node)


_INTEGER_LIMITS = {"int2": 1 << 15, "int4": 1 << 31, "int8": 1 << 63}


def _check_no_filter(call: FunctionCall) -> None:
    if call.where is not None or call.within_group:
        raise SqlError(
            f"`{call.name}` is no aggregate, FILTER and WITHIN GROUP do not apply", position=call.position, sqlstate="42809"
        )


def _integer(value: int) -> Literal:
    type_ = INT4 if -(2**31) <= value < 2**31 else INT8 if -(2**63) <= value < 2**63 else NUMERIC
    return Literal(type_, value)


_METHODS: dict[type[exp.Expr] | tuple[type[exp.Expr], ...], Callable[[Any, Any], Expr]] = {
    exp.Column: ExpressionBinder._column,
    exp.Literal: ExpressionBinder._literal,
    exp.Null: ExpressionBinder._null,
    exp.Boolean: ExpressionBinder._boolean,
    (exp.Paren, exp.Collate): ExpressionBinder._paren,
    exp.Neg: ExpressionBinder._neg,
    exp.Not: ExpressionBinder._not,
    exp.Is: ExpressionBinder._is,
    exp.Between: ExpressionBinder._between,
    exp.In: ExpressionBinder._in,
    exp.Case: ExpressionBinder._case,
    exp.Cast: ExpressionBinder._cast,
    exp.Interval: ExpressionBinder._interval,
    exp.Array: ExpressionBinder._array,
    exp.Map: bind_map,
    exp.Bracket: ExpressionBinder._bracket,
    exp.AtTimeZone: ExpressionBinder._at_time_zone,
    exp.Dot: ExpressionBinder._dot,
    (exp.Parameter, exp.Placeholder): ExpressionBinder._parameter,
    (exp.Anonymous, exp.Filter, exp.Window, exp.WithinGroup, exp.IgnoreNulls, exp.RespectNulls): ExpressionBinder._any_call,
    exp.Tuple: ExpressionBinder._tuple,
    exp.Operator: ExpressionBinder._operator,
    exp.BitwiseNot: ExpressionBinder._bitwise_not,
    exp.Exists: ExpressionBinder._exists,
    (exp.Subquery, exp.Select, exp.SetOperation): ExpressionBinder._scalar_subquery,
}
