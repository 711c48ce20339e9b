"""DuckDB expressions that read one JSON value as one SQL type; NULL says that the value does not fit.

The JSON value is never SQL NULL and never JSON null here: callers handle both, because they mean NULL and not an error.
"""

from __future__ import annotations

from collections.abc import Callable

from engine.sql.types import SqlType

_INTEGERS = "('UBIGINT', 'BIGINT')"
_NUMBERS = "('UBIGINT', 'BIGINT', 'DOUBLE')"
STRING_LITERAL = r'"(\\.|[^"\\])*"'
_ZONE = r"\d{4,}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d([.,]\d+)?)? ?([zZ]|[+-]\d\d(:?\d\d)?)"
_NO_ZONE = r"\d{4,}-\d\d-\d\d([Tt ]\d\d:\d\d(:\d\d([.,]\d+)?)? ?([zZ]|[+-]\d\d(:?\d\d)?)?)?"


def quote_identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def quote_text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def json_value_sql(value: str, type_: SqlType, timestamptz_mode: str, depth: int = 0) -> str:
    """An expression of physical type `type_.duckdb` for the JSON expression `value`; NULL if it does not fit.

    Args:
        value: a cheap expression (a column or lambda variable): it is repeated.
        timestamptz_mode: see `json_decode.TIMESTAMPTZ_MODES`.
        depth: nesting depth, which names lambda variables apart.
    """
    if type_.name == "list":
        return _list_sql(value, type_, timestamptz_mode, depth)
    if type_.name == "struct":
        return _struct_sql(value, type_, timestamptz_mode, depth)
    return _SCALARS[type_.name](value, type_, timestamptz_mode)


def timestamptz_text_sql(text: str, mode: str) -> str:
    """A string with a zone as naive UTC; NULL for any other string.

    Casting to TIMESTAMP ignores the zone, which is right for `Z` and saves the slower cast.
    """
    if mode == "utc_without_suffix":
        return _timestamp_text_sql(text)
    zoned = f"make_timestamp(epoch_us(TRY_CAST(upper({text}) AS TIMESTAMPTZ)))"
    return (
        f"CASE WHEN ends_with({text}, 'Z') THEN TRY_CAST({text} AS TIMESTAMP)"
        f" WHEN regexp_full_match({text}, {quote_text(_ZONE)}) THEN {zoned} END"
    )


def _timestamp_text_sql(text: str) -> str:
    # Words such as `infinity` or `epoch` are DuckDB's, not RisingWave's. A zone is read and ignored, as PostgreSQL does.
    return f"CASE WHEN regexp_full_match({text}, {quote_text(_NO_ZONE)}) THEN TRY_CAST({text} AS TIMESTAMP) END"


def _text(value: str) -> str:
    return f"({value} ->> '$')"


def _kind(value: str) -> str:
    return f"json_type({value})"


def _bool(value: str, _type: SqlType, _mode: str) -> str:
    return f"CASE {value}::VARCHAR WHEN 'true' THEN TRUE WHEN 'false' THEN FALSE END"


def _integer(value: str, type_: SqlType, _mode: str) -> str:
    text = _text(value)
    fits = f"{_kind(value)} IN {_INTEGERS} OR ({_kind(value)} = 'VARCHAR' AND regexp_full_match({text}, '[+-]?[0-9]+'))"
    return f"CASE WHEN {fits} THEN TRY_CAST({text} AS {type_.duckdb}) END"


def _float(value: str, type_: SqlType, _mode: str) -> str:
    number = f"TRY_CAST({_text(value)} AS {type_.duckdb})"
    # A number that overflows is refused; a string may say `NaN` or `inf`.
    return f"CASE WHEN {_kind(value)} IN {_NUMBERS} AND isfinite({number}) THEN {number} WHEN {_kind(value)} = 'VARCHAR' THEN {number} END"


def _numeric(value: str, _type: SqlType, _mode: str) -> str:
    return f"CASE WHEN {_kind(value)} IN ('UBIGINT', 'BIGINT', 'DOUBLE', 'VARCHAR') THEN TRY(hr_numeric_finite({_text(value)})) END"


