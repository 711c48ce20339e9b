"""The scalar functions and operators, one line an overload.

Operators are functions named by their sign. A template is DuckDB SQL; DuckDB and PostgreSQL agree unless the template shows
otherwise. Source: RisingWave documentation, "SQL functions and operators"; PostgreSQL documentation, chapter 9.
"""

from __future__ import annotations

from engine.functions import numerics
from engine.functions.registry import FunctionTable

_NUMBERS = ("int2", "int4", "int8", "float4", "float8")
_INTEGERS = ("int2", "int4", "int8")
_ORDERED = (*_NUMBERS, "varchar", "bool", "bytea", "date", "time", "timestamp", "timestamptz", "interval")


def build_scalar_functions() -> FunctionTable:
    table = FunctionTable()
    numerics.declare(table)
    for add_family in (_arithmetic, _comparison, _strings, _mathematics, _times, _json, _arrays, _conditional, _binary):
        add_family(table)
    return table


def _arithmetic(t: FunctionTable) -> None:
    for number in _NUMBERS:
        cast = {"int2": "SMALLINT", "int4": "INTEGER", "int8": "BIGINT", "float4": "FLOAT", "float8": "DOUBLE"}.get(number)
        for sign in ("+", "-"):
            t.add(sign, f"{number}, {number} -> {number}", f"({{0}} {sign} {{1}})")
        t.add("*", f"{number}, {number} -> {number}", "({0} * {1})")
        quotient = f"CAST({{0}} // {{1}} AS {cast})" if number in _INTEGERS else "({0} / nullif({1}, 0))"
        t.add("/", f"{number}, {number} -> {number}", quotient)
        t.add("%", f"{number}, {number} -> {number}", "({0} % {1})")
        t.add("neg", f"{number} -> {number}", "(-{0})")
        t.add("abs", f"{number} -> {number}", "abs({0})")
    for number in _INTEGERS:
        for sign, template in (
            ("&", "({0} & {1})"),
            ("|", "({0} | {1})"),
            ("#", "xor({0}, {1})"),
            ("<<", "({0} << {1})"),
            (">>", "({0} >> {1})"),
        ):
            t.add(sign, f"{number}, {number} -> {number}", template)
        t.add("~", f"{number} -> {number}", "(~{0})")
    t.add("^", "float8, float8 -> float8", "pow({0}, {1})")


def _comparison(t: FunctionTable) -> None:
    for sign in ("=", "<>", "<", "<=", ">", ">="):
        for type_ in _NUMBERS:
            t.add(sign, f"{type_}, {type_} -> bool", f"({{0}} {sign} {{1}})")
        for type_ in ("varchar", "bool", "bytea", "date", "time", "timestamp", "timestamptz", "interval", "jsonb", "anyarray"):
            t.add(sign, f"{type_}, {type_} -> bool", f"({{0}} {sign} {{1}})")
        t.add(sign, "anyelement, anyelement -> bool", f"({{0}} {sign} {{1}})")
    t.add("and", "bool, bool -> bool", "({0} AND {1})")
    t.add("or", "bool, bool -> bool", "({0} OR {1})")
    t.add("not", "bool -> bool", "(NOT {0})")
    t.add("is null", "any -> bool", "({0} IS NULL)")
    t.add("is distinct from", "anyelement, anyelement -> bool", "({0} IS DISTINCT FROM {1})")
    t.add("is not distinct from", "anyelement, anyelement -> bool", "({0} IS NOT DISTINCT FROM {1})")
    t.add("is true", "bool -> bool", "({0} IS TRUE)")
    t.add("is false", "bool -> bool", "({0} IS FALSE)")


