"""Casts: which are implicit, and how each is written in DuckDB with RisingWave's meaning.

Text forms follow PostgreSQL: `100` (not `100.0`) for a double, `+00:00` after a timestamptz, `true`/`false` for a boolean.
"""

from __future__ import annotations

from engine.sql.errors import TypeMismatch
from engine.sql.numeric import NAN
from engine.sql.types import (
    BOOL,
    BYTEA,
    DATE,
    FLOAT4,
    FLOAT8,
    INT256,
    INTERVAL,
    JSONB,
    NUMERIC,
    TIME,
    TIMESTAMP,
    TIMESTAMPTZ,
    UNKNOWN,
    VARCHAR,
    SqlType,
)

_INTEGERS = frozenset({"int2", "int4", "int8", "serial"})
_UNQUOTED = frozenset({"bool", "int2", "int4", "int8", "serial", "float4", "float8", "numeric", "date", "time", "list"})
"""Types whose text never needs quotes inside an array."""
_IMPLICIT_TIME = {("date", "timestamp"), ("date", "timestamptz"), ("timestamp", "timestamptz"), ("time", "interval")}
# Explicit casts between scalars, beyond the implicit ones, the numeric ones and those from and to text.
_EXPLICIT = {
    ("bool", "int4"), ("int4", "bool"), ("timestamp", "date"), ("timestamptz", "date"), ("timestamp", "time"),
    ("timestamptz", "time"), ("timestamptz", "timestamp"), ("interval", "time"), ("varchar", "bytea"),
    ("jsonb", "bool"), ("jsonb", "int2"), ("jsonb", "int4"), ("jsonb", "int8"), ("jsonb", "numeric"), ("jsonb", "float4"),
    ("jsonb", "float8"), ("int256", "float8"),
}  # fmt: skip


def can_cast_implicitly(source: SqlType, target: SqlType) -> bool:
    """Whether an argument of type `source` may stand where `target` is asked for."""
    if source in (target, UNKNOWN):
        return True
    if source.is_numeric and target.is_numeric:
        return source.rank <= target.rank
    if source.name == "list" and target.name == "list":
        assert source.element is not None
        assert target.element is not None
        return can_cast_implicitly(source.element, target.element)
    if target == INT256 and source.name in _INTEGERS:
        return True
    if source.name == target.name and source.name in ("struct", "map") and len(source.fields) == len(target.fields):
        return all(can_cast_implicitly(a, b) for (_, a), (_, b) in zip(source.fields, target.fields, strict=True))
    return (source.name, target.name) in _IMPLICIT_TIME


def can_cast(source: SqlType, target: SqlType) -> bool:
    """Whether `CAST(x AS target)` is allowed for an `x` of type `source`."""
    if can_cast_implicitly(source, target) or target == VARCHAR:
        return True
    if source == VARCHAR:
        return target.name != "map"
    if source.is_numeric and target.is_numeric:
        return True
    if source.name == "list" and target.name == "list":
        assert source.element is not None
        assert target.element is not None
        return can_cast(source.element, target.element)
    if source.name == target.name and source.name in ("struct", "map") and len(source.fields) == len(target.fields):
        return all(can_cast(a, b) for (_, a), (_, b) in zip(source.fields, target.fields, strict=True))
    return (source.name, target.name) in _EXPLICIT


def render_cast(sql: str, source: SqlType, target: SqlType) -> str:
    """DuckDB SQL that turns `sql` of type `source` into `target`.

    Raises:
        TypeMismatch: there is no such cast.
    """
    if source == target:
        return sql
    if not can_cast(source, target):
        raise TypeMismatch(f"cannot cast type `{source}` to `{target}`", sqlstate="42846")
    if target == VARCHAR:
        return text_of(sql, source)
    if source in (VARCHAR, UNKNOWN):
        return _from_text(sql, target)
    if source.name == "list":
        assert source.element is not None
        assert target.element is not None
        return f"list_transform({sql}, lambda x: {render_cast('x', source.element, target.element)})"
    if source.name == "struct":
        parts = (
            f'"{to}" := {render_cast(_field(sql, name), have, want)}'
            for (name, have), (to, want) in zip(source.fields, target.fields, strict=True)
        )
        return f"(CASE WHEN {sql} IS NOT NULL THEN struct_pack({', '.join(parts)}) END)"
    if source.name == "map":
        entries = render_cast("x", source.entries, target.entries)
        return f"list_transform({sql}, lambda x: {entries})"
    if target == INT256:
        return f"hr_int256_of(CAST({sql} AS BIGINT))"
    if source == INT256:
        return f"hr_int256_float({sql})"
    if source == JSONB:
        return _from_json(sql, target)
    if target == NUMERIC:
        return _to_numeric(sql, source)
    if source == NUMERIC:
        if target.name in _INTEGERS:
            return f"CAST(hr_numeric_int({sql}) AS {target.duckdb})"
        return f"CAST(CASE WHEN {sql} = {NAN} THEN CAST('NaN' AS DOUBLE) ELSE hr_numeric_float({sql}) END AS {target.duckdb})"
    if source.duckdb == target.duckdb:
        return sql
    if source == INTERVAL and target == TIME:
        return f"(TIME '00:00:00' + {sql})"
    if source == TIME and target == INTERVAL:
        return f"to_microseconds(epoch_us({sql}))"
    # PostgreSQL rounds floats half to even on their way to an integer; DuckDB's CAST does the same.
    return f"CAST({sql} AS {target.duckdb})"