def _varchar(value: str, _type: SqlType, _mode: str) -> str:
    return f"CASE WHEN {_kind(value)} NOT IN ('OBJECT', 'ARRAY') THEN {_text(value)} END"


def _from_text(value: str, expression: str) -> str:
    return f"CASE WHEN {_kind(value)} = 'VARCHAR' THEN {expression} END"


def _date(value: str, _type: SqlType, _mode: str) -> str:
    text = _text(value)
    day = f"CASE WHEN regexp_full_match({text}, '\\d{{4,}}-\\d\\d-\\d\\d') THEN TRY_CAST({text} AS DATE) END"
    from_days = f"DATE '1970-01-01' + TRY_CAST({text} AS INTEGER)"
    return f"CASE {_kind(value)} WHEN 'VARCHAR' THEN {day} {_when_integer(from_days)} END"


def _time(value: str, _type: SqlType, _mode: str) -> str:
    text = _text(value)
    of_day = f"CASE WHEN regexp_full_match({text}, '\\d\\d:\\d\\d(:\\d\\d([.]\\d+)?)?[zZ]?') THEN TRY_CAST(rtrim({text}, 'zZ') AS TIME) END"
    micros = f"TRY_CAST({text} AS BIGINT)"
    from_micros = f"CASE WHEN {micros} BETWEEN 0 AND 86399999999 THEN TIME '00:00:00' + to_microseconds({micros}) END"
    return f"CASE {_kind(value)} WHEN 'VARCHAR' THEN {of_day} {_when_integer(from_micros)} END"


def _timestamp(value: str, _type: SqlType, _mode: str) -> str:
    return (
        f"CASE {_kind(value)} WHEN 'VARCHAR' THEN {_timestamp_text_sql(_text(value))} {_when_integer(_guess_unit(value))} END"
    )


def _timestamptz(value: str, _type: SqlType, mode: str) -> str:
    number = _text(value)
    by_number = {
        "guess_number_unit": _guess_unit(value),
        "micro": f"make_timestamp(TRY_CAST({number} AS BIGINT))",
        "milli": f"make_timestamp(TRY_CAST(TRY_CAST({number} AS HUGEINT) * 1000 AS BIGINT))",
    }.get(mode, "NULL::TIMESTAMP")
    return f"CASE {_kind(value)} WHEN 'VARCHAR' THEN {timestamptz_text_sql(number, mode)} {_when_integer(by_number)} END"


def _guess_unit(value: str) -> str:
    """Unix time as naive UTC; below 1e11 seconds, below 1e14 milliseconds, below 1e17 microseconds, else nanoseconds."""
    number = f"TRY_CAST({_text(value)} AS BIGINT)"
    return (
        f"CASE WHEN {number} < 0 THEN NULL WHEN {number} < 100000000000 THEN make_timestamp({number} * 1000000)"
        f" WHEN {number} < 100000000000000 THEN make_timestamp({number} * 1000)"
        f" WHEN {number} < 100000000000000000 THEN make_timestamp({number}) ELSE make_timestamp({number} // 1000) END"
    )


def _when_integer(expression: str) -> str:
    return f"WHEN 'UBIGINT' THEN {expression} WHEN 'BIGINT' THEN {expression}"


def _interval(value: str, _type: SqlType, _mode: str) -> str:
    return _from_text(value, f"TRY_CAST({_text(value)} AS INTERVAL)")


def _bytea(value: str, _type: SqlType, _mode: str) -> str:
    """PostgreSQL's input forms. The escape form is handled as far as text without backslash, and `\\\\` for a backslash."""
    text = _text(value)
    hexadecimal = f"regexp_replace(substr({text}, 3), '[ \\t\\n\\r]', '', 'g')"
    escaped = f"CASE WHEN contains(replace({text}, '\\\\', ''), '\\') THEN NULL ELSE encode(replace({text}, '\\\\', '\\')) END"
    unhexed = f"CASE WHEN regexp_full_match({hexadecimal}, '([0-9a-fA-F]{{2}})*') THEN unhex({hexadecimal}) END"
    return _from_text(value, f"CASE WHEN starts_with({text}, '\\x') THEN {unhexed} ELSE {escaped} END")