def _strings(t: FunctionTable) -> None:
    t.add("||", "varchar, varchar -> varchar", "({0} || {1})")
    t.add("||", "bytea, bytea -> bytea", "({0} || {1})")
    t.add("||", "anyarray, anyarray -> anyarray", "list_concat({0}, {1})")
    for name in ("lower", "upper", "reverse", "md5"):
        t.add(name, "varchar -> varchar", f"{name}({{0}})")
    t.add("md5", "bytea -> varchar", "md5({0})")
    t.add("sha256", "bytea -> bytea", "unhex(sha256({0}))")
    for name in ("length", "char_length", "character_length"):
        t.add(name, "varchar -> int4", "CAST(length({0}) AS INTEGER)")
    t.add("octet_length", "varchar -> int4", "CAST(strlen({0}) AS INTEGER)")
    for name in ("substr", "substring"):
        t.add(name, "varchar, int4 -> varchar", "substr({0}, {1})")
        t.add(name, "varchar, int4, int4 -> varchar", "substr({0}, {1}, {2})")
    t.add("replace", "varchar, varchar, varchar -> varchar", "replace({0}, {1}, {2})")
    t.add("split_part", "varchar, varchar, int4 -> varchar", "split_part({0}, {1}, {2})")
    t.add("position", "varchar, varchar -> int4", "CAST(strpos({0}, {1}) AS INTEGER)")
    t.add("strpos", "varchar, varchar -> int4", "CAST(strpos({0}, {1}) AS INTEGER)")
    t.add("starts_with", "varchar, varchar -> bool", "starts_with({0}, {1})")
    t.add("concat", "any... -> varchar", "concat({*})")
    t.add("concat_ws", "varchar, any... -> varchar", "concat_ws({*})")
    for name in ("trim", "ltrim", "rtrim"):
        t.add(name, "varchar -> varchar", f"{name}({{0}}, ' ')")
        t.add(name, "varchar, varchar -> varchar", f"{name}({{0}}, {{1}})")
    t.add("btrim", "varchar -> varchar", "trim({0}, ' ')")
    t.add("lpad", "varchar, int4, varchar -> varchar", "lpad({0}, {1}, {2})")
    t.add("rpad", "varchar, int4, varchar -> varchar", "rpad({0}, {1}, {2})")
    t.add("left", "varchar, int4 -> varchar", "left({0}, {1})")
    t.add("right", "varchar, int4 -> varchar", "right({0}, {1})")
    t.add("repeat", "varchar, int4 -> varchar", "repeat({0}, {1})")
    t.add("like", "varchar, varchar -> bool", "({0} LIKE {1} ESCAPE '\\')")
    t.add("ilike", "varchar, varchar -> bool", "({0} ILIKE {1} ESCAPE '\\')")
    t.add("regexp_replace", "varchar, varchar, varchar -> varchar", "regexp_replace({0}, {1}, {2})")
    t.add("regexp_replace", "varchar, varchar, varchar, varchar -> varchar", "regexp_replace({0}, {1}, {2}, {3})")
    t.add("~", "varchar, varchar -> bool", "regexp_matches({0}, {1})")
    t.add("to_hex", "int8 -> varchar", "lower(printf('%x', {0}))")
    t.add("chr", "int4 -> varchar", "chr({0})")
    t.add("ascii", "varchar -> int4", "ascii({0})")


def _mathematics(t: FunctionTable) -> None:
    for name in ("sqrt", "exp", "ln", "log10", "sin", "cos", "tan", "asin", "acos", "atan", "degrees", "radians", "cbrt"):
        t.add(name, "float8 -> float8", f"{name}({{0}})")
    for name in ("floor", "ceil", "trunc"):
        t.add(name, "float8 -> float8", f"{name}({{0}})")
    t.add("ceiling", "float8 -> float8", "ceil({0})")
    t.add("log", "float8 -> float8", "log10({0})")
    t.add("sign", "float8 -> float8", "CAST(sign({0}) AS DOUBLE)")
    t.add("round", "float8 -> float8", "round_even({0}, 0)")
    for name in ("pow", "power", "atan2"):
        t.add(name, "float8, float8 -> float8", f"{name if name != 'power' else 'pow'}({{0}}, {{1}})")
    t.add("mod", "int8, int8 -> int8", "({0} % {1})")
    t.add("random", "-> float8", "random()", volatile=True)
    t.add("pi", "-> float8", "pi()")


def _times(t: FunctionTable) -> None:
    for sign in ("+", "-"):
        for type_ in ("timestamp", "timestamptz"):
            t.add(sign, f"{type_}, interval -> {type_}", f"({{0}} {sign} {{1}})")
        t.add(sign, "date, interval -> timestamp", f"({{0}} {sign} {{1}})")
        t.add(sign, "date, int4 -> date", f"({{0}} {sign} {{1}})")
        t.add(sign, "interval, interval -> interval", f"({{0}} {sign} {{1}})")
        t.add(sign, "time, interval -> time", f"({{0}} {sign} {{1}})")
    for type_ in ("timestamp", "timestamptz"):
        t.add("+", f"interval, {type_} -> {type_}", "({0} + {1})")
        t.add("-", f"{type_}, {type_} -> interval", "({0} - {1})")
        t.add("date_trunc", f"varchar, {type_} -> {type_}", "CAST(date_trunc({0}, {1}) AS TIMESTAMP)")
        t.add("extract", f"varchar, {type_} -> numeric", "hr_numeric_from_float(date_part({0}, {1}))")
        t.add("date_part", f"varchar, {type_} -> float8", "CAST(date_part({0}, {1}) AS DOUBLE)")
        t.add("to_char", f"{type_}, varchar -> varchar", "strftime({0}, {1})")
    t.add("extract", "varchar, date -> numeric", "hr_numeric_from_float(date_part({0}, {1}))")
    t.add("extract", "varchar, interval -> numeric", "hr_numeric_from_float(date_part({0}, {1}))")
    t.add("date_part", "varchar, date -> float8", "CAST(date_part({0}, {1}) AS DOUBLE)")
    t.add("-", "date, date -> int4", "CAST({0} - {1} AS INTEGER)")
    t.add("*", "interval, float8 -> interval", "({0} * {1})")
    t.add("*", "float8, interval -> interval", "({1} * {0})")
    t.add("*", "interval, int4 -> interval", "({0} * {1})")
    t.add("to_timestamp", "float8 -> timestamptz", "make_timestamp(CAST({0} * 1000000 AS BIGINT))")
    t.add("at time zone", "timestamptz, varchar -> timestamp", "timezone({1}, CAST({0} AS TIMESTAMPTZ))")
    t.add("at time zone", "timestamp, varchar -> timestamptz", "CAST(timezone({1}, {0}) AS TIMESTAMP)")
    for name in ("now", "proctime", "current_timestamp"):
        t.add(name, "-> timestamptz", "CAST(now() AS TIMESTAMP)", volatile=True)


