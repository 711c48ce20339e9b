"""Cuts a request's body into rows, each with its original bytes.

A body is one JSON object, an array of objects, or one object a line (NDJSON). Rows are passed on as they were written,
so that no number loses a digit on the way; that is only safe when everybody reads a row alike, so a key that stands twice
in a row (which parsers resolve differently) is an error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from api.http.problems import TooLargeError

NDJSON_TYPES = frozenset(
    {"application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines", "application/json-seq"}
)

_SPACE = re.compile(r"[ \t\n\r]*")


class ParsedRow(NamedTuple):
    """One row as it came: `value` is None exactly when `error` says why."""

    number: int
    raw: bytes
    value: dict[str, Any] | None  # Any: JSON
    code: str | None = None
    error: str | None = None


class _Duplicated(dict[str, Any]):
    """An object in which a key stands twice."""


def parse_rows(body: bytes, *, content_type: str, max_rows: int) -> list[ParsedRow]:
    """Cut `body` into rows.

    A document that is no JSON as a whole is one refused row with all its bytes (its index tells where it broke): taking
    the rows before the break would make the sender's retry count them twice. In NDJSON each line stands for itself.

    Raises:
        TooLargeError: there are more than `max_rows` rows.
    """
    if content_type in NDJSON_TYPES:
        return _lines(body, max_rows)
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        return [_malformed(0, body, f"the body is not UTF-8: {error.reason} at byte {error.start}")]
    start = _skip_space(text, 0)
    if start == len(text):
        return [_malformed(0, body, "the body is empty")]
    if text[start] == "[":
        return _array(text, start, body, max_rows)
    try:
        value, end = _decode(text, start)
    except (ValueError, RecursionError) as error:
        return [_malformed(0, body, _say(error))]
    if _skip_space(text, end) == len(text):
        return [_row(0, body, value)]
    if "\n" not in text[start:end]:  # a whole object on the first line and more after it
        return _lines(body, max_rows)
    return [_malformed(0, body, f"there is more after the first value, at character {end}")]


def _lines(body: bytes, max_rows: int) -> list[ParsedRow]:
    lines = [line for line in body.split(b"\n") if line.strip()]
    if len(lines) > max_rows:
        raise _too_many(max_rows)
    return [_line(index, line.strip()) for index, line in enumerate(lines)]


def _line(index: int, line: bytes) -> ParsedRow:
    try:
        text = line.decode("utf-8")
        value, end = _decode(text, 0)
    except UnicodeDecodeError as error:
        return _malformed(index, line, f"the line is not UTF-8: {error.reason} at byte {error.start}")
    except (ValueError, RecursionError) as error:
        return _malformed(index, line, _say(error))
    if end != len(text):
        return _malformed(index, line, f"there is more after the value, at character {end}")
    return _row(index, line, value)


def _array(text: str, start: int, body: bytes, max_rows: int) -> list[ParsedRow]:
    rows: list[ParsedRow] = []
    try:
        for raw, value in _elements(text, start):
            if len(rows) == max_rows:
                raise _too_many(max_rows)
            rows.append(_row(len(rows), raw.encode("utf-8"), value))
    except (ValueError, RecursionError) as error:
        return [_malformed(len(rows), body, f"{_say(error)}; nothing of this body was taken")]
    return rows


def _elements(text: str, start: int) -> Iterator[tuple[str, Any]]:
    """The elements of the array that opens at `start`, each with the text that it was written as."""
    at = _skip_space(text, start + 1)
    if text[at : at + 1] == "]":
        at += 1
    else:
        while True:
            value, end = _decode(text, at)
            yield text[at:end], value
            at = _skip_space(text, end)
            separator = text[at : at + 1]
            at += 1
            if separator == "]":
                break
            if separator != ",":
                raise ValueError(f"expected `,` or `]` at character {at - 1}")
            at = _skip_space(text, at)
    if _skip_space(text, at) != len(text):
        raise ValueError(f"there is more after the array, at character {at}")


def _row(index: int, raw: bytes, value: object) -> ParsedRow:
    if isinstance(value, _Duplicated):
        return ParsedRow(index, raw, None, "duplicate_key", "a key stands twice in the row")
    if not isinstance(value, dict):
        return ParsedRow(index, raw, None, "not_an_object", f"a row is a JSON object, this is {_kind(value)}")
    return ParsedRow(index, raw, value)


def _malformed(index: int, raw: bytes, why: str) -> ParsedRow:
    return ParsedRow(index, raw, None, "malformed_json", why)


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    return found if len(found) == len(pairs) else _Duplicated(found)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"`{name}` is no JSON number")


_DECODER = json.JSONDecoder(object_pairs_hook=_pairs, parse_constant=_refuse_constant)


def _decode(text: str, at: int) -> tuple[Any, int]:
    return _DECODER.raw_decode(text, at)


def _skip_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _say(error: ValueError | RecursionError) -> str:
    return "the JSON is nested too deeply" if isinstance(error, RecursionError) else f"this is no JSON: {error}"


def _kind(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    return {str: "a text", int: "a number", float: "a number", list: "an array"}.get(type(value), "something else")


def _too_many(max_rows: int) -> TooLargeError:
    return TooLargeError(f"the body has more than {max_rows} rows", fix="Send it in several requests.")
