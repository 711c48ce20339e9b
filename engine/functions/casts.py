"""Casts: which are implicit, and how each is written in DuckDB with RisingWave's meaning.

Text forms follow PostgreSQL: `100` (not `100.0`) for a double, `+00:00` after a timestamptz, `true`/`false` for a boolean.
"""

from __future__ import annotations

from engine.sql.errors import TypeMismatch
from engine.sql.types import (
    BYTEA,
    DATE,
    FLOAT4,
    FLOAT8,
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
_IMPLICIT_TIME = {("date", "timestamp"), ("date", "timestamptz"), ("timestamp", "timestamptz"), ("time", "interval")}
# Explicit casts between scalars, beyond the implicit ones, the numeric ones and those from and to text.
_EXPLICIT = {
    ("bool", "int4"), ("int4", "bool"), ("timestamp", "date"), ("timestamptz", "date"), ("timestamp", "time"),
    ("timestamptz", "time"), ("timestamptz", "timestamp"), ("interval", "time"), ("varchar", "bytea"),
    ("jsonb", "bool"), ("jsonb", "int2"), ("jsonb", "int4"), ("jsonb", "int8"), ("jsonb", "numeric"), ("jsonb", "float4"),
    ("jsonb", "float8"),
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
    if source.name == "struct" and target.name == "struct" and len(source.fields) == len(target.fields):
        return all(can_cast_implicitly(a, b) for (_, a), (_, b) in zip(source.fields, target.fields, strict=True))
    return (source.name, target.name) in _IMPLICIT_TIME


def can_cast(source: SqlType, target: SqlType) -> bool:
    """Whether `CAST(x AS target)` is allowed for an `x` of type `source`."""
    if can_cast_implicitly(source, target) or target == VARCHAR:
        return True
    if source == VARCHAR:
        return True
    if source.is_numeric and target.is_numeric:
        return True
    if source.name == "list" and target.name == "list":
        assert source.element is not None
        assert target.element is not None
        return can_cast(source.element, target.element)
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
    if source.duckdb == target.duckdb and target != VARCHAR:
        return sql
    if target == VARCHAR:
        return _to_text(sql, source)
    if source in (VARCHAR, UNKNOWN):
        return _from_text(sql, target)
    if source == JSONB:
        return f"CAST(json_extract_string({sql}, '$') AS {target.duckdb})"
    if source.is_numeric and target.name in _INTEGERS and source.name not in _INTEGERS:
        # PostgreSQL rounds half away from zero for numeric and half to even for floats; DuckDB does the same on CAST.
        return f"CAST({sql} AS {target.duckdb})"
    if source.name == "list" and target.name == "list":
        assert source.element is not None
        assert target.element is not None
        return f"list_transform({sql}, lambda x: {render_cast('x', source.element, target.element)})"
    return f"CAST({sql} AS {target.duckdb})"


def _to_text(sql: str, source: SqlType) -> str:
    if source in (VARCHAR, UNKNOWN, JSONB):
        return f"CAST({sql} AS VARCHAR)"
    if source in (FLOAT4, FLOAT8):
        text = f"CAST({sql} AS VARCHAR)"
        return (
            f"(CASE WHEN isinf({sql}) THEN CASE WHEN {sql} > 0 THEN 'Infinity' ELSE '-Infinity' END"
            f" WHEN isnan({sql}) THEN 'NaN' ELSE regexp_replace({text}, '\\.0$', '') END)"
        )
    if source == NUMERIC:
        return f"regexp_replace(regexp_replace(CAST({sql} AS VARCHAR), '(\\.[0-9]*[1-9])0+$', '\\1'), '\\.0+$', '')"
    if source in (TIMESTAMP, TIMESTAMPTZ):
        # No, three or six decimals, as many as the value needs.
        decimals = f"CASE WHEN epoch_us({sql}) % 1000000 = 0 THEN '' WHEN epoch_us({sql}) % 1000 = 0 THEN strftime({sql}, '.%g') ELSE strftime({sql}, '.%f') END"
        zone = " || '+00:00'" if source == TIMESTAMPTZ else ""
        return f"(strftime({sql}, '%Y-%m-%d %H:%M:%S') || {decimals}{zone})"
    if source == BYTEA:
        return f"('\\x' || lower(hex({sql})))"
    return f"CAST({sql} AS VARCHAR)"


def _from_text(sql: str, target: SqlType) -> str:
    if target == TIMESTAMPTZ:
        # DuckDB's TIMESTAMPTZ understands offsets; the session of every connection of ours is in UTC.
        return f"CAST(CAST({sql} AS TIMESTAMPTZ) AS TIMESTAMP)"
    if target == BYTEA:
        return f"(CASE WHEN {sql} LIKE '\\x%' THEN unhex(substr({sql}, 3)) ELSE encode({sql}) END)"
    if target in (DATE, TIME, TIMESTAMP, INTERVAL):
        return f"CAST({sql} AS {target.duckdb})"
    if target == JSONB:
        return f"json({sql})"
    return f"CAST({sql} AS {target.duckdb})"


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
