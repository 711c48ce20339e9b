"""From bytes to kio's entities and back, for every version we speak.

kio has one class for each version and few defaults. Handlers answer with plain nested dicts that hold the fields of all
versions; `encode_response` picks those the version knows. The reader's many exceptions become one, `MalformedRequest`,
which costs its sender the connection and nobody else anything.
"""

from __future__ import annotations

import struct
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib import import_module
from typing import Any

from kio.schema.errors import ErrorCode
from kio.schema.index import api_key_map, schema_name_map
from kio.serial import entity_reader, entity_writer
from kio.serial.errors import SerialError
from kio.static.constants import EntityType

from core.errors import HeadraceError

# `Any` throughout this module: kio's entities differ from version to version and share no useful base type.
Fields = Mapping[str, Any]

API_VERSIONS_KEY = 18
_REQUEST_START = struct.Struct(">hhi")
_FRAME_LENGTH = struct.Struct(">i")
_ZERO = timedelta(0)


class MalformedRequest(HeadraceError):
    """The bytes are no request that we know; the connection they came on is closed."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request of a client.

    Attributes:
        body: kio's entity for exactly this key and version, or None if `supported` is false.
        supported: false only for a version of ApiVersions that we do not know, which is answered in version 0.
    """

    api_key: int
    version: int
    correlation_id: int
    client_id: str
    body: Any
    supported: bool = True


def decode_request(frame: bytes, supported: Mapping[int, tuple[int, int]]) -> Request:
    """Parse one frame (without its length).

    Args:
        supported: api key to lowest and highest version.

    Raises:
        MalformedRequest: unknown key or version, short or inconsistent bytes, or an unknown tagged field.
    """
    try:
        api_key, version, correlation_id = _REQUEST_START.unpack_from(frame)
    except struct.error as error:
        raise MalformedRequest(f"a request of {len(frame)} bytes is too short for its header") from error
    lowest, highest = supported.get(api_key, (0, -1))
    if not lowest <= version <= highest:
        if api_key == API_VERSIONS_KEY:
            return Request(api_key, version, correlation_id, "", None, supported=False)
        raise MalformedRequest(
            f"api key `{api_key}` version `{version}` is not supported", fix="Ask ApiVersions first, as clients do."
        )
    try:
        read_header, read_body = _request_readers(api_key, version)
        header, size = read_header(frame, 0)
        # Bytes left over are ignored, as Kafka does: librdkafka 2.16 asks for all topics with three too many.
        body, _ = read_body(frame, size)
    except (SerialError, ValueError, KeyError, TypeError, OverflowError, IndexError) as error:
        # kio raises a bare KeyError for an unknown tagged field, ValueError and TypeError for bad lengths and nulls.
        raise MalformedRequest(f"api key `{api_key}` version `{version}` cannot be read: {error!r}") from error
    return Request(api_key, version, correlation_id, header.client_id or "", body)


def encode_response(api_key: int, version: int, correlation_id: int, answer: Fields) -> list[bytes]:
    """Write a response as a list of chunks, its frame length first; fields the version does not know are left out."""
    build, write_header, header_class, write_body = _response_writers(api_key, version)
    chunks = _Chunks([b""])
    write_header(chunks, header_class(correlation_id=correlation_id))
    write_body(chunks, build(answer))
    chunks[0] = _FRAME_LENGTH.pack(sum(map(len, chunks)))
    return chunks


def has_schema(api_key: int, version: int) -> bool:
    """True if kio knows this version of this api."""
    return version in schema_name_map[api_key_map[api_key]]


class _Chunks(list[bytes]):
    """What kio writes to: collects the pieces, so that a megabyte of records is not copied field by field."""

    def write(self, data: bytes) -> None:
        self.append(data)


def _load(api_key: int, version: int, kind: EntityType) -> Any:
    module, _, name = schema_name_map[api_key_map[api_key]][version][kind].partition(":")  # type: ignore[index]
    return getattr(import_module(module), name)


@cache
def _request_readers(api_key: int, version: int) -> tuple[Any, Any]:
    body = _load(api_key, version, EntityType.request)
    return entity_reader(body.__header_schema__), entity_reader(body)


@cache
def _response_writers(api_key: int, version: int) -> tuple[Callable[[Fields], Any], Any, Any, Any]:
    body = _load(api_key, version, EntityType.response)
    header = body.__header_schema__
    return entity_builder(body), entity_writer(header), header, entity_writer(body)


def _milliseconds(value: Any) -> Any:
    return timedelta(milliseconds=value) if isinstance(value, int) else value


def _instant(value: Any) -> Any:
    if isinstance(value, int):
        return datetime.fromtimestamp(value / 1000, UTC) if value >= 0 else None
    return value


_CONVERT: Mapping[str, Callable[[Any], Any]] = {
    "timedelta_i32": _milliseconds,
    "timedelta_i64": _milliseconds,
    "datetime_i64": _instant,
}


@cache
def entity_builder(entity: Any) -> Callable[[Fields], Any]:
    """Make the function that turns a dict into `entity`; the plan of its fields is made once."""
    hints = typing.get_type_hints(entity)
    plan = [(field.name, _converter(field, hints[field.name]), _default(field, hints[field.name])) for field in fields(entity)]

    def build(values: Fields) -> Any:
        arguments = {}
        for name, convert, default in plan:
            value = values.get(name, default)
            if value is MISSING:
                raise KeyError(f"`{entity.__name__}` version {entity.__version__} needs `{name}`")
            arguments[name] = convert(value) if convert is not None and value is not default else value
        return entity(**arguments)

    return build


def _converter(field: Any, hint: Any) -> Callable[[Any], Any] | None:
    members = _members(hint)
    nested = next((member for member in members if _is_entity(member)), None)
    if nested is not None:
        return entity_builder(nested)
    for member in members:
        if typing.get_origin(member) is tuple:
            element = typing.get_args(member)[0]
            if _is_entity(element):
                build = entity_builder(element)
                return lambda items: None if items is None else tuple(build(item) for item in items)
            return lambda items: None if items is None else tuple(items)
    return _CONVERT.get(field.metadata.get("kafka_type", ""))


def _is_entity(hint: Any) -> bool:
    return is_dataclass(hint)


def _default(field: Any, hint: Any) -> Any:
    """What an absent field is: its own default, or the empty value of its type; MISSING if it must be given."""
    if field.default is not MISSING:
        return field.default
    members = _members(hint)
    if type(None) in members:
        return None
    if any(typing.get_origin(member) is tuple for member in members):
        return ()
    if ErrorCode in members:
        return ErrorCode.none
    return _ZERO if field.name == "throttle_time" else MISSING


def _members(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if typing.get_origin(hint) in (types.UnionType, typing.Union) else (hint,)
