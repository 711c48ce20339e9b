"""Text to value and value to text, where DuckDB's forms are not RisingWave's: what the casts call.

Source: PostgreSQL documentation, chapter 8 (input and output syntax of each type); RisingWave's forms where they differ.
"""

from __future__ import annotations

import math
import re
import struct

from engine.functions.native import ValueFault, native
from engine.sql.errors import SqlError
from engine.sql.intervals import parse_interval
from engine.wire.literals import parse_array, parse_row
from engine.wire.values import float_text, interval_text

_BITS = {"int2": 16, "int4": 32, "int8": 64, "serial": 64}
_NAMES = {"int2": "smallint", "int4": "integer", "int8": "bigint", "serial": "bigint"}
_INTEGER = re.compile(r"[+-]?[0-9]+")
_FLOAT = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_FLOAT_WORDS = {
    "nan": math.nan, "inf": math.inf, "+inf": math.inf, "-inf": -math.inf, "infinity": math.inf, "+infinity": math.inf,
    "-infinity": -math.inf,
}  # fmt: skip
_TRUE = frozenset(("t", "tr", "tru", "true", "y", "ye", "yes", "on", "1"))
_FALSE = frozenset(("f", "fa", "fal", "fals", "false", "n", "no", "of", "off", "0"))


def wrong_input(type_: str, text: str, sqlstate: str = "22P02") -> ValueFault:
    return ValueFault(sqlstate, f'invalid input syntax for type {type_}: "{text}"')


@native("hr_fail", "VARCHAR", "VARCHAR", returns="BOOLEAN")
def _fail(sqlstate: str, what: str) -> bool:
    raise ValueFault(sqlstate, what)


@native("hr_integer", "VARCHAR", "VARCHAR", returns="BIGINT")
def _integer(text: str, type_: str) -> int:
    if not _INTEGER.fullmatch(text.strip(" \t\n\r\f\v")):
        raise wrong_input(_NAMES[type_], text)
    value, limit = int(text), 1 << (_BITS[type_] - 1)
    if not -limit <= value < limit:
        raise ValueFault("22003", f'value "{text}" is out of range for type {_NAMES[type_]}')
    return value


@native("hr_float8", "VARCHAR", returns="DOUBLE")
def _float8(text: str) -> float:
    stripped = text.strip()
    if _FLOAT.fullmatch(stripped):
        value = float(stripped)
        if math.isinf(value):
            raise ValueFault("22003", f'"{text}" is out of range for type double precision')
        return value
    word = _FLOAT_WORDS.get(stripped.lower())
    if word is None:
        raise wrong_input("double precision", text)
    return word


@native("hr_float4", "VARCHAR", returns="FLOAT")
def _float4(text: str) -> float:
    stripped = text.strip()
    if not _FLOAT.fullmatch(stripped) and stripped.lower() not in _FLOAT_WORDS:
        raise wrong_input("real", text)
    try:
        return float(struct.unpack("f", struct.pack("f", float(stripped)))[0])
    except OverflowError as error:
        raise ValueFault("22003", f'"{text}" is out of range for type real') from error


@native("hr_boolean", "VARCHAR", returns="BOOLEAN")
def _boolean(text: str) -> bool:
    word = text.strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise wrong_input("boolean", text)


@native("hr_interval", "VARCHAR", returns="VARCHAR")
def _interval(text: str) -> str:
    try:
        value = parse_interval(text)
    except SqlError as error:
        raise wrong_input("interval", text, "22007") from error
    return f"{value.months} months {value.days} days {value.microseconds} microseconds"


@native("hr_bytea", "VARCHAR", returns="BLOB")
def _bytea(text: str) -> bytes:
    if text.startswith("\\x"):
        try:
            return bytes.fromhex(text[2:])
        except ValueError as error:
            raise ValueFault("22P02", f'invalid hexadecimal data: "{text}"') from error
    return octal_bytes(text)


def octal_bytes(text: str) -> bytes:
    """`bytea` in escape format: a backslash stands before another one or before three octal digits."""
    out = bytearray()
    pieces = re.split(r"\\(\\|[0-3][0-7]{2})", text)
    for position, piece in enumerate(pieces):
        if position % 2:
            out += b"\\" if piece == "\\" else bytes([int(piece, 8)])
        elif "\\" in piece:
            raise wrong_input("bytea", text)
        else:
            out += piece.encode()
    return bytes(out)


@native("hr_float8_text", "DOUBLE", returns="VARCHAR")
def _float8_text(value: float) -> str:
    return float_text(value, single=False)


@native("hr_float4_text", "FLOAT", returns="VARCHAR")
def _float4_text(value: float) -> str:
    return float_text(value, single=True)


@native("hr_interval_text", "BIGINT", "BIGINT", "BIGINT", returns="VARCHAR")
def _interval_text(months: int, days: int, microseconds: int) -> str:
    return interval_text(months, days, microseconds)


_QUOTED_CELL = re.compile(r'[{}",\\\s]|^null$|^$', re.IGNORECASE)
_QUOTED_FIELD = re.compile(r'[()",\\\s]|^$')


@native("hr_array_text", "VARCHAR[]", "BOOLEAN", returns="VARCHAR")
def _array_text(cells: list[str | None], plain: bool) -> str:
    return "{" + ",".join("NULL" if cell is None else cell if plain else array_cell(cell) for cell in cells) + "}"


def array_cell(cell: str) -> str:
    """An element in quotes where an array needs them."""
    if not _QUOTED_CELL.search(cell):
        return cell
    return '"' + cell.replace("\\", "\\\\").replace('"', '\\"') + '"'


@native("hr_row_text", "VARCHAR[]", returns="VARCHAR")
def _row_text(cells: list[str | None]) -> str:
    return "(" + ",".join("" if cell is None else _row_cell(cell) for cell in cells) + ")"


def _row_cell(cell: str) -> str:
    if not _QUOTED_FIELD.search(cell):
        return cell
    return '"' + cell.replace("\\", "\\\\").replace('"', '""') + '"'


@native("hr_array_parse", "VARCHAR", returns="VARCHAR[]")
def _array_parse(text: str) -> list[str | None]:
    try:
        return [_element_text(element) for element in parse_array(text)]
    except ValueError as error:
        raise ValueFault("22P02", f'malformed array literal: "{text}": {error}') from error


def _element_text(element: object) -> str | None:
    if isinstance(element, list):
        cells = (_element_text(item) for item in element)
        pairs = zip(cells, element, strict=True)
        return "{" + ",".join("NULL" if c is None else c if isinstance(e, list) else array_cell(c) for c, e in pairs) + "}"
    return None if element is None else str(element)


@native("hr_row_parse", "VARCHAR", "INTEGER", returns="VARCHAR[]")
def _row_parse(text: str, width: int) -> list[str | None]:
    try:
        cells = parse_row(text)
    except ValueError as error:
        raise ValueFault("22P02", f'malformed record literal: "{text}": {error}') from error
    if len(cells) != width:
        raise ValueFault("22P02", f'malformed record literal: "{text}": {width} columns are wanted')
    return cells
