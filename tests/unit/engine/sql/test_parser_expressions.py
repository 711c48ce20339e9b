"""Operator precedence and the shape of every kind of expression, as small trees in prefix form."""

from __future__ import annotations

from typing import Any

import pytest
from sqlglot import exp

from engine.sql.dialect import RisingWave
from engine.sql.parser import parse_expression, parse_query, read_call


def shape(node: Any) -> str:
    """A tree in prefix form: `(Add a (Mul b 2))`; columns, literals and calls are written plainly."""
    match node:
        case exp.Column():
            return ".".join(part.name for part in node.parts)
        case exp.Literal():
            return repr(node.this) if node.is_string else node.this
        case exp.Anonymous():
            return f"{node.this}({' '.join(shape(argument) for argument in node.expressions)})"
        case exp.Identifier() | exp.Var():
            return node.name
        case exp.DataType():
            return node.sql(dialect=RisingWave)
        case exp.Expression():
            parts = []
            for value in node.args.values():
                if isinstance(value, list):
                    parts += [shape(item) for item in value]
                elif value is not None:
                    parts.append(shape(value))
            return f"({type(node).__name__}{''.join(' ' + part for part in parts)})"
    return str(node)


PRECEDENCE = [
    ("a or b and c", "(Or a (And b c))"),
    ("not a and b", "(And (Not a) b)"),
    ("not a = b", "(Not (EQ a b))"),
    ("a = b is null", "(Is (EQ a b) (Null))"),
    ("a < b and c >= d", "(And (LT a b) (GTE c d))"),
    ("a = b like c", "(EQ a (Like b c))"),
    ("a like b || c", "(Like a (DPipe b c))"),
    ("a || b = c || d", "(EQ (DPipe a b) (DPipe c d))"),
    ("a || b + c", "(DPipe a (Add b c))"),
    ("a -> 'b' = 'c'", "(EQ (Operator a -> 'b') 'c')"),
    ("a -> 'b' ->> 'c'", "(Operator (Operator a -> 'b') ->> 'c')"),
    ("a - b - c", "(Sub (Sub a b) c)"),
    ("a + b * c % d", "(Add a (Mod (Mul b c) d))"),
    ("a * b ^ c", "(Mul a (Pow b c))"),
    ("-a ^ b", "(Pow (Neg a) b)"),
    ("-a::int", "(Neg (Cast a INT))"),
    ("-a[1]", "(Neg (Bracket a 1))"),
    ("a at time zone b at time zone c", "(AtTimeZone (AtTimeZone a b) c)"),
    ("a + b at time zone c", "(Add a (AtTimeZone b c))"),
    ("a between b and c and d", "(And (Between a b c) d)"),
    ("a between b + 1 and c * 2", "(Between a (Add b 1) (Mul c 2))"),
    ("a not between b and c", "(Not (Between a b c))"),
    ("a is distinct from b and c", "(And (NullSafeNEQ a b) c)"),
    ("a is not distinct from b = c", "(NullSafeEQ a (EQ b c))"),
    ("a not in (1, 2) or b", "(Or (Not (In a 1 2)) b)"),
    ("a & b | c << 1", "(BitwiseLeftShift (BitwiseOr (BitwiseAnd a b) c) 1)"),
    ("~ a & b", "(BitwiseAnd (BitwiseNot a) b)"),
    ("a::int::text", "(Cast (Cast a INT) TEXT)"),
    ("(a, b) = (1, 2)", "(EQ (Tuple a b) (Tuple 1 2))"),
    ("a not like b escape '!'", "(Not (Escape (Like a b) '!'))"),
    ("a <> all (b)", "(NEQ a (All b))"),
    ("a = any (select 1)", "(EQ a (Any (Select 1)))"),
]


@pytest.mark.parametrize(("text", "expected"), PRECEDENCE)
def test_operators_bind_as_in_postgresql(text: str, expected: str) -> None:
    assert shape(parse_expression(text)) == expected


