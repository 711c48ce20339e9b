"""`FORMAT PLAIN ENCODE BYTES` and `ENCODE CSV`: DuckDB SQL of the same shape as `json_decode` builds."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from engine.connectors._json_values import json_value_sql, quote_identifier, quote_text
from engine.connectors.options import parse_bool
from engine.sql.errors import InvalidParameter, UnsupportedQuery
from engine.sql.types import SqlType

Fields = Sequence[tuple[str, SqlType]]


def build_bytes_decode_sql(
    relation: str, columns: Fields, *, keep: Mapping[str, str] | None = None, reason: str = "reason"
) -> str:
    """The record's value as it is, in the one column, which must be `bytea`; a tombstone is a reject."""
    if len(columns) != 1 or columns[0][1].name != "bytea":
        raise InvalidParameter(
            "ENCODE BYTES needs exactly one column, of type bytea", fix="Declare one column, e.g. (payload BYTEA)."
        )
    verdict = "CASE WHEN value IS NULL THEN 'empty payload' END"
    return f"SELECT {_kept(keep)}value AS {quote_identifier(columns[0][0])}, {verdict} AS {quote_identifier(reason)} FROM {relation}"


def build_csv_decode_sql(
    relation: str,
    columns: Fields,
    *,
    delimiter: str = ",",
    keep: Mapping[str, str] | None = None,
    reason: str = "reason",
) -> str:
    """One CSV line a record, columns by position.

    A field may be in double quotes, with doubled ones inside. An empty field is NULL, but an empty text for `varchar`. Missing
    fields are NULL and further ones ignored, as in RisingWave; a field that cannot be read makes the row a reject.
    """
    if len(delimiter) != 1 or delimiter in '"\r\n':
        raise InvalidParameter(
            f"delimiter `{delimiter}` is not one character", fix="Use one character other than the double quote."
        )
    for name, type_ in columns:
        if type_.name in ("list", "struct"):
            raise UnsupportedQuery(
                f"column `{name}` of type {type_.sql} cannot be read from CSV", fix="Read it as varchar and cast it."
            )
    mark = re.escape(delimiter)
    # Each match is one field with the delimiter before it; the text gets a first delimiter so that all look alike.
    pattern = f'{mark}(?:"(?:[^"]|"")*"|[^{mark}]*)'
    text = f"{quote_text(delimiter)} || rtrim(_text, chr(13) || chr(10))"
    raw = f"SELECT *, TRY(decode(value)) AS _text FROM {relation}"
    split = f"SELECT *, regexp_extract_all({text}, {quote_text(pattern)}) AS _parts FROM ({raw})"
    parts = [f"substr(_parts[{i + 1}], 2) AS _p{i}" for i in range(len(columns))]
    cut = f"SELECT {', '.join(['*', *parts])} FROM ({split})"
    fields = [
        f"CASE WHEN starts_with(_p{i}, '\"') THEN replace(substr(_p{i}, 2, length(_p{i}) - 2), '\"\"', '\"') ELSE _p{i} END AS _f{i}"
        for i in range(len(columns))
    ]
    unquoted = f"SELECT {', '.join(['*', *fields])} FROM ({cut})"
    values = [f"{_value_sql(f'_f{i}', type_)} AS _v{i}" for i, (_, type_) in enumerate(columns)]
    typed = f"SELECT {', '.join(['*', *values])} FROM ({unquoted})"
    verdicts = [
        f"WHEN _v{i} IS NULL AND _f{i} <> '' THEN {quote_text(f'column {quote_identifier(name)}: cannot parse ')} || "
        f"to_json(left(_f{i}, 200)) || {quote_text(f' as {type_.sql}')}"
        for i, (name, type_) in enumerate(columns)
    ]
    verdict = (
        "CASE WHEN value IS NULL OR octet_length(value) = 0 THEN 'empty payload' WHEN _text IS NULL THEN 'invalid UTF-8'"
        f" {' '.join(verdicts)} END"
    )
    outputs = ", ".join(f"_v{i} AS {quote_identifier(name)}" for i, (name, _) in enumerate(columns))
    return f"SELECT {_kept(keep)}{outputs}, {verdict} AS {quote_identifier(reason)} FROM ({typed})"


def csv_delimiter(options: Mapping[str, str]) -> str:
    """The delimiter that the options of ENCODE CSV name.

    Raises:
        SqlError: lines of header are asked for, which a record of one line cannot have.
    """
    if not parse_bool(options, "without_header", default=True):
        raise UnsupportedQuery("records with a CSV header are not supported", fix="Write without_header = 'true'.")
    return {"\\t": "\t", "tab": "\t"}.get(options.get("delimiter", ","), options.get("delimiter", ","))


def _value_sql(field: str, type_: SqlType) -> str:
    if type_.name in ("varchar", "unknown"):
        return field
    if type_.name == "bool":
        return f"TRY_CAST({field} AS BOOLEAN)"
    if type_.name == "jsonb":
        return f"CASE WHEN json_valid({field}) THEN {field}::JSON END"
    return f"CASE WHEN {field} <> '' THEN {json_value_sql(f'to_json({field})', type_, 'utc_string')} END"


def _kept(keep: Mapping[str, str] | None) -> str:
    return "".join(f"{quote_identifier(raw)} AS {quote_identifier(alias)}, " for raw, alias in (keep or {}).items())
