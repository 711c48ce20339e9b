"""The short way of `json_decode`: a third of the SQL, right for ordinary rows, and it says which rows are not ordinary.

DuckDB spends 1.5 ms a column on planning the full statement, whatever the number of rows; an epoch is 250 ms. The short
statement reads the same columns, and gives reason `DOUBTFUL` to every row that it cannot answer for: broken text, a value that
did not fit, a key in another case, a fraction where an integer should be ... If there is one, decode the whole batch again by
`build_json_decode_sql`, which has the same columns:

    decoded = run(build_fast_json_decode_sql(...))
    if any row has reason = DOUBTFUL:
        decoded = run(build_json_decode_sql(...))

A missing key and a JSON null are ordinary.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from engine.connectors._json_values import json_value_sql, quote_identifier, quote_text, timestamptz_text_sql
from engine.sql.types import SqlType

DOUBTFUL = "?"
"""The reason of a row that the full statement must look at."""

_COMMA = quote_text(r",\s*[}\]]")
# Nearly every timestamp looks like this; the general expression, which also takes numbers, costs three times as much.
_PLAIN_TIMESTAMP = quote_text(r'"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?Z?"')


@dataclass(frozen=True)
class _Reading:
    """How a column is read: what `json_transform` makes of it, its value, and when that is in doubt although not NULL."""

    transform: object
    value: str
    doubt: str | None = None
    number: str | None = None
    """a float that must be finite and no boolean, judged together with the others"""


def build_fast_json_decode_sql(
    relation: str,
    columns: Sequence[tuple[str, SqlType]],
    *,
    required: Sequence[str] = (),
    keep: Mapping[str, str] | None = None,
    reason: str = "reason",
    timestamptz_mode: str = "guess_number_unit",
) -> str:
    """Build a SELECT with the columns of `build_json_decode_sql`; a reason is NULL or `DOUBTFUL`. Arguments are the same."""
    readings = [_read(f"_f.{quote_identifier(name)}", type_, timestamptz_mode) for name, type_ in columns]
    structure = quote_text(json.dumps({name: reading.transform for (name, _), reading in zip(columns, readings, strict=True)}))
    raw = f"SELECT *, TRY(decode(value)) AS _text FROM {relation}"
    fields = f"SELECT *, TRY(json_transform(_text, {structure})) AS _f FROM ({raw})"
    values = ", ".join(f"{reading.value} AS _a{i}" for i, reading in enumerate(readings))
    read = f"SELECT *{', ' + values if values else ''} FROM ({fields})"
    typed = f"SELECT *, {_types_sql([name for name, _ in columns])} AS _types FROM ({read})"
    kept = "".join(f"{quote_identifier(raw)} AS {quote_identifier(alias)}, " for raw, alias in (keep or {}).items())
    outputs = "".join(f"_a{i} AS {quote_identifier(name)}, " for i, (name, _) in enumerate(columns))
    return f"SELECT {kept}{outputs}{_reason_sql(columns, readings, required)} AS {quote_identifier(reason)} FROM ({typed})"


def _reason_sql(columns: Sequence[tuple[str, SqlType]], readings: Sequence[_Reading], required: Sequence[str]) -> str:
    doubts = [reading.doubt for reading in readings if reading.doubt]
    numbers = [reading.number for reading in readings if reading.number]
    if numbers:
        # A sum is finite if all are (or doubted in vain); 0 and 1 may come from a boolean.
        doubts.append(f"NOT isfinite({' + '.join(f'coalesce({number}, 0)' for number in numbers)})")
        ambiguous = " OR ".join(f"{number} IN (0, 1)" for number in numbers)
        doubts.append(f"(({ambiguous}) AND (contains(_text, 'true') OR contains(_text, 'false')))")
    doubts.append(f"regexp_matches(_text, {_COMMA})")
    return (
        f"CASE WHEN _f IS NULL OR NOT starts_with(_text, '{{') THEN '{DOUBTFUL}'"
        f" WHEN {' OR '.join(doubts)} THEN '{DOUBTFUL}'"
        f" WHEN _types IS NOT NULL THEN CASE WHEN {_wrong_null_sql(columns, required)} THEN '{DOUBTFUL}' END END"
    )


def _types_sql(names: Sequence[str]) -> str:
    """The JSON type under each column's key, where a column is NULL; NULL where the key is missing."""
    any_null = " OR ".join(f"_a{i} IS NULL" for i in range(len(names))) or "FALSE"
    pointers = ", ".join(quote_text("/" + name.replace("~", "~0").replace("/", "~1")) for name in names)
    return f"CASE WHEN _f IS NOT NULL AND ({any_null}) THEN json_type(_text, [{pointers}]) END"