def _json(t: FunctionTable) -> None:
    t.add("->", "jsonb, varchar -> jsonb", "json_extract({0}, '$.\"' || {1} || '\"')")
    t.add("->", "jsonb, int4 -> jsonb", "json_extract({0}, {1})")
    t.add("->>", "jsonb, varchar -> varchar", "json_extract_string({0}, '$.\"' || {1} || '\"')")
    t.add("->>", "jsonb, int4 -> varchar", "json_extract_string({0}, {1})")
    t.add("jsonb_build_object", "any... -> jsonb", "json_object({*})")
    t.add("jsonb_build_array", "any... -> jsonb", "json_array({*})")
    t.add("to_jsonb", "any -> jsonb", "to_json({0})")
    t.add(
        "jsonb_typeof",
        "jsonb -> varchar",
        "CASE json_type({0}) WHEN 'VARCHAR' THEN 'string' WHEN 'NULL' THEN 'null' WHEN 'OBJECT' THEN 'object' WHEN 'ARRAY' THEN 'array' WHEN 'BOOLEAN' THEN 'boolean' ELSE 'number' END",
    )
    t.add("jsonb_array_length", "jsonb -> int4", "CAST(json_array_length({0}) AS INTEGER)")


def _arrays(t: FunctionTable) -> None:
    t.add("array", "anyelement... -> anyarray", "[{*}]")
    t.add("array_length", "anyarray -> int4", "CAST(nullif(len({0}), 0) AS INTEGER)")
    t.add("array_length", "anyarray, int4 -> int4", "CASE WHEN {1} = 1 THEN CAST(nullif(len({0}), 0) AS INTEGER) END")
    t.add("cardinality", "anyarray -> int4", "CAST(len({0}) AS INTEGER)")
    t.add("subscript", "anyarray, int4 -> anyelement", "CASE WHEN {1} >= 1 THEN {0}[{1}] END")
    t.add("array_append", "anyarray, anyelement -> anyarray", "list_append({0}, {1})")
    t.add("array_prepend", "anyelement, anyarray -> anyarray", "list_prepend({0}, {1})")
    t.add("array_cat", "anyarray, anyarray -> anyarray", "list_concat({0}, {1})")
    t.add("array_contains", "anyarray, anyelement -> bool", "list_contains({0}, {1})")
    t.add("array_position", "anyarray, anyelement -> int4", "CAST(nullif(list_position({0}, {1}), 0) AS INTEGER)")
    t.add("array_sum", "anyarray -> anyelement", "list_sum({0})")
    t.add("array_min", "anyarray -> anyelement", "list_min({0})")
    t.add("array_max", "anyarray -> anyelement", "list_max({0})")
    t.add("array_to_string", "anyarray, varchar -> varchar", "array_to_string({0}, {1})")


def _conditional(t: FunctionTable) -> None:
    t.add("coalesce", "anyelement... -> anyelement", "coalesce({*})")
    t.add("nullif", "anyelement, anyelement -> anyelement", "nullif({0}, {1})")
    t.add("greatest", "anyelement... -> anyelement", "greatest({*})")
    t.add("least", "anyelement... -> anyelement", "least({*})")
    t.add("pg_typeof", "any -> varchar", "''")
    t.add("version", "-> varchar", "'PostgreSQL 13.14.0-RisingWave-2.6.0 (headrace 0.1.0)'")
    t.add("current_database", "-> varchar", "current_setting('schema')")
    t.add("current_schema", "-> varchar", "'public'")
    t.add("current_user", "-> varchar", "'root'")
    t.add("pg_backend_pid", "-> int4", "0")


def _binary(t: FunctionTable) -> None:
    # DuckDB has no byte access; the hexadecimal text is the way in.
    t.add("get_byte", "bytea, int4 -> int4", "CAST('0x' || substr(hex({0}), 2 * {1} + 1, 2) AS INTEGER)")
    t.add("length", "bytea -> int4", "CAST(octet_length({0}) AS INTEGER)")
    t.add("octet_length", "bytea -> int4", "CAST(octet_length({0}) AS INTEGER)")
    t.add(
        "encode",
        "bytea, varchar -> varchar",
        "CASE lower({1}) WHEN 'hex' THEN lower(hex({0})) WHEN 'base64' THEN base64({0}) END",
    )
    t.add(
        "decode",
        "varchar, varchar -> bytea",
        "CASE lower({1}) WHEN 'hex' THEN unhex({0}) WHEN 'base64' THEN from_base64({0}) END",
    )
    t.add("convert_from", "bytea, varchar -> varchar", "decode({0})")
