"""RisingWave's dialect for sqlglot: our grammar for reading, sqlglot's generator for writing.

`sqlglot.parse_one(sql, dialect=RisingWave)` reads a query with `engine.sql.parser`; `tree.sql(dialect=RisingWave)` writes back
what sqlglot's own RisingWave dialect loses: `FOR SYSTEM_TIME`, `AS CHANGELOG`, `CORRESPONDING`, session frames, `MAP {...}`,
lambdas, `AGGREGATE:f`, jsonb operators. Writing and reading again gives the same tree.

Source of the base: sqlglot 30, `sqlglot.dialects.risingwave`.
"""

from __future__ import annotations

from typing import Any, ClassVar

from sqlglot import exp
from sqlglot.dialects.risingwave import RisingWave as SqlglotRisingWave
from sqlglot.errors import ParseError
from sqlglot.generators.risingwave import RisingWaveGenerator

from engine.sql.parser import parse_expression, parse_query
from engine.sql.parser.keywords import NO_PARENTHESES

DType = exp.DataType.Type


def _operator(generator: RisingWaveGenerator, node: exp.Operator) -> str:
    return generator.binary(node, node.args["operator"])


def _call(generator: RisingWaveGenerator, node: exp.Anonymous) -> str:
    """A call as it can be read again; `extract` and `position` only have the form with key words."""
    arguments = node.expressions
    if node.this in NO_PARENTHESES and not arguments:
        return str(node.this).upper()
    if node.this == "extract" and len(arguments) == 2:
        return f"EXTRACT({generator.sql(arguments[0])} FROM {generator.sql(arguments[1])})"
    if node.this == "position" and len(arguments) == 2:
        return f"POSITION({generator.sql(arguments[1])} IN {generator.sql(arguments[0])})"
    name = node.this if _is_plain(node.this) else generator.sql(exp.to_identifier(node.this, quoted=True))
    prefix = "AGGREGATE:" if node.meta.get("aggregate") else ""
    schema = node.meta.get("schema")
    if schema:
        prefix += f"{schema}."
    return f"{prefix}{name}({generator.format_args(*arguments)})"


def _is_plain(name: str) -> bool:
    return name.isidentifier() and name.isascii() and name == name.lower()


def _array(generator: RisingWaveGenerator, node: exp.Array) -> str:
    if node.meta.get("subquery"):
        return f"ARRAY({generator.sql(node.expressions[0])})"
    return f"ARRAY[{generator.expressions(node, flat=True)}]"


def _tuple(generator: RisingWaveGenerator, node: exp.Tuple) -> str:
    inside_values = isinstance(node.parent, exp.Values)
    row = "" if inside_values or len(node.expressions) > 1 or isinstance(node.parent, _KEYED) else "ROW"
    return f"{row}({generator.expressions(node, flat=True)})"


_KEYED = (exp.Distinct, exp.GroupingSets, exp.Group, exp.Rollup, exp.Cube)


def _map(generator: RisingWaveGenerator, node: exp.Map) -> str:
    pairs = zip(node.args["keys"].expressions, node.args["values"].expressions, strict=True)
    return "MAP {" + ", ".join(f"{generator.sql(key)}: {generator.sql(value)}" for key, value in pairs) + "}"


def _lambda(generator: RisingWaveGenerator, node: exp.Lambda) -> str:
    return f"|{generator.expressions(node, flat=True)}| {generator.sql(node, 'this')}"


def _bracket(generator: RisingWaveGenerator, node: exp.Bracket) -> str:
    return f"{generator.sql(node, 'this')}[{generator.expressions(node, flat=True)}]"


def _slice(generator: RisingWaveGenerator, node: exp.Slice) -> str:
    return f"{generator.sql(node, 'this')}:{generator.sql(node, 'expression')}"


def _interval(generator: RisingWaveGenerator, node: exp.Interval) -> str:
    unit = node.args.get("unit")
    return f"INTERVAL {generator.sql(node, 'this')}" + (f" {generator.sql(unit)}" if unit else "")


def _frame(generator: RisingWaveGenerator, node: exp.WindowSpec) -> str:
    if node.args["kind"] != "SESSION":
        return generator.windowspec_sql(node)
    exclude = node.args.get("exclude")
    return f"SESSION WITH GAP {generator.sql(node, 'start')}" + (f" EXCLUDE {generator.sql(exclude)}" if exclude else "")


def _version(generator: RisingWaveGenerator, node: exp.Version) -> str:
    word = "SYSTEM_TIME" if node.this == "TIMESTAMP" else "SYSTEM_VERSION"
    return f"FOR {word} AS OF {generator.sql(node, 'expression')}"


def _common_table(generator: RisingWaveGenerator, node: exp.CTE) -> str:
    if not node.meta.get("changelog"):
        return generator.cte_sql(node)
    return f"{generator.sql(node, 'alias')} AS CHANGELOG FROM {generator.sql(node, 'this')}"


