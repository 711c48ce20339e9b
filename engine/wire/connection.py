"""One client connection: start-up, then a loop over its messages until it leaves.

    start-up packet -> [TLS] -> authentication -> session -> ReadyForQuery
        Q                    parse, prepare and execute each statement -> ReadyForQuery
        P B D E C H          extended query; after an error everything up to S is skipped
        S                    ReadyForQuery
        X, or a lost client  the session is closed

Source: PostgreSQL documentation, section 55.2 "Message Flow".
"""

from __future__ import annotations

import asyncio
import logging
import shlex
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from core.errors import HeadraceError
from engine.session import Session, SessionFactory
from engine.sql.errors import SqlError
from engine.sql.statements import Copy
from engine.wire import messages
from engine.wire.answers import Answers
from engine.wire.auth import Authenticator, AuthExchange
from engine.wire.channel import Channel, ConnectionLost
from engine.wire.copying import receive_copy, send_copy
from engine.wire.extended import ExtendedQuery
from engine.wire.messages import ProtocolViolation, Reader
from engine.wire.reports import PROTOCOL_VIOLATION, error_fields, fatal_fields

logger = logging.getLogger(__name__)

_STARTUP_SECONDS = 30.0
"""A client that has not introduced itself by then is sent away, so that strangers cannot hold connections."""
_MAX_PASSWORD_BYTES = 64 * 1024
"""Strangers may not send more than this in one message."""


@dataclass(frozen=True)
class Door:
    """What all connections of a server share.

    Attributes:
        factory: opens sessions.
        authenticator: decides who may connect.
        cancel: acts on a CancelRequest (process id, secret).
        tls: a server-side context, or None to answer SSLRequest with `N`.
        tls_required: refuse clients that do not ask for TLS.
    """

    factory: SessionFactory
    authenticator: Authenticator
    cancel: Callable[[int, int], None]
    tls: ssl.SSLContext | None = None
    tls_required: bool = False


