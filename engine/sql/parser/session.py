"""Statements about the session: SHOW, DESCRIBE, EXPLAIN, SET, transactions, cursors."""

from __future__ import annotations

from typing import Final, Literal

from engine.sql.parser import change, clauses, queries
from engine.sql.parser.create import skip_rest
from engine.sql.parser.stream import TokenStream
from engine.sql.statements import (
    CancelJobs,
    CloseCursor,
    Comment,
    DeclareCursor,
    DeclareSubscriptionCursor,
    Describe,
    Fetch,
    Kill,
    ObjectName,
    SetVariable,
    Show,
    ShowCreate,
    Statement,
    Transaction,
    Utility,
)

_SHOW_PHRASES: Final = {
    "time zone": "timezone",
    "transaction isolation level": "transaction_isolation",
    "session authorization": "session_authorization",
}
_MODES: Final = ("isolation level serializable", "isolation level repeatable read", "isolation level read committed",
                 "isolation level read uncommitted", "read write", "not deferrable", "deferrable")  # fmt: skip


def show(stream: TokenStream) -> Statement:
    if stream.accept("create"):
        return ShowCreate(text="", kind=change.object_kind(stream), name=stream.object_name())
    words = [_show_word(stream)]
    while stream.current.kind == "word" and not stream.at_any("from", "in", "like"):
        words.append(_show_word(stream))
    what = " ".join(words)
    name = stream.object_name() if stream.accept("from") or stream.accept("in") else None
    like = stream.string() if stream.accept("like") else None
    return Show(text="", what=_SHOW_PHRASES.get(what, what), name=name, like=like)


def _show_word(stream: TokenStream) -> str:
    word = stream.label().name
    while stream.accept_symbol("."):
        word += "." + stream.label().name
    return word.lower()


def describe(stream: TokenStream) -> Statement:
    if stream.at("fragments") and stream.peek().kind in ("word", "quoted"):
        raise stream.unsupported("DESCRIBE FRAGMENTS is not supported: there are no fragments", fix="Use EXPLAIN.")
    return Describe(text="", name=stream.object_name())


def explain_options(stream: TokenStream) -> dict[str, str]:
    """`ANALYZE VERBOSE TRACE` or `(verbose, trace false, type logical)`; keys and values lower case."""
    found: dict[str, str] = {}
    while stream.at_any("analyze", "verbose", "trace"):
        found[stream.advance().value] = "true"
    if stream.at_symbol("(") and not queries.at_parenthesised_query(stream):
        stream.advance()
        while True:
            key = stream.label().name
            stream.accept_symbol("=")
            at_value = stream.current.kind in ("word", "string", "number")
            found[key] = stream.advance().value.lower() if at_value else "true"
            if not stream.accept_symbol(","):
                break
        stream.expect_symbol(")")
    return found


def comment(stream: TokenStream) -> Statement:
    """`COMMENT ON TABLE t | COLUMN t.c IS 'text' | NULL`."""
    stream.expect("on")
    column = None
    if stream.accept("column"):
        first = stream.current
        parts = [stream.label()]
        while stream.accept_symbol("."):
            parts.append(stream.label())
        if len(parts) < 2:
            raise stream.error(first)
        column = parts.pop().name
        names = [None, None, *(part.name for part in parts)][-3:]
        name = ObjectName(parts[-1].name, names[1], names[0], first.position)
    else:
        change.object_kind(stream)
        name = stream.object_name()
    stream.expect("is")
    text = None if stream.accept("null") else stream.string()
    return Comment(text="", name=name, column=column, comment=text)


# SET


def set_variable(stream: TokenStream) -> Statement:
    if stream.at("session", "characteristics") or stream.at("transaction"):
        skip_rest(stream)
        return Utility(text="", what="set transaction")
    local = stream.accept("local")
    if not local and stream.at("session") and not stream.at_symbol("=", 1) and stream.peek().value != "to":
        stream.advance()
    if stream.accept("time", "zone"):
        if not stream.accept("to"):
            stream.accept_symbol("=")
        return SetVariable(text="", name="timezone", value=_zone(stream), local=local)
    name = _show_word(stream)
    if not stream.accept("to"):
        stream.expect_symbol("=")
    if stream.accept("default"):
        return SetVariable(text="", name=name, value=None, local=local)
    values = [_value(stream)]
    while stream.accept_symbol(","):
        values.append(_value(stream))
    return SetVariable(text="", name=name, value=", ".join(values), local=local)


def use(stream: TokenStream) -> Statement:
    """`USE database`, which is `SET database TO ...`."""
    return SetVariable(text="", name="database", value=stream.label().name)