def _set_operation(generator: RisingWaveGenerator, node: exp.SetOperation) -> str:
    words = type(node).__name__.upper() + ("" if node.args.get("distinct") else " ALL")
    if node.args.get("by_name"):
        words += " CORRESPONDING"
        if node.args.get("on"):
            words += f" BY ({generator.expressions(node, key='on', flat=True)})"
    left, right = (generator.sql(node, side) for side in ("this", "expression"))
    # A set operation on the right was grouped by precedence (INTERSECT); one on the left needs no parentheses either.
    sql = generator.query_modifiers(node, f"{left} {words} {right}")
    return generator.prepend_ctes(node, sql)


def _not_distinct(generator: RisingWaveGenerator, node: exp.NullSafeEQ) -> str:
    return generator.binary(node, "IS NOT DISTINCT FROM")


def _distinct(generator: RisingWaveGenerator, node: exp.NullSafeNEQ) -> str:
    return generator.binary(node, "IS DISTINCT FROM")


def _is_json(_generator: RisingWaveGenerator, node: exp.JSON) -> str:
    return f"JSON {node.this}" if node.this else "JSON"


def _data_type(generator: RisingWaveGenerator, node: exp.DataType) -> str:
    match node.this:
        case DType.VARBINARY:
            return "BYTEA"
        case DType.INT256:
            return "rw_int256"
        case DType.STRUCT:
            fields = (f"{generator.sql(field, 'this')} {generator.sql(field, 'kind')}" for field in node.expressions)
            return f"STRUCT<{', '.join(fields)}>"
        case DType.USERDEFINED:
            return str(node.args["kind"])
    return generator.datatype_sql(node)


def _at_time_zone(generator: RisingWaveGenerator, node: exp.AtTimeZone) -> str:
    return f"{generator.sql(node, 'this')} AT TIME ZONE {generator.sql(node, 'zone')}"


def _any(generator: RisingWaveGenerator, node: exp.Any) -> str:
    return f"ANY({generator.sql(node, 'this')})"


def _all(generator: RisingWaveGenerator, node: exp.All) -> str:
    return f"ALL({generator.sql(node, 'this')})"


def _exists(generator: RisingWaveGenerator, node: exp.Exists) -> str:
    return f"EXISTS({generator.sql(node, 'this')})"


def _literal_cast(generator: RisingWaveGenerator, node: exp.Cast) -> str:
    return f"CAST({generator.sql(node, 'this')} AS {generator.sql(node, 'to')})"


def _between(generator: RisingWaveGenerator, node: exp.Between) -> str:
    symmetric = " SYMMETRIC" if node.args.get("symmetric") else ""
    this, low, high = (generator.sql(node, key) for key in ("this", "low", "high"))
    return f"{this} BETWEEN{symmetric} {low} AND {high}"


def _nulls(words: str) -> Any:
    return lambda generator, node: f"{generator.sql(node, 'this')} {words}"


def _plain_binary(operator: str) -> Any:
    return lambda generator, node: generator.binary(node, operator)


class RisingWave(SqlglotRisingWave):
    """The dialect class to pass to sqlglot."""

    NORMALIZE_FUNCTIONS = False

    def parse(self, sql: str, **_options: Any) -> list[exp.Expr | None]:
        """The one query of a text, or the one scalar expression."""
        return [parse_query(sql)]

    def parse_into(self, expression_type: Any, sql: str, **_options: Any) -> list[exp.Expr | None]:
        """A query or a scalar expression; other pieces of a statement are not read alone."""
        if expression_type in (exp.Query, exp.Select):
            return [parse_query(sql)]
        if expression_type in (exp.Expression, exp.Expr, exp.Condition, exp.Column):
            return [parse_expression(sql)]
        raise ParseError(f"cannot read {expression_type} alone")

    class Generator(RisingWaveGenerator):
        """Writes our trees."""

        MULTI_ARG_DISTINCT = True

        TRANSFORMS: ClassVar[dict[Any, Any]] = {
            **RisingWaveGenerator.TRANSFORMS,
            exp.All: _all,
            exp.Anonymous: _call,
            exp.Any: _any,
            exp.Array: _array,
            exp.AtTimeZone: _at_time_zone,
            exp.Between: _between,
            exp.BitwiseXor: _plain_binary("#"),
            exp.Bracket: _bracket,
            exp.CTE: _common_table,
            exp.Cast: _literal_cast,
            exp.DataType: _data_type,
            exp.Except: _set_operation,
            exp.Exists: _exists,
            exp.IgnoreNulls: _nulls("IGNORE NULLS"),
            exp.Intersect: _set_operation,
            exp.Interval: _interval,
            exp.JSON: _is_json,
            exp.Lambda: _lambda,
            exp.Map: _map,
            exp.NullSafeEQ: _not_distinct,
            exp.NullSafeNEQ: _distinct,
            exp.Operator: _operator,
            exp.Pow: _plain_binary("^"),
            exp.RegexpILike: _plain_binary("~*"),
            exp.RegexpLike: _plain_binary("~"),
            exp.RespectNulls: _nulls("RESPECT NULLS"),
            exp.Slice: _slice,
            exp.Tuple: _tuple,
            exp.Union: _set_operation,
            exp.Version: _version,
            exp.WindowSpec: _frame,
        }
