"""Who may connect. The server asks an `Authenticator`; it raises `SqlError` (28000, 28P01) to refuse.

Passwords are kept as SCRAM secrets only, so a stolen table of them opens nothing. Source: RFC 5802, RFC 7677, and PostgreSQL
documentation, section 55.3 "SASL Authentication".
"""

from __future__ import annotations

import asyncio
import ipaddress
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from engine.sql.errors import SqlError
from engine.wire.messages import ProtocolViolation, Reader
from engine.wire.scram import MECHANISM, ScramFailure, ScramSecret, ScramServer

_SASL, _SASL_CONTINUE, _SASL_FINAL = 10, 11, 12
_CLEARTEXT = 3


@dataclass(frozen=True)
class AuthExchange:
    """What an authenticator knows about a client, and how it talks with it.

    Attributes:
        user: the name that the client gave.
        database: the database that it wants.
        peer: its IP address.
        encrypted: whether the connection is under TLS.
        ask: sends an Authentication request (code, payload) and gives the body of the client's `p` message.
        tell: sends an Authentication message that wants no answer.
    """

    user: str
    database: str
    peer: str
    encrypted: bool
    ask: Callable[[int, bytes], Awaitable[bytes]]
    tell: Callable[[int, bytes], None]


class Authenticator(Protocol):
    """Returns when the client is who it says it is."""

    async def authenticate(self, exchange: AuthExchange) -> None: ...


@dataclass(frozen=True)
class TrustLoopback:
    """Believes these users without a password when they come from this machine; nobody else."""

    users: frozenset[str] = frozenset({"root"})

    async def authenticate(self, exchange: AuthExchange) -> None:
        if exchange.user not in self.users:
            raise SqlError(f"role `{exchange.user}` does not exist", sqlstate="28000", fix=f"Connect as {self._names()}.")
        if not is_loopback(exchange.peer):
            raise SqlError(
                f"no password is set for role `{exchange.user}`, so it may connect from this machine only",
                sqlstate="28000",
                fix="Give the role a password, or connect through the loopback address.",
            )

    def _names(self) -> str:
        return " or ".join(f"`{user}`" for user in sorted(self.users))


class Scram:
    """Asks for SCRAM-SHA-256; the password never crosses the wire, and the client can tell a false server.

    Args:
        roles: secret of each user. Somebody unknown is led through the same exchange and refused at its end, so that an
            answer does not tell who exists.
    """

    def __init__(self, roles: Mapping[str, ScramSecret]) -> None:
        self._roles = roles
        self._nobody = ScramSecret.from_password(secrets.token_urlsafe(24))

    async def authenticate(self, exchange: AuthExchange) -> None:
        secret = self._roles.get(exchange.user, self._nobody)
        reader = Reader(await exchange.ask(_SASL, MECHANISM.encode() + b"\0\0"))
        chosen, first = reader.text(), reader.value()
        if chosen != MECHANISM or first is None:
            raise ProtocolViolation("client selected an invalid SASL authentication mechanism")
        server = ScramServer(secret)
        try:
            final = await exchange.ask(_SASL_CONTINUE, server.first(first))
            verdict = server.final(final)
        except ScramFailure as error:
            raise _wrong_password(exchange.user) from error
        if secret is self._nobody:
            raise _wrong_password(exchange.user)
        exchange.tell(_SASL_FINAL, verdict)


class CleartextPassword:
    """Asks for the password itself, for clients without SCRAM; only under TLS or on this machine."""

    def __init__(self, roles: Mapping[str, ScramSecret]) -> None:
        self._roles = roles
        self._nobody = ScramSecret.from_password(secrets.token_urlsafe(24))

    async def authenticate(self, exchange: AuthExchange) -> None:
        if not exchange.encrypted and not is_loopback(exchange.peer):
            raise SqlError("a password is not taken over an open line", sqlstate="28000", fix="Connect with sslmode=require.")
        reader = Reader(await exchange.ask(_CLEARTEXT, b""))
        password = reader.text()
        secret = self._roles.get(exchange.user, self._nobody)
        if not await asyncio.to_thread(secret.matches, password) or secret is self._nobody:
            raise _wrong_password(exchange.user)


def _wrong_password(user: str) -> SqlError:
    return SqlError(f"password authentication failed for user `{user}`", sqlstate="28P01")


def is_loopback(peer: str) -> bool:
    """Whether an address is this machine's own."""
    if peer == "localhost":
        return True
    try:
        return ipaddress.ip_address(peer.partition("%")[0]).is_loopback
    except ValueError:
        return False
