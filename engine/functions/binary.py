"""bytea, hashes and encodings.

Source: RisingWave documentation, "Binary functions"; PostgreSQL documentation, 9.5.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import zlib

from engine.functions.native import ValueFault, native
from engine.functions.registry import FunctionTable
from engine.functions.texts import octal_bytes

_LINE = 76
"""Characters of base64 before a line end, as in RFC 2045."""


@native("hr_encode", "BLOB", "VARCHAR", returns="VARCHAR")
def _encode(data: bytes, form: str) -> str:
    match form.lower():
        case "hex":
            return data.hex()
        case "base64":
            text = base64.b64encode(data).decode()
            return "\n".join(text[at : at + _LINE] for at in range(0, len(text), _LINE))
        case "escape":
            return "".join("\\\\" if b == 0x5C else chr(b) if 0 < b < 0x80 else f"\\{b:03o}" for b in data)
    raise _unknown(form)


@native("hr_decode", "VARCHAR", "VARCHAR", returns="BLOB")
def _decode(text: str, form: str) -> bytes:
    try:
        match form.lower():
            case "hex":
                return bytes.fromhex(text)
            case "base64":
                return base64.b64decode("".join(text.split()), validate=True)
            case "escape":
                return octal_bytes(text)
    except ValueError as error:
        raise ValueFault("22023", f'invalid {form.lower()} data: "{text}"') from error
    raise _unknown(form)


def _unknown(form: str) -> ValueFault:
    return ValueFault("22023", f'unrecognized encoding: "{form}"', "Known: base64, escape, hex.")


def _check(at: int, size: int) -> None:
    if not 0 <= at < size:
        raise ValueFault("2202E", f"index {at} out of valid range, 0..{size - 1}")


@native("hr_get_byte", "BLOB", "BIGINT", returns="INTEGER")
def _get_byte(data: bytes, at: int) -> int:
    _check(at, len(data))
    return data[at]


@native("hr_set_byte", "BLOB", "BIGINT", "INTEGER", returns="BLOB")
def _set_byte(data: bytes, at: int, value: int) -> bytes:
    _check(at, len(data))
    return data[:at] + bytes([value & 255]) + data[at + 1 :]


@native("hr_get_bit", "BLOB", "BIGINT", returns="INTEGER")
def _get_bit(data: bytes, at: int) -> int:
    _check(at, len(data) * 8)
    return data[at // 8] >> at % 8 & 1


@native("hr_set_bit", "BLOB", "BIGINT", "INTEGER", returns="BLOB")
def _set_bit(data: bytes, at: int, value: int) -> bytes:
    _check(at, len(data) * 8)
    if value not in (0, 1):
        raise ValueFault("22023", "new bit must be 0 or 1")
    byte = data[at // 8] & ~(1 << at % 8) | value << at % 8
    return data[: at // 8] + bytes([byte]) + data[at // 8 + 1 :]


@native("hr_overlay_bytes", "BLOB", "BLOB", "INTEGER", "INTEGER", returns="BLOB")
def _overlay(data: bytes, new: bytes, start: int, count: int) -> bytes:
    if start <= 0:
        raise ValueFault("22011", "negative substring length not allowed")
    return data[: start - 1] + new + data[max(start - 1 + count, 0) :]


@native("hr_hash", "BLOB", "VARCHAR", returns="BLOB")
def _hash(data: bytes, name: str) -> bytes:
    return hashlib.new(name, data, usedforsecurity=False).digest()


@native("hr_hmac", "VARCHAR", "BLOB", "VARCHAR", returns="BLOB")
def _hmac(secret: str, data: bytes, name: str) -> bytes:
    if name.lower() not in ("sha1", "sha256"):
        raise ValueFault("22023", f'unsupported hash algorithm: "{name}"', "Known: sha1, sha256.")
    return hmac.new(secret.encode(), data, name.lower()).digest()


@native("hr_crc32", "BLOB", returns="BIGINT")
def _crc32(data: bytes) -> int:
    return zlib.crc32(data)


@native("hr_convert_from", "BLOB", "VARCHAR", returns="VARCHAR")
def _convert_from(data: bytes, encoding: str) -> str:
    if encoding.lower() not in ("utf8", "utf-8"):
        raise ValueFault("22023", f'encoding "{encoding}" is not supported', "Use utf8.")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ValueFault("22021", "invalid byte sequence for encoding UTF8") from error


@native("hr_inet_aton", "VARCHAR", returns="BIGINT")
def _inet_aton(text: str) -> int:
    try:
        return int(ipaddress.IPv4Address(text))
    except ValueError as error:
        raise ValueFault("22P02", f'invalid IPv4 address: "{text}"') from error


@native("hr_inet_ntoa", "BIGINT", returns="VARCHAR")
def _inet_ntoa(number: int) -> str:
    return str(ipaddress.IPv4Address(number & 0xFFFFFFFF))


def declare(t: FunctionTable) -> None:
    t.add("||", "bytea, bytea -> bytea", "({0} || {1})")
    for name in ("length", "octet_length"):
        t.add(name, "bytea -> int4", "CAST(octet_length({0}) AS INTEGER)")
    t.add("bit_length", "bytea -> int4", "CAST(octet_length({0}) * 8 AS INTEGER)")
    t.add("bit_count", "bytea -> int8", "CASE WHEN octet_length({0}) = 0 THEN 0 ELSE bit_count(CAST({0} AS BIT)) END")
    t.add("encode", "bytea, varchar -> varchar", "hr_encode({0}, {1})")
    t.add("decode", "varchar, varchar -> bytea", "hr_decode({0}, {1})")
    t.add("get_byte", "bytea, int8 -> int4", "hr_get_byte({0}, {1})")
    t.add("set_byte", "bytea, int8, int4 -> bytea", "hr_set_byte({0}, {1}, {2})")
    t.add("get_bit", "bytea, int8 -> int4", "hr_get_bit({0}, {1})")
    t.add("set_bit", "bytea, int8, int4 -> bytea", "hr_set_bit({0}, {1}, {2})")
    hexadecimal = "substr(hex({0}), 2 * greatest({1}, 1) - 1"
    for name in ("substr", "substring"):
        t.add(name, "bytea, int4 -> bytea", f"unhex({hexadecimal}))")
        t.add(name, "bytea, int4, int4 -> bytea", f"unhex({hexadecimal}, 2 * greatest({{2}} + least({{1}}, 1) - 1, 0)))")
    for types, count in (("", "octet_length({1})"), (", int4", "{3}")):
        t.add(
            "overlay", f"bytea, bytea, int4{types} -> bytea", f"hr_overlay_bytes({{0}}, {{1}}, {{2}}, CAST({count} AS INTEGER))"
        )
    t.add("position", "bytea, bytea -> int4", "CAST((strpos(hex({0}), hex({1})) + 1) // 2 AS INTEGER)")
    t.add("md5", "varchar -> varchar", "md5({0})")
    t.add("md5", "bytea -> varchar", "md5({0})")
    for name in ("sha1", "sha224", "sha256", "sha384", "sha512"):
        t.add(name, "bytea -> bytea", f"hr_hash({{0}}, '{name}')")
        t.add(name, "varchar -> bytea", f"hr_hash(encode({{0}}), '{name}')")
    t.add("hmac", "varchar, bytea, varchar -> bytea", "hr_hmac({0}, {1}, {2})")
    t.add("crc32", "bytea -> int8", "hr_crc32({0})")
    t.add("crc32", "varchar -> int8", "hr_crc32(encode({0}))")
    t.add("convert_from", "bytea, varchar -> varchar", "hr_convert_from({0}, {1})")
    t.add("convert_to", "varchar, varchar -> bytea", "encode({0})")
    t.add("inet_aton", "varchar -> int8", "hr_inet_aton({0})")
    t.add("inet_ntoa", "int8 -> varchar", "hr_inet_ntoa({0})")