def _jsonb(value: str, _type: SqlType, _mode: str) -> str:
    """The text itself, minified; NaN and infinity, which DuckDB's reader lets pass, are no JSON."""
    stripped = f"regexp_replace({value}, {quote_text(STRING_LITERAL)}, '', 'g')"
    return f"CASE WHEN regexp_matches({value}, '(?i)nan|inf') AND regexp_matches({stripped}, '(?i)nan|inf') THEN NULL ELSE {value} END"


def _list_sql(value: str, type_: SqlType, mode: str, depth: int) -> str:
    assert type_.element is not None
    element = f"_e{depth}"
    read = json_value_sql(element, type_.element, mode, depth + 1)
    elements = f"json_extract({value}, '$[*]')"
    good = f"list_transform({elements}, lambda {element}: CASE WHEN {element} <> 'null' THEN {read} END)::{type_.duckdb}"
    bad = f"len(list_filter({elements}, lambda {element}: {element} <> 'null' AND ({read}) IS NULL))"
    return f"CASE WHEN {_kind(value)} = 'ARRAY' AND {bad} = 0 THEN {good} END"


def _struct_sql(value: str, type_: SqlType, mode: str, depth: int) -> str:
    """An object, or a string that holds one. Fields are read inside a one-element list, which names the object once."""
    outer, row = f"_o{depth}", f"_r{depth}"
    names = [name for name, _ in type_.fields]
    values = [f"{row}[{i + 1}]" for i in range(len(names))]
    reads = [
        json_value_sql(one, field_type, mode, depth + 1) for one, (_, field_type) in zip(values, type_.fields, strict=True)
    ]
    bad = " OR ".join(f"({one} <> 'null' AND ({read}) IS NULL)" for one, read in zip(values, reads, strict=True)) or "FALSE"
    packed = ", ".join(
        f"{quote_identifier(name)} := CASE WHEN {one} <> 'null' THEN {read} END"
        for name, one, read in zip(names, values, reads, strict=True)
    )
    text = _text(value)
    unwrapped = (
        f"CASE WHEN {_kind(value)} = 'OBJECT' THEN {value} WHEN {_kind(value)} = 'VARCHAR' AND json_valid({text})"
        f" THEN CASE WHEN json_type({text}) = 'OBJECT' THEN {text}::JSON END END"
    )
    found = f"list_transform([{unwrapped}], lambda {outer}: [{', '.join(_field_sql(outer, name) for name in names)}])"
    built = f"list_transform({found}, lambda {row}: CASE WHEN {bad} THEN NULL ELSE struct_pack({packed}) END)[1]"
    return f"CASE WHEN ({unwrapped}) IS NOT NULL THEN {built}::{type_.duckdb} END"


def _field_sql(value: str, name: str) -> str:
    pointer = "/" + name.replace("~", "~0").replace("/", "~1")
    same = f"list_filter(json_keys({value}), lambda _k: lower(_k) = {quote_text(name.lower())})[1]"
    escaped = f"replace(replace({same}, '~', '~0'), '/', '~1')"
    return f"coalesce(json_extract({value}, {quote_text(pointer)}), json_extract({value}, '/' || {escaped}))"


_SCALARS: dict[str, Callable[[str, SqlType, str], str]] = {
    "bool": _bool, "int2": _integer, "int4": _integer, "int8": _integer, "serial": _integer, "numeric": _numeric,
    "float4": _float, "float8": _float, "varchar": _varchar, "unknown": _varchar, "date": _date, "time": _time,
    "timestamp": _timestamp, "timestamptz": _timestamptz, "interval": _interval, "bytea": _bytea, "jsonb": _jsonb,
}  # fmt: skip