SHAPES = [
    ("1_000.5e3", "1000.5e3"),
    ("0xFF", "255"),
    ("0b101", "5"),
    ("E'a\\tb\\'c\\x41\\101\\u00e9'", repr("a\tb'cAAé")),
    ("E'\\xc3\\xa9'", "'é'"),
    ("'a'\n  'b'", "'ab'"),
    ("'it''s'", repr("it's")),
    ("$$it's$$", repr("it's")),
    ("$tag$a $$ b$tag$", "'a $$ b'"),
    ("U&'d\\0061t\\+000061'", "'data'"),
    ("date '2020-01-01'", "(Cast '2020-01-01' DATE)"),
    ("timestamp with time zone 'x'", "(Cast 'x' TIMESTAMPTZ)"),
    ("double precision '1'", "(Cast '1' DOUBLE PRECISION)"),
    ("jsonb '{}'", "(Cast '{}' JSONB)"),
    ("interval '1 day'", "(Interval '1 day')"),
    ("interval '1' day", "(Interval '1' DAY)"),
    ("interval '1-2' year to month", "(Interval '1-2' YEAR TO MONTH)"),
    ("array[1, a]", "(Array 1 a)"),
    ("array(select 1)", "(Array (Select 1))"),
    ("array[]::struct<a int, b varchar[]>[]", "(Cast (Array) STRUCT<a INT, b VARCHAR[]>[])"),
    ("row(1, 'a')", "(Tuple 1 'a')"),
    ("row()", "(Tuple)"),
    ("map {'a': 1}", "(Map (Array 'a') (Array 1))"),
    ("a[1]", "(Bracket a 1)"),
    ("a[1:2]", "(Bracket a (Slice 1 2))"),
    ("a[:2]", "(Bracket a (Slice 2))"),
    ("(a).b.c", "(Dot (Dot (Paren a) b) c)"),
    ("(f(x)).*", "(Dot (Paren f(x)) (Star))"),
    ("t.a", "t.a"),
    ("$1 + 1", "(Add (Parameter 1) 1)"),
    ("exists (select 1)", "(Exists (Select 1))"),
    ("(select 1)", "(Subquery (Select 1))"),
    ("(((select 1)))", "(Subquery (Select 1))"),
    ("((select 1) + 1)", "(Paren (Add (Subquery (Select 1)) 1))"),
    ("case when a then 1 else 2 end", "(Case (If a 1) 2)"),
    ("case a when 1 then 2 end", "(Case a (If 1 2))"),
    ("a is not null", "(Not (Is a (Null)))"),
    ("a is unknown", "(Is a (Null))"),
    ("a is not true", "(Not (Is a (Boolean True)))"),
    ("a is json array", "(Is a (JSON ARRAY))"),
    ("a isnull", "(Is a (Null))"),
    ("a !~ b", "(Not (RegexpLike a b))"),
    ("a ~~* b", "(ILike a b)"),
    ("a similar to b", "(SimilarTo a b)"),
    ("a operator(pg_catalog.+) b", "(Add a b)"),
    ("a ?| array['x']", "(Operator a ?| (Array 'x'))"),
    ("a #>> '{x}'", "(Operator a #>> '{x}')"),
    ('"Group" = a', "(EQ Group a)"),
]


@pytest.mark.parametrize(("text", "expected"), SHAPES)
def test_every_kind_of_expression_has_its_documented_node(text: str, expected: str) -> None:
    assert shape(parse_expression(text)) == expected


