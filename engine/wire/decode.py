"""Parameters of Bind (and fields of COPY): bytes in text or binary format to Python values.

A timestamp with time zone becomes a naive datetime in UTC, as it is stored. An interval becomes a timedelta, or its text when
it has months. A struct becomes a dict by field name. A value whose type nobody knows stays the text that the client sent.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from math import prod

from engine.sql.errors import SqlError
from engine.sql.types import UNKNOWN, SqlType
from engine.wire.literals import parse_array, parse_row
from engine.wire.messages import ProtocolViolation, Reader
from engine.wire.oids import JSON_OID, type_of
from engine.wire.values import EPOCH_DAYS, EPOCH_MICROSECONDS, decimal_from_binary, interval_value

_UNIX_DAY = date(1970, 1, 1)
_UNIX_SECOND = datetime(1970, 1, 1)  # noqa: DTZ001  # naive UTC is how instants are stored here
_BOOLEANS = dict.fromkeys(("t", "tr", "tru", "true", "y", "ye", "yes", "on", "1"), True) | dict.fromkeys(
    ("f", "fa", "fal", "fals", "false", "n", "no", "of", "off", "0"), False
)
_INTEGER_BITS = {"int2": 16, "int4": 32, "int8": 64, "serial": 64}
_MAX_WHOLE, _MAX_FRACTION = 131_072, 16_383
"""PostgreSQL's limits of a numeric's digits before and after the point."""
_INTERVAL_PART = re.compile(r"([+-]?\d+(?:\.\d+)?)\s*([a-z]+)|([+-]?)(\d+):(\d\d)(?::(\d\d(?:\.\d{1,6})?))?", re.IGNORECASE)
_MONTH_UNITS = {"mon": 1, "mons": 1, "month": 1, "months": 1, "y": 12, "year": 12, "years": 12, "yr": 12, "yrs": 12}
_DAY_UNITS = {"d": 1, "day": 1, "days": 1, "w": 7, "week": 7, "weeks": 7}
_DAY_MICROSECONDS = 86_400_000_000
_MICROSECOND_UNITS = {
    "h": 3_600_000_000, "hour": 3_600_000_000, "hours": 3_600_000_000, "m": 60_000_000, "min": 60_000_000, "mins": 60_000_000,
    "minute": 60_000_000, "minutes": 60_000_000, "s": 1_000_000, "sec": 1_000_000, "secs": 1_000_000, "second": 1_000_000,
    "seconds": 1_000_000, "ms": 1_000, "millisecond": 1_000, "milliseconds": 1_000, "us": 1, "microsecond": 1, "microseconds": 1,
}  # fmt: skip


def decode(type_: SqlType | None, oid: int, format_: int, data: bytes | None) -> object:
    """One parameter.

    Args:
        type_: what the statement wants; None or `unknown` keeps the text.
        oid: what the client said it sends (0: the same as `type_`); it alone rules how binary bytes are read.
        format_: 0 text, 1 binary.
        data: None for NULL.

    Raises:
        SqlError: the bytes are no value of the type (22P02, 22P03, 22003, 22007, 22008, 22021).
    """
    if data is None:
        return None
    if format_ == 0:
        return decode_text(type_ if type_ is not None else UNKNOWN, _utf8(data))
    return decode_binary(type_of(oid) if oid else type_, oid, data)


def decode_text(type_: SqlType, text: str) -> object:
    """A value from its text form."""
    try:
        return _TEXT[type_.name](type_, text)
    except SqlError:
        raise
    except OverflowError as error:
        code = "22003" if type_.is_numeric else "22008"
        raise SqlError(f"value out of range for type {type_.sql}: `{_short(text)}`", sqlstate=code) from error
    except (ValueError, InvalidOperation) as error:
        code = "22007" if type_.name in ("date", "time", "timestamp", "timestamptz", "interval") else "22P02"
        raise SqlError(f"invalid input syntax for type {type_.sql}: `{_short(text)}`", sqlstate=code) from error


def decode_binary(type_: SqlType | None, oid: int, data: bytes) -> object:
    """A value from its binary form."""
    if type_ is None:
        raise SqlError(
            f"a binary value of type oid {oid} cannot be read",
            sqlstate="42704",
            fix="Send the parameter in text format, or cast it in the statement.",
        )
    try:
        if oid == JSON_OID:
            return _utf8(data)
        return _BINARY[type_.name](type_, data)
    except SqlError:
        raise
    except OverflowError as error:
        raise SqlError(f"value out of range for type {type_.sql}", sqlstate="22008") from error
    except (ValueError, struct.error, ProtocolViolation) as error:
        raise SqlError(f"incorrect binary data for type {type_.sql}: {error}", sqlstate="22P03") from error


def _utf8(data: bytes) -> str:
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise SqlError("invalid byte sequence for encoding UTF8", sqlstate="22021") from error
    if "\0" in text:
        raise SqlError("invalid byte sequence for encoding UTF8: 0x00", sqlstate="22021")
    return text


def _short(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "..."


def _boolean(_: SqlType, text: str) -> bool:
    value = _BOOLEANS.get(text.strip().lower())
    if value is None:
        raise ValueError("no boolean")
    return value


def _integer(type_: SqlType, text: str) -> int:
    if "_" in text or not text.isascii():
        raise ValueError("no integer")
    return _in_range(type_, int(text))


def _in_range(type_: SqlType, value: int) -> int:
    limit = 1 << (_INTEGER_BITS[type_.name] - 1)
    if not -limit <= value < limit:
        raise SqlError(f"value `{value}` is out of range for type {type_.sql}", sqlstate="22003")
    return value


def _float(type_: SqlType, text: str) -> float:
    if "_" in text or not text.isascii():
        raise ValueError("no number")
    value = float(text)
    if type_.name == "float4":
        # Rounded to what a float4 holds; beyond its range `pack` raises OverflowError.
        value = struct.unpack("f", struct.pack("f", value))[0]
    return value


def _numeric(_: SqlType, text: str) -> Decimal:
    value = Decimal(text.strip())
    if "_" in text or value.is_snan():
        raise ValueError("no number")
    if value.is_finite() and not -_MAX_FRACTION <= value.adjusted() <= _MAX_WHOLE:
        raise OverflowError("more digits than PostgreSQL has")
    return value


def _varchar(_: SqlType, text: str) -> str:
    return text


def _bytea(_: SqlType, text: str) -> bytes:
    if text.startswith("\\x"):
        return bytes.fromhex(text[2:])
    out = bytearray()
    pieces = re.split(r"\\(\\|[0-3][0-7]{2})", text)
    for position, piece in enumerate(pieces):
        if position % 2:
            out += b"\\" if piece == "\\" else bytes([int(piece, 8)])
        elif "\\" in piece:
            raise ValueError("a backslash is followed by three octal digits")
        else:
            out += piece.encode()
    return bytes(out)


def _date(_: SqlType, text: str) -> date:
    text = text.strip()
    # A timestamp is cut to its day, as a cast does.
    return date.fromisoformat(text) if len(text) == 10 else datetime.fromisoformat(text).date()


def _time(_: SqlType, text: str) -> time:
    value = time.fromisoformat(text.strip())
    return value.replace(tzinfo=None)


def _timestamp(_: SqlType, text: str) -> datetime:
    return datetime.fromisoformat(text.strip()).replace(tzinfo=None)


def _timestamptz(_: SqlType, text: str) -> datetime:
    text = text.strip()
    if text.upper().endswith(" UTC"):
        text = text[:-4]
    value = datetime.fromisoformat(text)
    return value if value.tzinfo is None else value.astimezone(UTC).replace(tzinfo=None)


def _interval(_: SqlType, text: str) -> timedelta | str:
    return interval_value(*parse_interval(text))


def parse_interval(text: str) -> tuple[int, int, int]:
    """Months, days and microseconds of PostgreSQL's text forms, days and hours kept apart as they are written.

    Raises:
        ValueError: the text is no interval.
    """
    body = text.strip().removeprefix("@").replace(",", " ")
    if not body:
        raise ValueError("no interval")
    months, days, microseconds, at = Decimal(0), Decimal(0), Decimal(0), 0
    for part in _INTERVAL_PART.finditer(body):
        if body[at : part.start()].strip():
            break
        at = part.end()
        amount, unit, sign, hours, minutes, seconds = part.groups()
        if unit is None:
            clock = (int(hours) * 60 + int(minutes)) * 60 + Decimal(seconds or 0)
            microseconds += clock * (-1_000_000 if sign == "-" else 1_000_000)
        elif unit.lower() in _MONTH_UNITS:
            months += Decimal(amount) * _MONTH_UNITS[unit.lower()]
        elif unit.lower() in _DAY_UNITS:
            days += Decimal(amount) * _DAY_UNITS[unit.lower()]
        elif unit.lower() in _MICROSECOND_UNITS:
            microseconds += Decimal(amount) * _MICROSECOND_UNITS[unit.lower()]
        else:
            raise ValueError("no unit of time")
    if body[at:].strip() or months != int(months):
        raise ValueError("no interval")
    microseconds += (days - int(days)) * _DAY_MICROSECONDS
    return int(months), int(days), int(microseconds)


def _list(type_: SqlType, text: str) -> list[object]:
    return _elements(type_, parse_array(text))


def _elements(type_: SqlType, parts: list[object]) -> list[object]:
    element = type_.element
    assert element is not None
    found: list[object] = []
    for part in parts:
        if part is None:
            found.append(None)
        elif isinstance(part, list):
            # PostgreSQL has one array type for all dimensions, so an int[] may hold lists.
            found.append(_elements(element if element.element is not None else type_, part))
        else:
            found.append(decode_text(element, str(part)))
    return found


def _struct(type_: SqlType, text: str) -> dict[str, object]:
    columns = parse_row(text)
    if len(columns) != len(type_.fields):
        raise ValueError(f"{len(columns)} columns where {len(type_.fields)} are wanted")
    return {
        name: None if column is None else decode_text(field, column)
        for (name, field), column in zip(type_.fields, columns, strict=True)
    }


def _unpack(layout: str) -> Callable[[SqlType, bytes], object]:
    reader = struct.Struct(layout)

    def read(_: SqlType, data: bytes) -> object:
        return reader.unpack(data)[0]

    return read


def _binary_boolean(_: SqlType, data: bytes) -> bool:
    if len(data) != 1:
        raise ValueError("a boolean has one byte")
    return data != b"\0"


def _binary_integer(_: SqlType, data: bytes) -> int:
    if len(data) not in (2, 4, 8):
        raise ValueError("an integer has 2, 4 or 8 bytes")
    return int.from_bytes(data, "big", signed=True)


def _binary_date(_: SqlType, data: bytes) -> date:
    return _UNIX_DAY + timedelta(days=struct.unpack("!i", data)[0] + EPOCH_DAYS)


def _binary_time(_: SqlType, data: bytes) -> time:
    microseconds = struct.unpack("!q", data)[0]
    if not 0 <= microseconds < 86_400_000_000:
        raise OverflowError("a time lies within one day")
    return (_UNIX_SECOND + timedelta(microseconds=microseconds)).time()


def _binary_timestamp(_: SqlType, data: bytes) -> datetime:
    return _UNIX_SECOND + timedelta(microseconds=struct.unpack("!q", data)[0] + EPOCH_MICROSECONDS)


def _binary_interval(_: SqlType, data: bytes) -> timedelta | str:
    microseconds, days, months = struct.unpack("!qii", data)
    return interval_value(months, days, microseconds)


def _binary_jsonb(_: SqlType, data: bytes) -> str:
    if data[:1] != b"\x01":
        raise ValueError("jsonb begins with its version, 1")
    return _utf8(data[1:])


def _binary_list(_: SqlType, data: bytes) -> list[object]:
    reader = Reader(data)
    dimensions, _has_nulls, oid = reader.int32(), reader.int32(), reader.uint32()
    if not 0 <= dimensions <= 6:
        raise ValueError("an array has at most 6 dimensions")
    sizes = []
    for _dimension in range(dimensions):
        sizes.append(reader.int32())
        reader.int32()
    element = type_of(oid)
    if not sizes or 0 in sizes:
        return []
    if min(sizes) < 0 or prod(sizes) * 4 > len(data):
        raise ValueError("the dimensions of an array contradict its length")
    if element is not None and element.element is not None:
        raise ValueError("an array says that its elements are arrays")
    return _binary_level(reader, sizes, element, oid)


def _binary_level(reader: Reader, sizes: list[int], element: SqlType | None, oid: int) -> list[object]:
    if len(sizes) > 1:
        return [_binary_level(reader, sizes[1:], element, oid) for _ in range(sizes[0])]
    found: list[object] = []
    for _ in range(sizes[0]):
        data = reader.value()
        found.append(None if data is None else decode_binary(element, oid, data))
    return found


def _binary_struct(type_: SqlType, data: bytes) -> dict[str, object]:
    reader = Reader(data)
    if reader.int32() != len(type_.fields):
        raise ValueError(f"{len(type_.fields)} columns are wanted")
    found: dict[str, object] = {}
    for name, field in type_.fields:
        oid, value = reader.uint32(), reader.value()
        found[name] = None if value is None else decode_binary(type_of(oid) or field, oid, value)
    return found


def _binary_varchar(_: SqlType, data: bytes) -> str:
    return _utf8(data)


def _binary_bytea(_: SqlType, data: bytes) -> bytes:
    return data


def _binary_numeric(_: SqlType, data: bytes) -> Decimal:
    return decimal_from_binary(data)


_TEXT: dict[str, Callable[[SqlType, str], object]] = {
    "bool": _boolean, "int2": _integer, "int4": _integer, "int8": _integer, "serial": _integer, "float4": _float,
    "float8": _float, "numeric": _numeric, "varchar": _varchar, "unknown": _varchar, "jsonb": _varchar, "bytea": _bytea,
    "date": _date, "time": _time, "timestamp": _timestamp, "timestamptz": _timestamptz, "interval": _interval, "list": _list,
    "struct": _struct, "int256": _varchar, "map": _varchar,
}  # fmt: skip
_BINARY: dict[str, Callable[[SqlType, bytes], object]] = {
    "bool": _binary_boolean, "int2": _binary_integer, "int4": _binary_integer, "int8": _binary_integer,
    "serial": _binary_integer, "float4": _unpack("!f"), "float8": _unpack("!d"), "numeric": _binary_numeric,
    "varchar": _binary_varchar, "unknown": _binary_varchar, "jsonb": _binary_jsonb, "bytea": _binary_bytea,
    "date": _binary_date, "time": _binary_time, "timestamp": _binary_timestamp, "timestamptz": _binary_timestamp,
    "interval": _binary_interval, "list": _binary_list, "struct": _binary_struct,
    "int256": _binary_varchar, "map": _binary_varchar,
}  # fmt: skip