def _wrong_null_sql(columns: Sequence[tuple[str, SqlType]], required: Sequence[str]) -> str:
    """True when a NULL is neither a missing key nor a JSON null, or stands in a required column."""
    names = [name for name, _ in columns]
    read = " + ".join(f"CASE WHEN _a{i} IS NULL THEN 0 ELSE 1 END" for i in range(len(columns)))
    unread = f"len(list_filter(_types, lambda t: t <> 'NULL')) <> {read}"
    exact, lower = (", ".join(quote_text(name) for name in given) for given in (names, [name.lower() for name in names]))
    other_case = (
        "CASE WHEN len(json_keys(_text)) = list_count(_types) THEN FALSE ELSE"
        f" len(list_filter(json_keys(_text), lambda k: list_contains([{lower}], lower(k)) AND NOT list_contains([{exact}], k))) > 0 END"
    )
    lacking = [f"_a{i} IS NULL" for i, name in enumerate(names) if name in required]
    return " OR ".join([unread, other_case, *lacking])


def _read(field: str, type_: SqlType, mode: str) -> _Reading:
    text = f"{field}::VARCHAR"
    if type_.name == "float8":
        return _Reading("DOUBLE", field, number=field)
    if type_.name == "float4":
        return _Reading("DOUBLE", f"TRY_CAST({field} AS FLOAT)", number=field)
    if type_.name in ("int2", "int4", "int8", "serial"):
        # What it is as a text must be what the integer is: 1.5, 1e3 and true are no integers (a string of digits is one).
        value = f"TRY_CAST({field} AS {type_.duckdb})"
        return _Reading("VARCHAR", value, f"{field} <> {value}::VARCHAR")
    if type_.name == "numeric":
        return _Reading("JSON", f"TRY(hr_numeric_finite({text}))")
    if type_.name == "bool":
        return _Reading("JSON", f"CASE {text} WHEN 'true' THEN TRUE WHEN 'false' THEN FALSE END")
    if type_.name in ("varchar", "unknown"):
        return _Reading("VARCHAR", field, f"({field} >= '[' AND {field} < '\\') OR ({field} >= '{{' AND {field} < '|')")
    if type_.name == "timestamptz" and mode != "utc_without_suffix":
        return _Reading(
            "VARCHAR",
            f"CASE WHEN ends_with({field}, 'Z') THEN TRY_CAST({field} AS TIMESTAMP) ELSE {timestamptz_text_sql(field, mode)} END",
        )
    if type_.name == "timestamp":
        plain = f"regexp_full_match({text}, {_PLAIN_TIMESTAMP})"
        other = json_value_sql(field, type_, mode)
        return _Reading("JSON", f"CASE WHEN {plain} THEN TRY_CAST(({text})[2:-2] AS TIMESTAMP) ELSE {other} END")
    if type_.name == "list" and type_.element is not None and type_.element.name == "float8":
        odd = f"len(list_filter({field}, lambda e: e IS NULL OR NOT isfinite(e))) > 0"
        return _Reading(
            ["DOUBLE"], field, f"({odd} OR (len({field}) > 0 AND (contains(_text, 'true') OR contains(_text, 'false'))))"
        )
    return _Reading("JSON", json_value_sql(field, type_, mode))