def reset(stream: TokenStream) -> Statement:
    if stream.accept("time", "zone"):
        return SetVariable(text="", name="timezone", value=None)
    return SetVariable(text="", name=_show_word(stream), value=None)


def _zone(stream: TokenStream) -> str | None:
    if stream.accept("default") or stream.accept("local"):
        return None
    return _value(stream)


def _value(stream: TokenStream) -> str:
    if stream.at_symbol("-") or stream.at_symbol("+"):
        sign = stream.advance().value
        if stream.current.kind != "number":
            raise stream.error()
        return (sign if sign == "-" else "") + stream.advance().value
    if stream.current.kind in ("string", "number"):
        return stream.advance().value
    return stream.label().name


# Jobs and processes


def cancel_jobs(stream: TokenStream) -> Statement:
    if not stream.accept("jobs"):
        stream.expect("job")
    jobs = [_whole_number(stream)]
    while stream.accept_symbol(","):
        jobs.append(_whole_number(stream))
    return CancelJobs(text="", jobs=tuple(jobs))


def kill(stream: TokenStream) -> Statement:
    if stream.current.kind == "string":
        return Kill(text="", process=stream.string())
    return Kill(text="", process=str(_whole_number(stream)))


def _whole_number(stream: TokenStream) -> int:
    if stream.current.kind != "number" or not stream.current.value.isdigit():
        raise stream.error()
    return int(stream.advance().value)


# Transactions


def begin(stream: TokenStream) -> Statement:
    for noise in ("transaction", "work"):
        if stream.accept(noise):
            break
    return Transaction(text="", kind="begin", read_only=_modes(stream))


def start_transaction(stream: TokenStream) -> Statement:
    stream.expect("transaction")
    return Transaction(text="", kind="begin", read_only=_modes(stream))


def end(stream: TokenStream, kind: Literal["commit", "rollback"]) -> Statement:
    for noise in ("transaction", "work"):
        if stream.accept(noise):
            break
    if kind == "rollback" and stream.at("to"):
        raise stream.unsupported("savepoints are not supported", fix="Roll the whole transaction back.")
    if stream.accept("and"):
        stream.accept("no")
        stream.expect("chain")
    return Transaction(text="", kind=kind)


def _modes(stream: TokenStream) -> bool:
    """Transaction modes, with or without commas; whether READ ONLY is among them."""
    read_only = False
    while True:
        if stream.accept("read", "only"):
            read_only = True
        elif not any(stream.accept(*mode.split()) for mode in _MODES):
            return read_only
        stream.accept_symbol(",")


# Cursors


def declare(stream: TokenStream) -> Statement:
    name = stream.name()
    if stream.accept("subscription", "cursor"):
        stream.expect("for")
        subscription = stream.object_name()
        return DeclareSubscriptionCursor(text="", name=name, subscription=subscription, since=_since(stream))
    if stream.at_any("binary", "insensitive", "scroll", "no") and stream.current.value != "no":
        raise stream.unsupported("cursor options are not supported", fix="Write DECLARE name CURSOR FOR query.")
    stream.expect("cursor")
    if stream.accept("without", "hold") or stream.accept("with", "hold"):
        pass
    stream.expect("for")
    if not queries.at_query(stream):
        raise stream.error()
    return DeclareCursor(text="", name=name, query=queries.query(stream))


def _since(stream: TokenStream) -> Literal["full", "begin", "now"] | int | None:
    if stream.accept("full"):
        return "full"
    if not stream.accept("since"):
        return None
    token = stream.current
    if token.kind == "number" and token.value.isdigit():
        stream.advance()
        return int(token.value)
    if not stream.at_any("now", "proctime", "begin"):
        raise stream.error()
    stream.advance()
    stream.expect_symbol("(")
    stream.expect_symbol(")")
    return "begin" if token.value == "begin" else "now"


def fetch(stream: TokenStream) -> Statement:
    count = 1
    token = stream.current
    if token.kind == "number":
        if not token.value.isdigit():
            raise stream.error()
        count = int(stream.advance().value)
    elif not stream.accept("next"):
        if stream.at_any("prior", "first", "last", "absolute", "relative", "forward", "backward", "all"):
            raise stream.unsupported("cursors move forward only", fix="Write FETCH NEXT FROM or FETCH n FROM.")
        raise stream.error()
    if not stream.accept("from"):
        stream.expect("in")
    cursor = stream.name()
    timeout = None
    if stream.at("with"):
        place = stream.current.position
        found = clauses.with_options(stream)
        if "timeout" in found:
            timeout = clauses.duration_seconds(found["timeout"], place)
    return Fetch(text="", cursor=cursor, count=count, timeout_seconds=timeout)


def close(stream: TokenStream) -> Statement:
    return CloseCursor(text="", cursor=None if stream.accept("all") else stream.name())