class Connection:
    """Serves one channel. `process_id` and `secret` are what a CancelRequest for it must name."""

    def __init__(self, channel: Channel, door: Door, process_id: int, secret: int) -> None:
        self._channel = channel
        self._door = door
        self.process_id = process_id
        self.secret = secret
        self._answers = Answers(channel)
        self._session: Session | None = None
        self._extended: ExtendedQuery | None = None
        self._executing = False
        self._encrypted = False
        channel.on_lost = self.cancel

    async def run(self) -> None:
        """Serve the client until it leaves; never raises but for cancellation."""
        try:
            async with asyncio.timeout(_STARTUP_SECONDS):
                session = await self._start()
            if session is not None:
                await self._serve(session)
        except ConnectionLost:
            logger.debug("client went away", extra={"process_id": self.process_id})
        except ProtocolViolation as error:
            logger.warning(
                "protocol violation", extra={"process_id": self.process_id, "peer": self._channel.peer, "why": str(error)}
            )
            self._last_words(fatal_fields(PROTOCOL_VIOLATION, f"protocol violation: {error}"))
        except TimeoutError:
            self._last_words(fatal_fields("57014", "canceling authentication due to timeout"))
        except asyncio.CancelledError:
            self._last_words(fatal_fields("57P01", "terminating connection because the server is shutting down"))
        except HeadraceError as error:
            self._last_words(error_fields(error, severity="FATAL"))
        except Exception as error:  # noqa: BLE001  # last frame of the connection's task: one client's trouble stays its own
            self._last_words(error_fields(error, severity="FATAL"))
        finally:
            self._channel.on_lost = None
            try:
                if self._session is not None:
                    await asyncio.shield(self._session.close())
            except Exception:
                logger.exception("session did not close cleanly", extra={"process_id": self.process_id})
            finally:
                self._channel.close()

    def cancel(self) -> None:
        """Interrupt the statement that runs now, if one does."""
        if self._session is not None and self._executing:
            self._session.cancel()

    # -- start-up ------------------------------------------------------------------------------------------------------

    async def _start(self) -> Session | None:
        """Take the connection to its first ReadyForQuery; None when it was only a cancel request."""
        version, reader = await self._negotiate()
        if version == messages.CANCEL_REQUEST:
            self._door.cancel(reader.uint32(), reader.uint32())
            return None
        if version >> 16 != 3:
            raise SqlError(
                f"unsupported frontend protocol {version >> 16}.{version & 0xFFFF}: server supports 3.0", sqlstate="0A000"
            )
        if self._door.tls_required and not self._encrypted:
            raise SqlError(
                "this server takes encrypted connections only", sqlstate="28000", fix="Connect with sslmode=require."
            )
        options = _startup_options(reader)
        unknown = [name for name in options if name.startswith("_pq_.")]
        if version & 0xFFFF or unknown:
            self._channel.write(messages.negotiate_protocol_version(messages.PROTOCOL_3_0, unknown))
        user = options.pop("user", "")
        if not user:
            raise SqlError("no PostgreSQL user name specified in startup packet", sqlstate="28000")
        database = options.pop("database", "") or user
        await self._door.authenticator.authenticate(
            AuthExchange(user, database, self._channel.peer, self._encrypted, self._ask, self._tell)
        )
        self._channel.write(messages.authentication(0))
        self._session = session = await self._door.factory(database=database, user=user, options=options)
        self._extended = ExtendedQuery(session, self._channel, self._answers)
        for name, value in session.parameters.items():
            self._channel.write(messages.parameter_status(name, value))
        self._channel.write(messages.backend_key_data(self.process_id, self.secret))
        await self._answers.ready()
        logger.debug("client connected", extra={"process_id": self.process_id, "database": database, "user": user})
        return session

    async def _negotiate(self) -> tuple[int, Reader]:
        """The first packet that is no request for encryption: its code, and a reader behind it."""
        for _ in range(3):
            reader = Reader(await self._channel.read_startup())
            code = reader.uint32()
            if code == messages.SSL_REQUEST and not self._encrypted:
                self._channel.write(b"S" if self._door.tls is not None else b"N")
                self._channel.flush()
                if self._door.tls is not None:
                    await self._channel.start_tls(self._door.tls)
                    self._encrypted = True
            elif code == messages.GSSENC_REQUEST:
                self._channel.write(b"N")
                self._channel.flush()
            else:
                return code, reader
        raise ProtocolViolation("encryption was asked for again")

    async def _ask(self, code: int, payload: bytes) -> bytes:
        self._tell(code, payload)
        self._channel.flush()
        kind, body = await self._channel.read_message(_MAX_PASSWORD_BYTES)
        if kind != b"p":
            raise ProtocolViolation("an authentication message was expected")
        return body

    def _tell(self, code: int, payload: bytes) -> None:
        self._channel.write(messages.authentication(code, payload))

    # -- the loop ------------------------------------------------------------------------------------------------------

    async def _serve(self, session: Session) -> None:
        extended = self._extended
        assert extended is not None
        handlers: dict[bytes, Callable[[bytes], Awaitable[None]]] = {
            b"P": extended.parse, b"B": extended.bind, b"D": extended.describe, b"E": extended.execute, b"C": extended.close,
        }  # fmt: skip
        skipping = False
        while True:
            kind, body = await self._next_message(session)
            if kind == b"X":
                return
            if kind == b"S":
                skipping = False
                await self._sync(extended)
            elif kind == b"Q":
                skipping = False
                await self._simple_query(session, extended, body)
            elif kind in handlers:
                if not skipping:
                    skipping = not await self._guarded(handlers[kind](body))
            elif kind == b"H":
                self._channel.flush()
                await self._channel.drain()
            elif kind not in (b"d", b"c", b"f"):
                # Copy messages may still arrive after a COPY has failed; they are to be ignored.
                raise ProtocolViolation(f"invalid frontend message type {kind[0]}")

    async def _next_message(self, session: Session) -> tuple[bytes, bytes]:
        seconds = session.idle_in_transaction_seconds if self._answers.status != "I" else None
        if seconds is None:
            return await self._channel.read_message()
        try:
            async with asyncio.timeout(seconds):
                return await self._channel.read_message()
        except TimeoutError as error:
            raise SqlError(
                "terminating connection due to idle-in-transaction timeout", sqlstate="25P03", fix="End the transaction sooner."
            ) from error

    async def _sync(self, extended: ExtendedQuery) -> None:
        if self._answers.status == "I":
            extended.end_transaction()
        await self._answers.ready()

    async def _simple_query(self, session: Session, extended: ExtendedQuery, body: bytes) -> None:
        reader = Reader(body)
        sql = reader.text()
        reader.finish()
        extended.forget_unnamed()

        async def run() -> None:
            statements = session.parse(sql)
            if not statements:
                self._channel.write(messages.EMPTY_QUERY_RESPONSE)
            for statement in statements:
                prepared = await session.prepare(statement)
                if prepared.copy_fields is not None:
                    self._answers.completed(await receive_copy(self._channel, session, prepared))
                    continue
                result = await session.execute(prepared)
                self._answers.began(result)
                if isinstance(statement, Copy) and result.fields is not None:
                    await send_copy(self._channel, statement, result)
                elif result.fields is not None:
                    formats = [0] * len(result.fields)
                    self._answers.describe(result.fields, formats)
                    if result.rows is not None:
                        await self._answers.rows(result.fields, formats, result.rows)
                self._answers.completed(result)
                extended.deallocate(statement)

        await self._guarded(run())
        if self._answers.status == "I":
            extended.end_transaction()
        await self._answers.ready()

    async def _guarded(self, work: Awaitable[None]) -> bool:
        """Run one message's work; an error goes to the client. True when there was none."""
        self._executing = True
        try:
            await work
        except (ConnectionLost, ProtocolViolation):
            raise
        except Exception as error:  # noqa: BLE001  # every statement's error is the client's to see, and no other client's
            self._answers.failed(error_fields(error))
            return False
        finally:
            self._executing = False
        return True

    def _last_words(self, fields: dict[str, str]) -> None:
        if not self._channel.lost:
            self._channel.write(messages.error_response(fields))


def _startup_options(reader: Reader) -> dict[str, str]:
    """The name and value pairs of a start-up packet, with `-c name=value` inside `options` taken apart."""
    found: dict[str, str] = {}
    while name := reader.text():
        found[name] = reader.text()
    reader.finish()
    try:
        words = shlex.split(found.pop("options", ""))
    except ValueError as error:
        raise SqlError("the start-up options have an open quote", sqlstate="08P01") from error
    for at, word in enumerate(words):
        setting = word[2:] if word.startswith(("-c", "--")) else word if at and words[at - 1] == "-c" else ""
        key, equals, value = setting.partition("=")
        if equals:
            found[key.replace("-", "_") if word.startswith("--") else key] = value
    return found
