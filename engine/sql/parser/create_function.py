"""CREATE FUNCTION and CREATE AGGREGATE, in every form of RisingWave: a link to a server, SQL, an embedded language."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from engine.sql.errors import InvalidDefinition
from engine.sql.parser import clauses
from engine.sql.parser.expressions import expression
from engine.sql.parser.stream import TokenStream
from engine.sql.parser.type_syntax import SCALARS
from engine.sql.statements import CreateFunction, ObjectName, Statement
from engine.sql.types import SqlType

_BEHAVIOUR: Final = ("immutable", "stable", "volatile", "strict", "sync", "async", "batch", "generator")


@dataclass
class _Body:
    language: str | None = None
    body: str | None = None
    link: str | None = None


def create_function(stream: TokenStream) -> Statement:
    """Read CREATE FUNCTION after that word."""
    if_not_exists = clauses.if_not_exists(stream)
    name = stream.object_name()
    arguments = _arguments(stream)
    returns: SqlType | None = None
    returns_table: tuple[tuple[str, SqlType], ...] = ()
    if stream.accept("returns", "table"):
        returns_table = _table(stream)
    elif stream.accept("returns"):
        returns = clauses.sql_type(stream)
    return _finish(stream, name, arguments, returns, returns_table, if_not_exists, aggregate=False)


def create_aggregate(stream: TokenStream) -> Statement:
    """Read CREATE AGGREGATE after that word."""
    if_not_exists = clauses.if_not_exists(stream)
    name = stream.object_name()
    arguments = _arguments(stream)
    stream.expect("returns")
    returns = clauses.sql_type(stream)
    return _finish(stream, name, arguments, returns, (), if_not_exists, aggregate=True)


def _finish(
    stream: TokenStream,
    name: ObjectName,
    arguments: tuple[tuple[str | None, SqlType], ...],
    returns: SqlType | None,
    returns_table: tuple[tuple[str, SqlType], ...],
    if_not_exists: bool,
    *,
    aggregate: bool,
) -> Statement:
    first = stream.current
    found = _body(stream)
    if found.body is None:
        if stream.at_end or stream.at_symbol(";"):
            raise InvalidDefinition(
                "no function body specified", position=first.position, fix="Add AS ... or RETURN ...", sqlstate="42P13"
            )
        raise stream.error()
    return CreateFunction(
        text="",
        name=name,
        arguments=arguments,
        returns=returns,
        returns_table=returns_table,
        language=found.language,
        body=found.body,
        link=found.link,
        options=clauses.with_options(stream),
        if_not_exists=if_not_exists,
        aggregate=aggregate,
    )


def _body(stream: TokenStream) -> _Body:
    """The clauses after RETURNS, in any order."""
    found = _Body()
    while True:
        if stream.accept("language"):
            found.language = (stream.string() if stream.current.kind == "string" else stream.label().name).lower()
        elif stream.accept("runtime"):
            stream.label()
        elif stream.at_any(*_BEHAVIOUR):
            stream.advance()
        elif stream.accept("append", "only"):
            pass
        elif found.body is None and stream.accept("as"):
            found.body = stream.string() if stream.current.kind == "string" else stream.label().name
        elif found.body is None and stream.accept("return"):
            first = stream.current
            expression(stream)
            found.body = "SELECT " + stream.slice(first)
        elif found.link is None and stream.accept("using", "link"):
            found.link = stream.string()
        elif stream.at("using"):
            raise stream.unsupported(
                "a function from a WASM module is not supported by the embedded engine",
                fix="Use LANGUAGE python or USING LINK.",
            )
        else:
            return found


def _arguments(stream: TokenStream) -> tuple[tuple[str | None, SqlType], ...]:
    """`([name] type, ...)`."""
    stream.expect_symbol("(")
    arguments: list[tuple[str | None, SqlType]] = []
    while not stream.at_symbol(")"):
        if stream.at_any("variadic", "inout", "out"):
            raise stream.unsupported("argument modes are not supported", fix="Use plain arguments.")
        name = stream.label().name if _at_named_argument(stream) else None
        arguments.append((name, clauses.sql_type(stream)))
        if stream.accept("default") or stream.accept_symbol("="):
            raise stream.unsupported("default values of arguments are not supported", fix="Pass every argument.")
        if not stream.accept_symbol(","):
            break
    stream.expect_symbol(")")
    return tuple(arguments)


def _at_named_argument(stream: TokenStream) -> bool:
    """Whether a name precedes the type: `double precision` and `character varying` are types of two words."""
    word, after = stream.current, stream.peek()
    if after.kind not in ("word", "quoted"):
        return False
    if word.kind == "word" and word.value in SCALARS:
        return not (after.kind == "word" and after.value in ("precision", "varying", "with", "without", "array"))
    return True


def _table(stream: TokenStream) -> tuple[tuple[str, SqlType], ...]:
    stream.expect_symbol("(")
    columns = [(stream.label().name, clauses.sql_type(stream))]
    while stream.accept_symbol(","):
        columns.append((stream.label().name, clauses.sql_type(stream)))
    stream.expect_symbol(")")
    return tuple(columns)
