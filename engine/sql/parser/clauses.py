"""Clauses that several statements share: options, FORMAT ... ENCODE, column definitions, IF [NOT] EXISTS."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Final

from engine.sql.errors import InvalidDefinition, InvalidParameter
from engine.sql.parser.expressions import expression
from engine.sql.parser.stream import TokenStream
from engine.sql.parser.type_meaning import parse_type
from engine.sql.parser.type_syntax import type_name
from engine.sql.statements import ColumnDefinition, Format, IncludeColumn, WatermarkDefinition
from engine.sql.types import UNKNOWN, SqlType

_DURATION_PART: Final = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([a-z]*)\s*")
_SECONDS: Final = {
    "ms": 0.001, "millisecond": 0.001, "milliseconds": 0.001, "s": 1, "sec": 1, "secs": 1, "second": 1, "seconds": 1, "m": 60,
    "min": 60, "mins": 60, "minute": 60, "minutes": 60, "h": 3600, "hr": 3600, "hour": 3600, "hours": 3600, "d": 86400, "day": 86400,
    "days": 86400,
}  # fmt: skip


SECRET_MARK: Final = "\0secret:"  # noqa: S105  a mark, no password
"""Begins the value of an option that is written as `SECRET name`; no literal can hold its first character."""


def if_not_exists(stream: TokenStream) -> bool:
    return stream.accept("if", "not", "exists")


def if_exists(stream: TokenStream) -> bool:
    return stream.accept("if", "exists")


def sql_type(stream: TokenStream) -> SqlType:
    return parse_type(type_name(stream))


def with_options(stream: TokenStream) -> dict[str, str]:
    """`WITH (key = 'value', ...)`, empty when it is not next."""
    return options(stream) if stream.accept("with") else {}


def options(stream: TokenStream) -> dict[str, str]:
    """`(dotted.key = 'value', key = 1, key = true)`; every value as text. A last comma is allowed, as in RisingWave."""
    stream.expect_symbol("(")
    found: dict[str, str] = {}
    while not stream.at_symbol(")"):
        first = stream.current
        key = _option_key(stream)
        stream.expect_symbol("=")
        if key in found:
            raise InvalidParameter(f"duplicated option `{key}`", position=first.position, fix="Give each option once.")
        found[key] = _option_value(stream, key)
        if not stream.accept_symbol(","):
            break
    stream.expect_symbol(")")
    return found


def format_encode(stream: TokenStream) -> Format | None:
    """`FORMAT f ENCODE e [(options)] [KEY ENCODE e]`, None when it is not next."""
    if stream.at("row", "format"):
        raise stream.unsupported("`ROW FORMAT` is the syntax of old versions", fix="Write FORMAT ... ENCODE ...")
    if not stream.accept("format"):
        return None
    format_ = stream.label().name.upper()
    stream.expect("encode")
    encode = stream.label().name.upper()
    settings = options(stream) if stream.at_symbol("(") else {}
    key_encode = stream.label().name.upper() if stream.accept("key", "encode") else None
    return Format(format_, encode, settings, key_encode)


def include_columns(stream: TokenStream) -> tuple[IncludeColumn, ...]:
    """`INCLUDE kind ['field' [type]] [AS alias]`, as often as written."""
    found = []
    while stream.accept("include"):
        kind = stream.label().name
        inner = None
        type_ = None
        if stream.current.kind == "string":
            inner = stream.string()
            if not stream.at("as") and stream.at_name() and not stream.at_any("include", "with", "format"):
                type_ = sql_type(stream)
        alias = stream.name() if stream.accept("as") else None
        found.append(IncludeColumn(kind, alias, inner, type_))
    return tuple(found)


@dataclass
class TableElements:
    """What stands between the parentheses of CREATE TABLE or CREATE SOURCE."""

    columns: list[ColumnDefinition] = field(default_factory=list)
    primary_key: tuple[str, ...] = ()
    watermark: WatermarkDefinition | None = None
    wildcard: bool = False


def table_elements(stream: TokenStream) -> TableElements:
    """`(column definitions, PRIMARY KEY (...), WATERMARK FOR ..., *)`, empty when no parenthesis is next."""
    elements = TableElements()
    if not stream.at_symbol("("):
        return elements
    behind = stream.closing()
    untyped = behind is not None and behind.kind == "word" and behind.value == "as"  # the query has the types
    stream.advance()
    while not stream.at_symbol(")"):
        _element(stream, elements, untyped)
        if not stream.accept_symbol(","):
            break
    stream.expect_symbol(")")
    inline = tuple(column.name for column in elements.columns if column.primary_key)
    if len(inline) > 1 or (inline and elements.primary_key):
        raise InvalidDefinition(
            "multiple primary keys for one table are not allowed",
            position=elements.columns[0].position,
            fix="Write one PRIMARY KEY (column, ...) after the columns.",
            sqlstate="42P16",
        )
    elements.primary_key = elements.primary_key or inline
    return elements


def column_definition(stream: TokenStream, *, untyped: bool = False) -> ColumnDefinition:
    """`name type [NOT NULL] [PRIMARY KEY] [DEFAULT e] [AS e]`; the type may be left out (`UNKNOWN`) where something else tells it: the
    expression of a generated column, the query of CREATE TABLE AS.
    """
    first = stream.current
    name = stream.name()
    bare = untyped and (stream.at_symbol(",") or stream.at_symbol(")"))
    column = ColumnDefinition(name, UNKNOWN if bare or stream.at("as") else sql_type(stream), position=first.position)
    while True:
        if stream.accept("constraint"):
            stream.name()
        if stream.accept("not", "null"):
            column = replace(column, not_null=True)
        elif stream.accept("primary", "key"):
            column = replace(column, primary_key=True)
        elif stream.accept("default"):
            column = replace(column, default=expression(stream))
        elif stream.accept("as"):
            column = replace(column, generated=expression(stream))
        elif stream.at_any("unique", "references", "check", "collate"):
            raise _constraint(stream)
        elif not stream.accept("null"):
            return column


def duration_seconds(text: str, position: int) -> float:
    """The length of `'1s'`, `'500 ms'` or `'1 hour 30 minutes'` in seconds."""
    total, place = 0.0, 0
    folded = text.lower()
    while place < len(folded) or not place:
        part = _DURATION_PART.match(folded, place)
        if part is None or (part[2] or "s") not in _SECONDS:
            raise InvalidParameter(f"invalid duration `{text}`", position=position, fix="Write for example '10s' or '1 hour'.")
        total += float(part[1]) * _SECONDS[part[2] or "s"]
        place = part.end()
    return total


def _element(stream: TokenStream, elements: TableElements, untyped: bool) -> None:
    if stream.accept_symbol("*"):
        elements.wildcard = True
        return
    if stream.accept("constraint"):
        stream.name()
    first = stream.current
    if stream.accept("primary", "key"):
        if elements.primary_key:
            raise InvalidDefinition(
                "multiple primary keys for one table are not allowed",
                position=first.position,
                fix="Keep one PRIMARY KEY (column, ...).",
                sqlstate="42P16",
            )
        elements.primary_key = stream.names_in_parentheses()
    elif stream.accept("watermark", "for"):
        if elements.watermark is not None:
            raise InvalidDefinition("only 1 watermark is supported", position=first.position, fix="Keep one WATERMARK FOR.")
        column = stream.name()
        stream.expect("as")
        elements.watermark = WatermarkDefinition(column, expression(stream), stream.accept("with", "ttl"))
    elif stream.at_any("unique", "check", "foreign"):
        raise _constraint(stream)
    else:
        elements.columns.append(column_definition(stream, untyped=untyped))


def _constraint(stream: TokenStream) -> Exception:
    word = stream.current.value.upper()
    return stream.unsupported(
        f"constraint {word} is not supported", fix="Leave it out: only PRIMARY KEY, NOT NULL and DEFAULT are kept."
    )


def _option_key(stream: TokenStream) -> str:
    if stream.current.kind == "string":
        return stream.string()
    parts = [_option_part(stream)]
    while stream.at_symbol(".") or stream.at_symbol("-"):
        symbol = stream.advance().value
        parts += [symbol, _option_part(stream)]
    return "".join(parts)


def _option_part(stream: TokenStream) -> str:
    if stream.current.kind == "number" and stream.current.value.isdigit():
        return stream.advance().value
    return stream.label().name


def _option_value(stream: TokenStream, key: str) -> str:
    token = stream.current
    if token.kind == "string":
        return stream.advance().value
    if stream.at_symbol("-") and stream.peek().kind == "number":
        stream.advance()
        return "-" + stream.advance().value
    if token.kind == "number" or stream.at_any("true", "false"):
        return stream.advance().value
    if stream.accept("secret"):
        first = stream.current
        stream.object_name()
        name = stream.slice(first)
        stream.accept("as", "file")
        return SECRET_MARK + name
    if key == "connection" and stream.at_name():
        return str(stream.object_name())
    if key == "backfill_order" and stream.at_name():
        return _backfill_order(stream)
    raise stream.error()


def _backfill_order(stream: TokenStream) -> str:
    """`AUTO`, `NONE` or `FIXED(a -> b, ...)`, as written: an order of work, which changes no result."""
    first = stream.advance()
    if stream.accept_symbol("("):
        stream.object_name()
        while stream.accept_symbol("->") or stream.accept_symbol(","):
            stream.object_name()
        stream.expect_symbol(")")
    return stream.slice(first)


_RIGHTS: Final = ("superuser", "createdb", "createuser", "login")


def user_rights(stream: TokenStream) -> dict[str, bool]:
    """`[WITH] SUPERUSER NOCREATEDB ... [[ENCRYPTED] PASSWORD 'x' | NULL] [OAUTH (...)]`."""
    stream.accept("with")
    rights: dict[str, bool] = {}
    while not stream.at_end and not stream.at_symbol(";"):
        word = stream.current.value
        if stream.accept("encrypted", "password") or stream.accept("password"):
            if not stream.accept("null"):
                stream.string()
        elif stream.accept("oauth"):
            options(stream)
        elif stream.current.kind == "word" and word.removeprefix("no") in _RIGHTS:
            stream.advance()
            rights[word.removeprefix("no")] = not word.startswith("no")
        else:
            raise stream.error()
    return rights