def _field(sql: str, name: str) -> str:
    return f"struct_extract({sql}, {_quoted(name)})"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _to_numeric(sql: str, source: SqlType) -> str:
    if source.name in _INTEGERS:
        return int_to_numeric(sql)
    return f"hr_numeric_from_float({sql})" if source == FLOAT8 else f"hr_numeric_parse(CAST({sql} AS VARCHAR))"


def int_to_numeric(sql: str) -> str:
    """The key of an integer, see `engine.sql.numeric`: exponent, 29 digits, scale 0."""
    body = key_body(f"abs(CAST({sql} AS HUGEINT))", "0")
    return f"(CASE WHEN {sql} = 0 THEN CAST(0 AS HUGEINT) WHEN {sql} > 0 THEN {body} WHEN {sql} < 0 THEN -({body}) END)"


def key_body(size: str, scale: str) -> str:
    """Exponent and 29 digits of a mantissa above zero, without its scale."""
    digits = f"length(CAST({size} AS VARCHAR))"
    return f"((CAST(28 - {scale} + {digits} AS HUGEINT) << 97) + {size} * hr_numeric_powers()[{digits}]) * 32"


def text_of(sql: str, source: SqlType) -> str:
    """DuckDB SQL of a value's text form."""
    if source in (VARCHAR, UNKNOWN):
        return sql
    if source == JSONB:
        return f"hr_json_text(CAST({sql} AS VARCHAR))"
    if source in (FLOAT4, FLOAT8):
        # Whole numbers in this range look alike everywhere; the rest is laid out in Python.
        whole = f"{sql} = floor({sql}) AND abs({sql}) < 1e6 AND {sql} <> 0"
        return f"(CASE WHEN {whole} THEN CAST(CAST({sql} AS INTEGER) AS VARCHAR) ELSE hr_{source.name}_text({sql}) END)"
    if source == NUMERIC:
        return f"hr_numeric_text({sql})"
    if source in (TIMESTAMP, TIMESTAMPTZ):
        zone = " || '+00:00'" if source == TIMESTAMPTZ else ""
        # No, three or six decimals, as many as the value needs.
        us = f"epoch_us({sql})"
        decimals = f"CASE WHEN {us} % 1000000 = 0 THEN '' WHEN {us} % 1000 = 0 THEN strftime({sql}, '.%g') ELSE strftime({sql}, '.%f') END"
        near = f"strftime({sql}, '%Y-%m-%d %H:%M:%S') || {decimals}{zone}"
        return f"(CASE WHEN {sql} BETWEEN TIMESTAMP '1000-01-01' AND TIMESTAMP '9999-12-31' THEN {near} ELSE hr_{source.name}_text({us}) END)"
    if source == DATE:
        return f"(CASE WHEN {sql} BETWEEN DATE '1000-01-01' AND DATE '9999-12-31' THEN CAST({sql} AS VARCHAR) ELSE hr_date_text({sql} - DATE '1970-01-01') END)"
    if source == TIME:
        return f"hr_time_text(epoch_us({sql}))"
    if source == INTERVAL:
        return f"hr_interval_text({', '.join(interval_parts(sql))})"
    if source == BYTEA:
        return f"('\\x' || lower(hex({sql})))"
    if source == INT256:
        return f"hr_int256_text({sql})"
    if source.name == "map":
        key, value = (cell_of(f"x.{name}", type_) for name, type_ in source.fields)
        return f"hr_map_text(list_transform({sql}, lambda x: {key}), list_transform({sql}, lambda x: {value}))"
    if source.name == "list":
        assert source.element is not None
        plain = "true" if source.element.name in _UNQUOTED else "false"
        return f"hr_array_text(list_transform({sql}, lambda x: {cell_of('x', source.element)}), {plain})"
    if source.name == "struct":
        cells = ", ".join(cell_of(_field(sql, name), type_) for name, type_ in source.fields)
        return f"(CASE WHEN {sql} IS NOT NULL THEN hr_row_text([{cells}]) END)"
    return f"CAST({sql} AS VARCHAR)"


