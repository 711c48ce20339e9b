"""A text to its statements: which word starts which."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from sqlglot import exp

from engine.sql.errors import SqlError
from engine.sql.parser import change, create, queries, session
from engine.sql.parser.expressions import expression
from engine.sql.parser.stream import TokenStream
from engine.sql.statements import Explain, Flush, QueryStatement, Statement, Utility, Wait

_UNSUPPORTED: Final = {
    "analyze": "Statistics are kept without it.",
    "call": "Use SELECT function(...).",
    "checkpoint": "Use FLUSH.",
    "cluster": "Leave it out.",
    "do": "Use plain statements.",
    "execute": "Prepare statements through the driver (the extended protocol).",
    "listen": "Use CREATE SUBSCRIPTION and a subscription cursor.",
    "load": "Nothing has to be loaded.",
    "lock": "Leave it out: tables are not locked.",
    "merge": "Use INSERT into a table with a PRIMARY KEY, which overwrites.",
    "move": "Use FETCH.",
    "notify": "Use CREATE SUBSCRIPTION and a subscription cursor.",
    "prepare": "Prepare statements through the driver (the extended protocol).",
    "refresh": "Materialized views are always up to date.",
    "reindex": "Leave it out.",
    "release": "Leave it out: there are no savepoints.",
    "savepoint": "Leave it out: there are no savepoints.",
    "truncate": "Use DELETE FROM.",
    "unlisten": "Leave it out.",
    "vacuum": "Leave it out: space is reclaimed without it.",
}


def parse(sql: str) -> list[Statement]:
    """Split a text into statements and read each; an empty text is an empty list.

    Raises:
        SqlSyntaxError: the text is not SQL, with the position of the offending token.
        SqlError: another reason to refuse it, e.g. `UnsupportedQuery` with a remedy, `UndefinedObject` for an unknown type.
    """
    stream = TokenStream(sql)
    statements: list[Statement] = []
    try:
        while True:
            while stream.accept_symbol(";"):
                pass
            if stream.at_end:
                return statements
            statements.append(_statement(stream))
            if not stream.at_end and not stream.at_symbol(";"):
                raise stream.error()
    except RecursionError as error:
        raise _too_deep(stream) from error


def parse_query(sql: str) -> exp.Query:
    """Read a text that is one query."""
    stream = TokenStream(sql)
    try:
        tree = queries.query(stream)
    except RecursionError as error:
        raise _too_deep(stream) from error
    stream.accept_symbol(";")
    if not stream.at_end:
        raise stream.error()
    return tree


def parse_expression(sql: str) -> exp.Expression:
    """Read a text that is one scalar expression."""
    stream = TokenStream(sql)
    try:
        tree = expression(stream)
    except RecursionError as error:
        raise _too_deep(stream) from error
    if not stream.at_end:
        raise stream.error()
    return tree


def _too_deep(stream: TokenStream) -> SqlError:
    return SqlError(
        "stack depth limit exceeded",
        position=stream.current.position,
        fix="Nest fewer parentheses or subqueries.",
        sqlstate="54001",
    )


def _statement(stream: TokenStream) -> Statement:
    first = stream.current
    statement = _read(stream)
    return replace(statement, text=stream.slice(first))


def _read(stream: TokenStream) -> Statement:
    if queries.at_query(stream):
        return QueryStatement(text="", query=queries.query(stream))
    token = stream.current
    reader = _READERS.get(token.value) if token.kind == "word" else None
    if reader is not None:
        stream.advance()
        return reader(stream)
    if token.kind == "word" and token.value in _UNSUPPORTED:
        raise stream.unsupported(f"{token.value.upper()} is not supported", fix=_UNSUPPORTED[token.value])
    raise stream.error()


def _explain(stream: TokenStream) -> Statement:
    options = session.explain_options(stream)
    if "analyze" in options and stream.at_any("table", "materialized", "sink", "index", "id"):
        raise stream.unsupported(
            "EXPLAIN ANALYZE of a running job is not supported",
            fix="Use EXPLAIN, and the rw_catalog views for rows and latency.",
        )
    return Explain(text="", statement=_statement(stream), options=options)


def _utility(what: str) -> Callable[[TokenStream], Statement]:
    def read(stream: TokenStream) -> Statement:
        if stream.at_end or stream.at_symbol(";"):
            raise stream.error()
        create.skip_rest(stream)
        return Utility(text="", what=what)

    return read


_READERS: Final[dict[str, Callable[[TokenStream], Statement]]] = {
    "abort": lambda stream: session.end(stream, "rollback"),
    "alter": change.alter,
    "begin": session.begin,
    "cancel": session.cancel_jobs,
    "close": session.close,
    "comment": session.comment,
    "commit": lambda stream: session.end(stream, "commit"),
    "copy": change.copy,
    "create": create.create,
    "deallocate": _utility("deallocate"),
    "declare": session.declare,
    "delete": change.delete,
    "desc": session.describe,
    "describe": session.describe,
    "discard": _utility("discard"),
    "drop": change.drop,
    "end": lambda stream: session.end(stream, "commit"),
    "explain": _explain,
    "fetch": session.fetch,
    "flush": lambda _stream: Flush(text=""),
    "grant": _utility("grant"),
    "insert": change.insert,
    "kill": session.kill,
    "recover": lambda _stream: Utility(text="", what="recover"),
    "reset": session.reset,
    "revoke": _utility("revoke"),
    "rollback": lambda stream: session.end(stream, "rollback"),
    "set": session.set_variable,
    "show": session.show,
    "start": session.start_transaction,
    "update": change.update,
    "use": session.use,
    "wait": lambda _stream: Wait(text=""),
}
