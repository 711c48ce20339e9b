"""`FORMAT PLAIN ENCODE JSON`: DuckDB SQL that turns raw records into typed columns and a verdict on each row.

No Python runs per row. One `json_transform` reads all columns in a single pass over the text (the fast path). DuckDB's own
conversion is more generous than RisingWave's (it rounds 1.5 to an integer, makes 1.0 of `true`, a text of an object), so
numbers that could be meant otherwise are taken as JSON text and judged here; and wherever the fast path gives NULL, the value
is looked up again to tell a missing key, a JSON null and a value of the wrong type apart. Only such rows pay for it.

What RisingWave does (its documentation, and its JSON parser): keys match exactly, otherwise without regard to ASCII case; a
missing key or a JSON null is NULL; a number may be written as a string; a boolean may not; text takes any scalar but neither
object nor array; `timestamptz` takes a string with a zone or a unix number whose unit is guessed from its size; `bytea` takes
PostgreSQL's text forms (`\\x` hexadecimal, else the bytes of the text itself). There a wrong type becomes NULL; here the row
becomes a reject with a reason.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence

from engine.connectors._json_values import STRING_LITERAL, json_value_sql, quote_identifier, quote_text, timestamptz_text_sql
from engine.sql.errors import InvalidParameter, UnsupportedQuery
from engine.sql.types import SqlType

TIMESTAMPTZ_MODES = ("guess_number_unit", "utc_string", "utc_without_suffix", "milli", "micro")

# yyjson, as DuckDB sets it, accepts a comma before a closing bracket. (It accepts NaN and infinity too: those are refused
# where a column reads one.) A pattern that begins with one fixed character is searched fast, so the scan costs 0.2 us a row.
_TRAILING_COMMA = r",\s*[}\]]"


def build_json_decode_sql(
    relation: str,
    columns: Sequence[tuple[str, SqlType]],
    *,
    required: Sequence[str] = (),
    keep: Mapping[str, str] | None = None,
    reason: str = "reason",
    timestamptz_mode: str = "guess_number_unit",
) -> str:
    """Build a SELECT of the typed columns and a reason, one row for each row of `relation`, in its order.

    Args:
        relation: a relation of `RAW_SCHEMA`: a quoted name or a subquery in parentheses.
        columns: name and type of each column; the physical type is `SqlType.duckdb` (timestamptz: naive UTC).
        required: columns that must be there and not null (`missing key "x"`).
        keep: raw columns to hand on, raw name to output name, put before the typed ones.
        reason: output name of the verdict: NULL for a good row, otherwise a text such as `invalid JSON`. A rejected row's
            typed columns hold what could be read, and must not be used but for showing them.
        timestamptz_mode: option `timestamptz.handling.mode` of the format.

    Raises:
        InvalidParameter: unknown mode, or a required column that is not a column.
        UnsupportedQuery: two columns differ only in case.
    """
    if timestamptz_mode not in TIMESTAMPTZ_MODES:
        raise InvalidParameter(
            f"unknown timestamptz.handling.mode `{timestamptz_mode}`", fix=f"Use one of {', '.join(TIMESTAMPTZ_MODES)}."
        )
    names = [name for name, _ in columns]
    for name in required:
        if name not in names:
            raise InvalidParameter(f"required key `{name}` is not a column", fix=f"Columns are {', '.join(names)}.")
    if len({name.lower() for name in names}) != len(names):
        raise UnsupportedQuery("two columns of a JSON source differ only in case", fix="Rename one of them.")

    kept = "".join(f"{quote_identifier(raw)} AS {quote_identifier(alias)}, " for raw, alias in (keep or {}).items())
    structure = json.dumps({name: _TRANSFORM_AS.get(type_.name, "JSON") for name, type_ in columns})
    fast = [_FAST[type_.name](f"_fields[{quote_text(name)}]", timestamptz_mode, type_) for name, type_ in columns]
    count = range(len(columns))
    any_null = " OR ".join(f"_a{i} IS NULL" for i in count) or "FALSE"
    lookups = [
        f"CASE WHEN _a{i} IS NULL THEN json_extract(_text, {_pointer_sql(name)}) END AS _j{i}" for i, name in enumerate(names)
    ]
    values = [
        f"CASE WHEN _a{i} IS NOT NULL THEN _a{i} WHEN _j{i} <> 'null' "
        f"THEN {json_value_sql(f'_j{i}', type_, timestamptz_mode)} END AS _v{i}"
        for i, (_, type_) in enumerate(columns)
    ]
    outputs = [f"_v{i} AS {quote_identifier(name)}" for i, name in enumerate(names)]
    # Each level is a projection of its own, so that DuckDB computes every helper column once.
    raw = f"SELECT *, TRY(decode(value)) AS _text FROM {relation}"
    judged = f"SELECT *, {_broken_sql()} AS _broken FROM ({raw})"
    fields = f"SELECT *, CASE WHEN _broken IS NULL THEN json_transform(_text, {quote_text(structure)}) END AS _fields FROM ({judged})"
    tried = _select(fields, *(f"{expression} AS _a{i}" for i, expression in enumerate(fast)))
    keyed = _select(tried, f"CASE WHEN _broken IS NULL AND ({any_null}) THEN json_keys(_text) END AS _keys")
    looked_up = _select(keyed, *lookups)
    typed = _select(looked_up, *values)
    return f"SELECT {kept}{', '.join([*outputs, _reason_sql(columns, required)])} AS {quote_identifier(reason)} FROM ({typed})"


def _select(source: str, *expressions: str) -> str:
    return f"SELECT {', '.join(['*', *expressions])} FROM ({source})"


def _broken_sql() -> str:
    """Why the record as a whole is no JSON object, or NULL."""
    stripped = f"regexp_replace(_text, {quote_text(STRING_LITERAL)}, '\"\"', 'g')"
    comma = quote_text(_TRAILING_COMMA)
    lenient = f"CASE WHEN NOT regexp_matches(_text, {comma}) THEN FALSE ELSE regexp_matches({stripped}, {comma}) END"
    return (
        "CASE WHEN value IS NULL OR octet_length(value) = 0 THEN 'empty payload'"
        " WHEN _text IS NULL THEN 'invalid UTF-8'"
        " WHEN NOT json_valid(_text) THEN 'invalid JSON'"
        f" WHEN {lenient} THEN 'invalid JSON'"
        " WHEN NOT starts_with(ltrim(_text, ' \t\n\r'), '{') THEN 'not a JSON object' END"
    )


def _reason_sql(columns: Sequence[tuple[str, SqlType]], required: Sequence[str]) -> str:
    branches = ["WHEN _broken IS NOT NULL THEN _broken"]
    for i, (name, type_) in enumerate(columns):
        quoted = f'"{name}"'
        if name in required:
            branches.append(f"WHEN _v{i} IS NULL AND _j{i} IS NULL THEN {quote_text('missing key ' + quoted)}")
            branches.append(f"WHEN _j{i} = 'null' THEN {quote_text('null in required column ' + quoted)}")
        before, after = quote_text(f"column {quoted}: cannot parse "), quote_text(f" as {type_.sql}")
        branches.append(f"WHEN _v{i} IS NULL AND _j{i} <> 'null' THEN {before} || left(_j{i}::VARCHAR, 200) || {after}")
    return f"CASE {' '.join(branches)} END"


def _pointer_sql(name: str) -> str:
    """JSON pointer to the key in `_keys` that is `name`, else to one that equals it but for ASCII case, else NULL."""
    same = f"list_filter(_keys, lambda k: lower(k) = {quote_text(name.lower())})[1]"
    escaped = f"replace(replace({same}, '~', '~0'), '/', '~1')"
    exact = "/" + name.replace("~", "~0").replace("/", "~1")
    return f"CASE WHEN list_contains(_keys, {quote_text(name)}) THEN {quote_text(exact)} ELSE '/' || {escaped} END"


# How `json_transform` hands each type over; all others come as JSON.
_TRANSFORM_AS = {
    "float4": "DOUBLE", "float8": "DOUBLE", "varchar": "VARCHAR", "unknown": "VARCHAR", "date": "VARCHAR", "time": "VARCHAR",
    "timestamp": "VARCHAR", "timestamptz": "VARCHAR",
}  # fmt: skip


def _fast_float(field: str, _mode: str, type_: SqlType) -> str:
    # 0 and 1 may come from a boolean, which is refused; only then the text is searched for one.
    doubtful = f"{field} IN (0, 1) AND (contains(_text, 'true') OR contains(_text, 'false'))"
    number = field if type_.name == "float8" else f"TRY_CAST({field} AS FLOAT)"
    return f"CASE WHEN NOT isfinite({field}) OR ({doubtful}) THEN NULL ELSE {number} END"


def _fast_integer(field: str, _mode: str, type_: SqlType) -> str:
    text = f"{field}::VARCHAR"
    fraction = f"contains({text}, '.') OR contains({text}, 'e') OR contains({text}, '\"')"
    return f"CASE WHEN {fraction} THEN NULL ELSE TRY_CAST({text} AS {type_.duckdb}) END"


def _fast_numeric(field: str, _mode: str, type_: SqlType) -> str:
    del type_
    return f"TRY(hr_numeric_finite({field}::VARCHAR))"


def _fast_bool(field: str, _mode: str, _type: SqlType) -> str:
    return f"CASE {field}::VARCHAR WHEN 'true' THEN TRUE WHEN 'false' THEN FALSE END"


def _fast_text(field: str, _mode: str, _type: SqlType) -> str:
    # A text that begins like an object or an array may be one; the slow path knows.
    bracket = f"({field} >= '[' AND {field} < '\\') OR ({field} >= '{{' AND {field} < '|')"
    return f"CASE WHEN {bracket} THEN NULL ELSE {field} END"


def _fast_timestamptz(field: str, mode: str, _type: SqlType) -> str:
    return timestamptz_text_sql(field, mode)


def _fast_jsonb(field: str, _mode: str, type_: SqlType) -> str:
    return json_value_sql(field, type_, "")


def _slow(_field: str, _mode: str, type_: SqlType) -> str:
    return f"NULL::{type_.duckdb}"


_FAST: dict[str, Callable[[str, str, SqlType], str]] = {
    "bool": _fast_bool, "int2": _fast_integer, "int4": _fast_integer, "int8": _fast_integer, "serial": _fast_integer,
    "numeric": _fast_numeric, "float4": _fast_float, "float8": _fast_float, "varchar": _fast_text, "unknown": _fast_text,
    "timestamptz": _fast_timestamptz, "timestamp": _slow, "date": _slow, "time": _slow, "interval": _slow, "bytea": _slow,
    "jsonb": _fast_jsonb, "list": _slow, "struct": _slow,
}  # fmt: skip
