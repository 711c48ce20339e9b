"""Extended query: prepared statements and portals of one connection.

A portal holds its whole answer in Arrow, read before its first row goes out, so a client that fetches slowly holds memory but
never a transaction (ENGINE.md 5). Portals end with the transaction.

Source: PostgreSQL documentation, section 55.2.3 "Extended Query".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from engine.session import Field, Prepared, Result, Session
from engine.sql.errors import SqlError, SqlSyntaxError
from engine.sql.statements import Copy, Statement, Utility
from engine.sql.types import SqlType
from engine.wire import messages
from engine.wire.answers import Answers
from engine.wire.channel import Channel
from engine.wire.copying import receive_copy, send_copy
from engine.wire.decode import decode
from engine.wire.messages import ProtocolViolation, Reader
from engine.wire.oids import TEXT_OID, column_oid, type_of

_DEALLOCATE = re.compile(
    r"\s*(?:DEALLOCATE\s+(?:PREPARE\s+)?(?:\"(?P<quoted>(?:[^\"]|\"\")+)\"|(?P<name>\w+))|DISCARD\s+ALL)\s*;?\s*", re.IGNORECASE
)


@dataclass(frozen=True)
class PreparedStatement:
    """What Parse made. `prepared` is None for an empty query string; `oids` are those that the client gave (0: inferred)."""

    prepared: Prepared | None
    oids: tuple[int, ...]

    def parameter_oid(self, position: int) -> int:
        given = self.oids[position] if position < len(self.oids) else 0
        if given:
            return given
        assert self.prepared is not None
        type_ = self.prepared.parameters[position]
        return TEXT_OID if type_.name == "unknown" else column_oid(type_)


@dataclass
class Portal:
    """A bound statement; `sent` rows of `rows` have gone out."""

    statement: PreparedStatement
    values: tuple[object, ...]
    formats: tuple[int, ...]
    result: Result | None = None
    rows: pa.Table | None = None
    sent: int = 0
    ended: bool = False


class ExtendedQuery:
    """Handles Parse, Bind, Describe, Execute and Close; every method may raise `SqlError`."""

    def __init__(self, session: Session, channel: Channel, answers: Answers) -> None:
        self._session = session
        self._channel = channel
        self._answers = answers
        self._statements: dict[str, PreparedStatement] = {}
        self._portals: dict[str, Portal] = {}

    async def parse(self, body: bytes) -> None:
        reader = Reader(body)
        name, sql = reader.text(), reader.text()
        oids = tuple(reader.uint32() for _ in range(reader.uint16()))
        reader.finish()
        if name and name in self._statements:
            raise SqlError(
                f"prepared statement `{name}` already exists", sqlstate="42P05", fix="Close it first, or use another name."
            )
        if not name:
            self._statements.pop("", None)
        statements = self._session.parse(sql)
        if len(statements) > 1:
            raise SqlSyntaxError(
                "cannot insert multiple commands into a prepared statement",
                fix="Send one statement at a time, or use the simple query protocol.",
            )
        prepared = None
        if statements:
            types: list[SqlType | None] = [type_of(oid) for oid in oids]
            prepared = await self._session.prepare(statements[0], types)
        announced = oids or (prepared.parameter_oids if prepared is not None else ())
        self._statements[name] = PreparedStatement(prepared, announced)
        self._channel.write(messages.PARSE_COMPLETE)

    async def bind(self, body: bytes) -> None:
        reader = Reader(body)
        portal_name, statement_name = reader.text(), reader.text()
        parameter_formats = [_format(reader) for _ in range(reader.uint16())]
        data = [reader.value() for _ in range(reader.uint16())]
        result_formats = [_format(reader) for _ in range(reader.uint16())]
        reader.finish()
        statement = self._statement(statement_name)
        if portal_name and portal_name in self._portals:
            raise SqlError(f"cursor `{portal_name}` already exists", sqlstate="42P03")
        prepared = statement.prepared
        wanted = len(prepared.parameters) if prepared is not None else 0
        if len(data) != wanted:
            raise SqlError(
                f"bind message supplies {len(data)} parameters, but prepared statement `{statement_name}` requires {wanted}",
                sqlstate="08P01",
            )
        formats = _spread(parameter_formats, wanted, "parameter")
        values: tuple[object, ...] = ()
        if prepared is not None:
            given = [*statement.oids, *[0] * wanted]
            values = tuple(map(decode, prepared.parameters, given, formats, data))
        fields = prepared.fields if prepared is not None else None
        columns = len(fields) if fields is not None else len(result_formats)
        self._portals[portal_name] = Portal(statement, values, tuple(_spread(result_formats, columns, "result")))
        self._channel.write(messages.BIND_COMPLETE)

    async def describe(self, body: bytes) -> None:
        kind, name = _target(body)
        if kind == b"S":
            statement = self._statement(name)
            prepared = statement.prepared
            count = len(prepared.parameters) if prepared is not None else 0
            self._channel.write(messages.parameter_description([statement.parameter_oid(at) for at in range(count)]))
            fields = _described(prepared)
            self._answers.describe(fields, [0] * len(fields or ()))
        else:
            portal = self._portal(name)
            fields = _described(portal.statement.prepared)
            self._answers.describe(fields, portal.formats if fields is not None else ())

    async def execute(self, body: bytes) -> None:
        reader = Reader(body)
        portal, limit = self._portal(reader.text()), reader.int32()
        reader.finish()
        prepared = portal.statement.prepared
        if prepared is None:
            self._channel.write(messages.EMPTY_QUERY_RESPONSE)
            return
        first = portal.result is None
        if portal.result is None:
            if portal.ended:
                raise SqlError("portal cannot be run", sqlstate="55000", fix="Bind the statement again.")
            portal.ended = True
            if prepared.copy_fields is not None:
                self._answers.completed(await receive_copy(self._channel, self._session, prepared))
                return
            result = await self._session.execute(prepared, portal.values)
            if result.fields is not None and prepared.fields is not None:
                _must_match(prepared.fields, result.fields)
            self._answers.began(result)
            if isinstance(prepared.statement, Copy) and result.fields is not None:
                await send_copy(self._channel, prepared.statement, result)
                self._answers.completed(result)
                return
            portal.result, portal.rows = result, result.rows
        result = portal.result
        if result.fields is None or prepared.fields is None:
            if not first:
                raise SqlError("portal cannot be run", sqlstate="55000", fix="Bind the statement again.")
            self._answers.completed(result)
            self.deallocate(prepared.statement)
            return
        await self._send(portal, result, limit)

    async def close(self, body: bytes) -> None:
        kind, name = _target(body)
        if kind == b"S":
            self._statements.pop(name, None)
        else:
            self._portals.pop(name, None)
        self._channel.write(messages.CLOSE_COMPLETE)

    def end_transaction(self) -> None:
        """Portals do not outlive the transaction."""
        self._portals.clear()

    def forget_unnamed(self) -> None:
        """A simple query ends the unnamed statement and portal."""
        self._statements.pop("", None)
        self._portals.pop("", None)

    def deallocate(self, statement: Statement) -> None:
        """Prepared statements live here, so DEALLOCATE and DISCARD ALL, which the engine lets pass, take effect here."""
        if not isinstance(statement, Utility):
            return
        found = _DEALLOCATE.fullmatch(statement.text)
        if found is None:
            return
        quoted, name = found["quoted"], found["name"]
        if quoted is not None:
            self._statements.pop(quoted.replace('""', '"'), None)
        elif name is None or name.lower() == "all":
            self._statements.clear()
        else:
            self._statements.pop(name.lower(), None)

    async def _send(self, portal: Portal, result: Result, limit: int) -> None:
        assert result.fields is not None
        total = portal.rows.num_rows if portal.rows is not None else portal.sent
        count = total - portal.sent if limit <= 0 else min(limit, total - portal.sent)
        resumed = portal.sent > 0
        if portal.rows is not None and count:
            await self._answers.rows(result.fields, portal.formats, portal.rows.slice(portal.sent, count))
        portal.sent += count
        if 0 < limit == count:
            # As PostgreSQL has it: a portal that met its limit does not know yet whether there is more.
            self._answers.status = result.transaction_status
            self._channel.write(messages.PORTAL_SUSPENDED)
            return
        portal.rows = None if portal.sent == total else portal.rows
        word = result.tag.rsplit(" ", 1)[0]
        self._answers.completed(result, f"{word} {count}" if resumed or count < total else None)

    def _statement(self, name: str) -> PreparedStatement:
        statement = self._statements.get(name)
        if statement is None:
            raise SqlError(f"prepared statement `{name}` does not exist", sqlstate="26000")
        return statement

    def _portal(self, name: str) -> Portal:
        portal = self._portals.get(name)
        if portal is None:
            raise SqlError(f"portal `{name}` does not exist", sqlstate="34000")
        return portal


def _described(prepared: Prepared | None) -> tuple[Field, ...] | None:
    """The columns of DataRow messages; what COPY sends is described by its own message."""
    return None if prepared is None or isinstance(prepared.statement, Copy) else prepared.fields


def _must_match(promised: Sequence[Field], given: Sequence[Field]) -> None:
    """The client reads rows by the description it got, so a relation that has changed since must not be sent as another."""
    if [column_oid(field.type) for field in promised] != [column_oid(field.type) for field in given]:
        raise SqlError("cached plan must not change result type", sqlstate="0A000", fix="Prepare the statement again.")


def _target(body: bytes) -> tuple[bytes, str]:
    """What Describe and Close are about: `S` statement or `P` portal, and its name."""
    reader = Reader(body)
    kind, name = reader.take(1), reader.text()
    reader.finish()
    if kind not in (b"S", b"P"):
        raise ProtocolViolation("neither a statement nor a portal is named")
    return kind, name


def _format(reader: Reader) -> int:
    code = reader.int16()
    if code not in (0, 1):
        raise ProtocolViolation(f"unknown format code {code}")
    return code


def _spread(formats: list[int], count: int, what: str) -> list[int]:
    """One format a column: none given means text, one given holds for all."""
    if len(formats) == count:
        return formats
    if len(formats) > 1:
        raise SqlError(f"bind message has {len(formats)} {what} formats but {count} {what}s", sqlstate="08P01")
    return (formats or [0]) * count
