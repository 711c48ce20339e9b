"""String functions and operators.

Source: RisingWave documentation, "String functions and operators"; PostgreSQL documentation, 9.4.
"""

from __future__ import annotations

import hmac
import re
import unicodedata
from collections.abc import Callable

from engine.functions.casts import text_of
from engine.functions.native import ValueFault, native
from engine.functions.registry import FunctionTable
from engine.sql.types import SqlType

_WORD = re.compile(r"[^\W_]+")
_FORMAT = re.compile(r"%(?:(\d+)\$)?(-)?(\d+)?([sIL%])|%(.?)")
_PLAIN_NAME = re.compile(r"[a-z_][a-z0-9_$]*")


@native("hr_initcap", "VARCHAR", returns="VARCHAR")
def _initcap(text: str) -> str:
    return _WORD.sub(lambda found: found[0][0].upper() + found[0][1:].lower(), text)


@native("hr_lower", "VARCHAR", returns="VARCHAR")
def _lower(text: str) -> str:
    return text.lower()


@native("hr_upper", "VARCHAR", returns="VARCHAR")
def _upper(text: str) -> str:
    return text.upper()


@native("hr_translate", "VARCHAR", "VARCHAR", "VARCHAR", returns="VARCHAR")
def _translate(text: str, from_: str, to: str) -> str:
    table: dict[int, str | None] = {}
    for position, character in enumerate(from_):
        table.setdefault(ord(character), to[position] if position < len(to) else None)
    return text.translate(table)


@native("hr_overlay", "VARCHAR", "VARCHAR", "INTEGER", "INTEGER", returns="VARCHAR")
def _overlay(text: str, new: str, start: int, count: int) -> str:
    if start <= 0:
        raise ValueFault("22011", "negative substring length not allowed")
    return text[: start - 1] + new + text[max(start - 1 + count, 0) :]


@native("hr_substr", "VARCHAR", "INTEGER", "INTEGER", returns="VARCHAR")
def _substr(text: str, start: int, count: int) -> str:
    if count < 0:
        raise ValueFault("22011", "negative substring length not allowed")
    return text[max(start - 1, 0) : max(start - 1 + count, 0)]


@native("hr_split_part", "VARCHAR", "VARCHAR", "INTEGER", returns="VARCHAR")
def _split_part(text: str, delimiter: str, number: int) -> str:
    if number == 0:
        raise ValueFault("22023", "field position must not be zero")
    parts = text.split(delimiter) if delimiter else [text]
    at = number - 1 if number > 0 else number
    return parts[at] if -len(parts) <= at < len(parts) else ""


_LONGEST = 1 << 26
"""Characters of a text that padding or repeating may make: the store's memory is bounded."""


@native("hr_string_agg", "STRUCT(v VARCHAR, d VARCHAR)[]", returns="VARCHAR")
def _string_agg(parts: list[dict[str, str | None]]) -> str | None:
    """Each value after the first behind its own delimiter, if that is not NULL."""
    texts = [(part["d"] or "", part["v"]) for part in parts if part["v"] is not None]
    return "".join(value if i == 0 else delimiter + value for i, (delimiter, value) in enumerate(texts)) if texts else None