def cell_of(sql: str, source: SqlType) -> str:
    """The text form inside an array or a row: as outside, but `t` and `f`."""
    return f"(CASE {sql} WHEN true THEN 't' WHEN false THEN 'f' END)" if source == BOOL else text_of(sql, source)


def interval_parts(sql: str) -> tuple[str, str, str]:
    """Months, days and microseconds of an interval."""
    months = f"CAST(datepart('year', {sql}) * 12 + datepart('month', {sql}) AS BIGINT)"
    clock = (
        f"CAST(datepart('hour', {sql}) * 3600000000 + datepart('minute', {sql}) * 60000000"
        f" + datepart('microseconds', {sql}) AS BIGINT)"
    )
    return months, f"CAST(datepart('day', {sql}) AS BIGINT)", clock


def _from_text(sql: str, target: SqlType) -> str:
    if target.name in _INTEGERS:
        # Short runs of digits need no Python; all else, wrong texts above all, is judged there.
        digits = {"int2": 4, "int4": 9}.get(target.name, 18)
        plain = f"length({sql}) <= {digits} AND regexp_full_match({sql}, '-?[0-9]+')"
        return f"(CASE WHEN {plain} THEN CAST({sql} AS {target.duckdb}) ELSE CAST(hr_integer({sql}, '{target.name}') AS {target.duckdb}) END)"
    if target == NUMERIC:
        return f"hr_numeric_parse({sql})"
    if target.name in ("float4", "float8"):
        # A Python function cannot answer NaN: DuckDB takes it for NULL.
        return f"(CASE WHEN lower(trim({sql})) = 'nan' THEN CAST('NaN' AS {target.duckdb}) ELSE hr_{target.name}({sql}) END)"
    if target == BOOL:
        return f"hr_boolean({sql})"
    if target in (TIMESTAMP, TIMESTAMPTZ):
        return f"make_timestamp(hr_{target.name}({sql}))"
    if target == DATE:
        return f"(DATE '1970-01-01' + hr_date({sql}))"
    if target == TIME:
        return f"(TIME '00:00:00' + to_microseconds(hr_time({sql})))"
    if target == INTERVAL:
        return f"CAST(hr_interval({sql}) AS INTERVAL)"
    if target == BYTEA:
        return f"hr_bytea({sql})"
    if target == JSONB:
        return f"CAST(hr_json({sql}) AS JSON)"
    if target == INT256:
        return f"hr_int256({sql})"
    if target.name == "list":
        assert target.element is not None
        return f"list_transform(hr_array_parse({sql}), lambda x: {render_cast('x', VARCHAR, target.element)})"
    if target.name == "struct":
        cells = f"hr_row_parse({sql}, {len(target.fields)})"
        parts = (
            f'"{name}" := {render_cast(f"{cells}[{i + 1}]", VARCHAR, type_)}' for i, (name, type_) in enumerate(target.fields)
        )
        return f"(CASE WHEN {sql} IS NOT NULL THEN struct_pack({', '.join(parts)}) END)"
    return f"CAST({sql} AS {target.duckdb})"


def _from_json(sql: str, target: SqlType) -> str:
    text = f"CAST({sql} AS VARCHAR)"
    if target == BOOL:
        return f"hr_json_boolean({text})"
    key = f"hr_json_numeric({text}, '{target.sql}')"
    return render_cast(key, NUMERIC, target)


def common_type(types: list[SqlType]) -> SqlType | None:
    """The type that UNION, CASE, COALESCE and ARRAY give to mixed inputs; None if there is none."""
    known = [type_ for type_ in types if type_ != UNKNOWN]
    if not known:
        return VARCHAR if types else None
    result = known[0]
    for type_ in known[1:]:
        if can_cast_implicitly(type_, result):
            continue
        if can_cast_implicitly(result, type_):
            result = type_
        else:
            return None
    return result
