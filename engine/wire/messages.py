"""The messages of PostgreSQL's protocol 3: how the front end's are read and how ours are built.

A message is a type byte, an int32 length that counts itself, and a body; all integers are big-endian. Only the first
message of a connection has no type byte.

Source: PostgreSQL documentation, chapter 55, "Frontend/Backend Protocol", sections 55.2 and 55.7.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence

PROTOCOL_3_0 = 3 << 16
SSL_REQUEST = 80877103
GSSENC_REQUEST = 80877104
CANCEL_REQUEST = 80877102

_INT16 = struct.Struct("!h")
_UINT16 = struct.Struct("!H")
_INT32 = struct.Struct("!i")
_UINT32 = struct.Struct("!I")
_COLUMN = struct.Struct("!ihihih")


class ProtocolViolation(Exception):
    """The client sent bytes that are no message of the protocol; the connection cannot go on (SQLSTATE 08P01)."""


class Reader:
    """Reads the fields of one message body; every read past the end is a `ProtocolViolation`."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0

    @property
    def position(self) -> int:
        """Bytes read so far."""
        return self._at

    def take(self, count: int) -> bytes:
        end = self._at + count
        if count < 0 or end > len(self._body):
            raise ProtocolViolation("the message ends before its last field")
        taken = self._body[self._at : end]
        self._at = end
        return taken

    def int16(self) -> int:
        value: int = _INT16.unpack(self.take(2))[0]
        return value

    def uint16(self) -> int:
        value: int = _UINT16.unpack(self.take(2))[0]
        return value

    def int32(self) -> int:
        value: int = _INT32.unpack(self.take(4))[0]
        return value

    def uint32(self) -> int:
        value: int = _UINT32.unpack(self.take(4))[0]
        return value

    def text(self) -> str:
        """A string that ends with a zero byte, in UTF-8."""
        end = self._body.find(b"\0", self._at)
        if end < 0:
            raise ProtocolViolation("a string in the message has no end")
        taken = self._body[self._at : end]
        self._at = end + 1
        try:
            return taken.decode()
        except UnicodeDecodeError as error:
            raise ProtocolViolation("a string in the message is not UTF-8") from error

    def value(self) -> bytes | None:
        """An int32 length and that many bytes; -1 is NULL."""
        length = self.int32()
        return None if length == -1 else self.take(length)

    def rest(self) -> bytes:
        return self.take(len(self._body) - self._at)

    def finish(self) -> None:
        if self._at != len(self._body):
            raise ProtocolViolation("the message is longer than its fields")


def message(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return kind + _INT32.pack(len(body) + 4) + body


def zero_ended(text: str) -> bytes:
    """The text and its final zero; a zero inside would end it early, so it is left out."""
    return text.encode("utf-8", "replace").replace(b"\0", b"") + b"\0"


def authentication(code: int, payload: bytes = b"") -> bytes:
    return message(b"R", _INT32.pack(code), payload)


def parameter_status(name: str, value: str) -> bytes:
    return message(b"S", zero_ended(name), zero_ended(value))


def backend_key_data(process_id: int, secret: int) -> bytes:
    return message(b"K", _UINT32.pack(process_id), _UINT32.pack(secret))


def negotiate_protocol_version(newest: int, unknown_options: Sequence[str]) -> bytes:
    return message(b"v", _INT32.pack(newest), _INT32.pack(len(unknown_options)), *map(zero_ended, unknown_options))


def ready_for_query(status: str) -> bytes:
    return message(b"Z", status.encode())


def command_complete(tag: str) -> bytes:
    return message(b"C", zero_ended(tag))


def parameter_description(oids: Sequence[int]) -> bytes:
    return message(b"t", _UINT16.pack(len(oids)), *(_UINT32.pack(oid) for oid in oids))


def row_description(columns: Iterable[tuple[str, int, int, int]]) -> bytes:
    """Columns as `(name, oid, size, format)`; none of them is said to come from a table."""
    parts = [zero_ended(name) + _COLUMN.pack(0, 0, oid, size, -1, format_) for name, oid, size, format_ in columns]
    return message(b"T", _UINT16.pack(len(parts)), *parts)


def error_response(fields: Mapping[str, str]) -> bytes:
    """Field codes are those of section 55.8: S, V, C, M, H, P ..."""
    return _report(b"E", fields)


def notice_response(fields: Mapping[str, str]) -> bytes:
    return _report(b"N", fields)


def copy_response(kind: bytes, format_: int, columns: int) -> bytes:
    """CopyInResponse (`G`) or CopyOutResponse (`H`)."""
    return message(kind, bytes([format_]), _UINT16.pack(columns), _UINT16.pack(format_) * columns)


def copy_data(data: bytes) -> bytes:
    return message(b"d", data)


PARSE_COMPLETE = message(b"1")
BIND_COMPLETE = message(b"2")
CLOSE_COMPLETE = message(b"3")
NO_DATA = message(b"n")
EMPTY_QUERY_RESPONSE = message(b"I")
PORTAL_SUSPENDED = message(b"s")
COPY_DONE = message(b"c")


def _report(kind: bytes, fields: Mapping[str, str]) -> bytes:
    return message(kind, *(code.encode() + zero_ended(text) for code, text in fields.items()), b"\0")
