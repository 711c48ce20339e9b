"""Who may connect. The server asks an `Authenticator`; it raises `SqlError` (28000, 28P01) to refuse."""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from engine.sql.errors import SqlError


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
        if not _is_loopback(exchange.peer):
            raise SqlError(
                f"no password is set for role `{exchange.user}`, so it may connect from this machine only",
                sqlstate="28000",
                fix="Give the role a password, or connect through the loopback address.",
            )

    def _names(self) -> str:
        return " or ".join(f"`{user}`" for user in sorted(self.users))


def _is_loopback(peer: str) -> bool:
    try:
        return ipaddress.ip_address(peer.partition("%")[0]).is_loopback
    except ValueError:
        return False