CALLS = [
    ("ABS(x)", "abs(x)"),
    ("count(*)", "count((Star))"),
    ("coalesce(a, b)", "coalesce(a b)"),
    ("current_date", "current_date()"),
    ("extract(epoch from x)", "extract('epoch' x)"),
    ("trim(x)", "trim(x)"),
    ("trim(both 'a' from x)", "trim(x 'a')"),
    ("trim(from x)", "trim(x)"),
    ("trim(leading from x)", "ltrim(x)"),
    ("trim(trailing 'a' from x)", "rtrim(x 'a')"),
    ("substring(x from 2 for 3)", "substring(x 2 3)"),
    ("substring(x for 3)", "substring(x 1 3)"),
    ("position('a' in x)", "position(x 'a')"),
    ("overlay(x placing y from 1 for 2)", "overlay(x y 1 2)"),
    ("left(x, 1)", "left(x 1)"),
    ("|/ x", "sqrt(x)"),
    ("@ x", "abs(x)"),
    ("array_transform(a, |x| x * 2)", "array_transform(a (Lambda (Mul x 2) x))"),
    ("f(a => 1)", "f((Kwarg a 1))"),
    ("to_timestamp(1)", "to_timestamp(1)"),
    ("date_trunc('day', x)", "date_trunc('day' x)"),
]


@pytest.mark.parametrize(("text", "expected"), CALLS)
def test_every_function_is_a_plain_call(text: str, expected: str) -> None:
    assert shape(parse_expression(text)) == expected


def test_a_call_is_taken_apart_with_all_its_clauses() -> None:
    text = "string_agg(distinct a, ',' order by b desc) filter (where c > 1) over (partition by d order by e rows 2 preceding)"
    call = read_call(parse_expression(text))
    assert call is not None
    assert (call.name, call.distinct, len(call.arguments)) == ("string_agg", True, 2)
    assert [(item.this.name, item.args["desc"], item.args["nulls_first"]) for item in call.order] == [("b", True, True)]
    assert call.where is not None
    assert shape(call.where) == "(GT c 1)"
    assert call.window is not None
    spec = call.window.args["spec"]
    assert (spec.args["kind"], shape(spec.args["start"]), spec.args["start_side"], spec.args["end"]) == (
        "ROWS",
        "2",
        "PRECEDING",
        "CURRENT ROW",
    )


def test_within_group_ignore_nulls_session_frames_and_aggregate_prefix_are_kept() -> None:
    percentile = read_call(parse_expression("percentile_cont(0.5) within group (order by x)"))
    assert percentile is not None
    assert [item.this.name for item in percentile.within_group] == ["x"]
    first = read_call(parse_expression("first_value(x) ignore nulls over w"))
    assert first is not None
    assert first.ignore_nulls
    assert first.window is not None
    assert first.window.args["alias"].name == "w"
    session = read_call(parse_expression("sum(x) over (partition by a order by b session with gap interval '1 minute')"))
    assert session is not None
    assert session.window is not None
    frame = session.window.args["spec"]
    assert (frame.args["kind"], frame.args["start_side"]) == ("SESSION", "GAP")
    assert isinstance(frame.args["start"], exp.Interval)
    folded = read_call(parse_expression("aggregate:array_sum(v) filter (where v > 0)"))
    assert folded is not None
    assert (folded.name, folded.as_aggregate) == ("array_sum", True)
    named = read_call(parse_expression("pg_catalog.f(a, b => 2, variadic c)"))
    assert named is not None
    assert (named.schema, named.names, named.variadic) == ("pg_catalog", (None, "b", None), True)
    assert read_call(parse_expression("a + 1")) is None


def test_places_are_characters_of_the_whole_text_counted_from_one() -> None:
    query = parse_query("SELECT 'ü', F(b.x) + c::int FROM b")
    _, addition = query.expressions
    assert addition.meta["position"] == 20
    assert addition.this.meta["position"] == 13
    assert addition.this.expressions[0].meta["position"] == 15
    assert addition.expression.meta["position"] == 23
    assert addition.expression.args["to"].meta["position"] == 25
    assert query.args["from_"].this.meta["position"] == 34


def test_unquoted_names_are_folded_and_quoted_ones_are_not() -> None:
    column = parse_expression('MyTable."MyColumn"')
    assert isinstance(column, exp.Column)
    assert (column.table, column.name) == ("mytable", "MyColumn")
    assert column.this.args["quoted"] is True
    assert column.args["table"].args["quoted"] is False