@native("hr_pad", "VARCHAR", "INTEGER", "VARCHAR", "BOOLEAN", returns="VARCHAR")
def _pad(text: str, length: int, fill: str, left: bool) -> str:
    if length <= len(text) or not fill:
        return text[: max(length, 0)]
    if length > _LONGEST:
        raise ValueFault("54000", "requested length too large")
    lacking = length - len(text)
    padding = (fill * (lacking // len(fill) + 1))[:lacking]
    return padding + text if left else text + padding


@native("hr_chr", "INTEGER", returns="VARCHAR")
def _chr(code: int) -> str:
    if code == 0:
        raise ValueFault("54000", "null character not permitted")
    try:
        return chr(code).encode().decode()
    except (ValueError, UnicodeEncodeError) as error:
        raise ValueFault("54000", f"requested character not valid for encoding: {code}") from error


@native("hr_format", "VARCHAR", "VARCHAR[]", returns="VARCHAR")
def _format(pattern: str, values: list[str | None]) -> str:
    at = 0

    def fill(found: re.Match[str]) -> str:
        nonlocal at
        number, left, width, kind, _wrong = found.groups()
        if kind is None:
            raise ValueFault("22023", f'unrecognized format() type specifier "{found[5]}"')
        if kind == "%":
            return "%"
        at = int(number) if number else at + 1
        if not 1 <= at <= len(values):
            raise ValueFault("22023", "too few arguments for format()")
        value = values[at - 1]
        if kind == "I" and value is None:
            raise ValueFault("22004", "null values cannot be formatted as an SQL identifier")
        text = ("NULL" if value is None else _quote_literal(value)) if kind == "L" else value or ""
        text = _quote_ident(text) if kind == "I" else text
        return (text.ljust(int(width)) if left else text.rjust(int(width))) if width else text

    return _FORMAT.sub(fill, pattern)


@native("hr_secure_compare", "VARCHAR", "VARCHAR", returns="BOOLEAN")
def _secure_compare(left: str, right: str) -> bool:
    """Takes as long for texts that differ as for the same ones."""
    return hmac.compare_digest(left.encode(), right.encode())


@native("hr_quote_ident", "VARCHAR", returns="VARCHAR")
def _quote_ident(text: str) -> str:
    return text if _PLAIN_NAME.fullmatch(text) else '"' + text.replace('"', '""') + '"'


@native("hr_quote_literal", "VARCHAR", returns="VARCHAR")
def _quote_literal(text: str) -> str:
    quoted = "'" + text.replace("'", "''").replace("\\", "\\\\") + "'"
    return "E" + quoted if "\\" in text else quoted


@native("hr_to_ascii", "VARCHAR", returns="VARCHAR")
def _to_ascii(text: str) -> str:
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()


@native("hr_string_to_array", "VARCHAR", "VARCHAR", "VARCHAR", returns="VARCHAR[]", nulls=True)
def _string_to_array(text: str | None, delimiter: str | None, null: str | None) -> list[str | None] | None:
    if text is None:
        return None
    if delimiter is None:
        parts = list(text)
    else:
        parts = [] if not text else [text] if not delimiter else text.split(delimiter)
    return [None if null is not None and part == null else part for part in parts]


def _texts(sql: str, type_: SqlType) -> str:
    """The elements of an array as texts."""
    assert type_.element is not None
    return f"list_transform({sql}, lambda x: {text_of('x', type_.element)})"


def _rest(function: str) -> Callable[[tuple[SqlType, ...]], str]:
    def write(types: tuple[SqlType, ...]) -> str:
        rest = ", ".join(f"{{{i}}}" for i in range(1, len(types)))
        return f"{function}({{0}}, CAST([{rest}] AS VARCHAR[]))"

    return write


def declare(t: FunctionTable) -> None:
    t.add("||", "varchar, varchar -> varchar", "({0} || {1})")
    t.add("||", "varchar, anytext -> varchar", "({0} || {1})")
    t.add("||", "anytext, varchar -> varchar", "({0} || {1})")
    t.add("reverse", "varchar -> varchar", "reverse({0})")
    for name in ("lower", "upper"):
        # Beyond ASCII a letter may become two, which DuckDB does not know.
        t.add(
            name,
            "varchar -> varchar",
            f"(CASE WHEN strlen({{0}}) = length({{0}}) THEN {name}({{0}}) ELSE hr_{name}({{0}}) END)",
        )
    for name in ("length", "char_length", "character_length"):
        t.add(name, "varchar -> int4", "CAST(length({0}) AS INTEGER)")
    t.add("octet_length", "varchar -> int4", "CAST(strlen({0}) AS INTEGER)")
    t.add("bit_length", "varchar -> int4", "CAST(strlen({0}) * 8 AS INTEGER)")
    for name in ("substr", "substring"):
        t.add(name, "varchar, int4 -> varchar", "substr({0}, greatest({1}, 1))")
        t.add(name, "varchar, int4, int4 -> varchar", "hr_substr({0}, {1}, {2})")
    t.add("substring", "varchar, varchar -> varchar", "hr_regexp_substr({0}, {1})")
    t.add("replace", "varchar, varchar, varchar -> varchar", "(CASE WHEN {1} = '' THEN {0} ELSE replace({0}, {1}, {2}) END)")
    t.add("split_part", "varchar, varchar, int4 -> varchar", "hr_split_part({0}, {1}, {2})")
    for name in ("position", "strpos"):
        t.add(name, "varchar, varchar -> int4", "CAST(strpos({0}, {1}) AS INTEGER)")
    for name in ("starts_with", "^@"):
        t.add(name, "varchar, varchar -> bool", "starts_with({0}, {1})")
    t.add("secure_compare", "varchar, varchar -> bool", "hr_secure_compare({0}, {1})")
    t.add("ends_with", "varchar, varchar -> bool", "ends_with({0}, {1})")
    t.add("concat", "anytext, anytext... -> varchar", "concat({*})")
    t.add("concat_ws", "varchar, anytext, anytext... -> varchar", "concat_ws({*})")
    t.add("format", "varchar, anytext... -> varchar", _rest("hr_format"))
    t.add("format variadic", "varchar, anyarray -> varchar", lambda types: f"hr_format({{0}}, {_texts('{1}', types[1])})")
    for name in ("trim", "ltrim", "rtrim", "btrim"):
        function = "trim" if name == "btrim" else name
        t.add(name, "varchar -> varchar", f"{function}({{0}}, ' ')")
        t.add(name, "varchar, varchar -> varchar", f"{function}({{0}}, {{1}})")
    for name, left in (("lpad", "true"), ("rpad", "false")):
        t.add(name, "varchar, int4 -> varchar", f"hr_pad({{0}}, {{1}}, ' ', {left})")
        t.add(name, "varchar, int4, varchar -> varchar", f"hr_pad({{0}}, {{1}}, {{2}}, {left})")
    t.add("left", "varchar, int4 -> varchar", "left({0}, {1})")
    t.add("right", "varchar, int4 -> varchar", "right({0}, {1})")
    too_long = "CAST(hr_fail('54000', 'requested length too large') AS VARCHAR)"
    t.add(
        "repeat",
        "varchar, int4 -> varchar",
        f"(CASE WHEN strlen({{0}}) * CAST({{1}} AS BIGINT) > {_LONGEST} THEN {too_long} ELSE repeat({{0}}, {{1}}) END)",
    )
    t.add("initcap", "varchar -> varchar", "hr_initcap({0})")
    t.add("translate", "varchar, varchar, varchar -> varchar", "hr_translate({0}, {1}, {2})")
    t.add("overlay", "varchar, varchar, int4 -> varchar", "hr_overlay({0}, {1}, {2}, CAST(length({1}) AS INTEGER))")
    t.add("overlay", "varchar, varchar, int4, int4 -> varchar", "hr_overlay({0}, {1}, {2}, {3})")
    t.add("ascii", "varchar -> int4", "(CASE WHEN {0} <> '' THEN CAST(unicode({0}) AS INTEGER) END)")
    t.add("chr", "int4 -> varchar", "hr_chr({0})")
    for type_ in ("int4", "int8"):
        bits = "CAST({0} & 4294967295::BIGINT AS BIGINT)" if type_ == "int4" else "{0}"
        t.add("to_hex", f"{type_} -> varchar", f"lower(printf('%x', {bits}))")
    t.add("to_ascii", "varchar -> varchar", "hr_to_ascii({0})")
    t.add("quote_ident", "varchar -> varchar", "hr_quote_ident({0})")
    t.add("quote_literal", "anytext -> varchar", "hr_quote_literal({0})")
    t.add("quote_nullable", "anytext -> varchar", "coalesce(hr_quote_literal({0}), 'NULL')")
    t.add("string_to_array", "varchar, varchar -> varchar[]", "hr_string_to_array({0}, {1}, NULL)")
    t.add("string_to_array", "varchar, varchar, varchar -> varchar[]", "hr_string_to_array({0}, {1}, {2})")
