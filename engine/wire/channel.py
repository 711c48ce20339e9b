"""One client's byte stream: whole messages in, buffered bytes out, with back-pressure both ways.

A reading limit keeps a client that sends faster than it is served from filling memory; `drain` keeps a client that does not
read from doing the same. A connection that vanishes is reported at once, even while a statement runs.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import Callable
from typing import cast

from engine.wire.messages import ProtocolViolation

_LENGTH = struct.Struct("!I")
_READ_LIMIT_BYTES = 1 << 20
_FLUSH_BYTES = 64 * 1024
_MAX_STARTUP_BYTES = 10_000
"""PostgreSQL's own limit; a stranger that speaks another protocol is found out by it."""
_KEEPALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 6}
"""A client whose machine vanished without a word is found out after two minutes."""


class ConnectionLost(Exception):
    """The client is gone."""


class Channel(asyncio.Protocol):
    """asyncio's side of a connection; `on_open` is called once with the channel, `on_lost` when the client is gone."""

    def __init__(self, on_open: Callable[[Channel], None], *, max_message_bytes: int) -> None:
        self._on_open: Callable[[Channel], None] | None = on_open
        self._max_message_bytes = max_message_bytes
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._wanted: asyncio.Future[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._reading_paused = False
        self._out: list[bytes] = []
        self._out_bytes = 0
        self.lost = False
        self.on_lost: Callable[[], None] | None = None

    # -- called by asyncio ---------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A stream protocol is always given a Transport, though uvloop's are no subclasses of it.
        self._transport = cast(asyncio.Transport, transport)
        if self._on_open is not None:
            on_open, self._on_open = self._on_open, None
            on_open(self)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._wanted is None and len(self._buffer) > _READ_LIMIT_BYTES and self._transport is not None:
            self._reading_paused = True
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        self._mark_lost()
        return False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's signature
        self._mark_lost()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # -- called by the connection --------------------------------------------------------------------------------------

    @property
    def peer(self) -> str:
        """The client's address, for log lines and for authentication; empty when unknown."""
        name = self._transport.get_extra_info("peername") if self._transport is not None else None
        return str(name[0]) if isinstance(name, tuple) else ""

    def keep_alive(self) -> None:
        """Have the operating system find out whether a silent client is still there."""
        sock = self._transport.get_extra_info("socket") if self._transport is not None else None
        if sock is None:
            return
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE.items():
            if hasattr(socket, name):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)

    async def read_startup(self) -> bytes:
        """The body of a message without a type byte."""
        await self._need(4)
        length: int = _LENGTH.unpack_from(self._buffer)[0]
        if not 8 <= length <= _MAX_STARTUP_BYTES:
            raise ProtocolViolation("invalid length of startup packet")
        await self._need(length)
        return self._take(length)[4:]

    async def read_message(self, most: int | None = None) -> tuple[bytes, bytes]:
        """The type and body of the next message, of at most so many bytes."""
        await self._need(5)
        length: int = _LENGTH.unpack_from(self._buffer, 1)[0]
        if not 4 <= length <= (most or self._max_message_bytes):
            raise ProtocolViolation(f"invalid message length {length}")
        await self._need(length + 1)
        taken = self._take(length + 1)
        return taken[:1], taken[5:]

    def write(self, data: bytes | memoryview) -> None:
        """Queue bytes; they go out with `flush`, or by themselves when there are many."""
        if len(data) >= _FLUSH_BYTES:
            self.flush()
            if self._transport is not None and not self.lost:
                self._transport.write(data)
            return
        self._out.append(bytes(data))
        self._out_bytes += len(data)
        if self._out_bytes >= _FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        if self._out and self._transport is not None and not self.lost:
            self._transport.write(b"".join(self._out))
        self._out.clear()
        self._out_bytes = 0

    async def drain(self) -> None:
        """Wait until the client has taken most of what was written, and let other connections run."""
        if self.lost:
            raise ConnectionLost
        if self._writable.is_set():
            await asyncio.sleep(0)
        else:
            await self._writable.wait()
        if self.lost:
            raise ConnectionLost

    async def start_tls(self, context: ssl.SSLContext) -> None:
        """Encrypt from here on. Nothing may have been sent in clear after the request (CVE-2021-23222)."""
        if self._buffer:
            raise ProtocolViolation("received unencrypted data after SSL request")
        assert self._transport is not None
        self.flush()
        try:
            upgraded = await asyncio.get_running_loop().start_tls(self._transport, self, context, server_side=True)
        except (OSError, ssl.SSLError) as error:
            raise ConnectionLost from error
        if upgraded is None:
            raise ConnectionLost
        self._transport = upgraded

    def close(self) -> None:
        self.flush()
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    async def _need(self, count: int) -> None:
        while len(self._buffer) < count:
            if self.lost:
                raise ConnectionLost
            self._wanted = asyncio.get_running_loop().create_future()
            if self._reading_paused and self._transport is not None:
                self._reading_paused = False
                self._transport.resume_reading()
            try:
                await self._wanted
            finally:
                self._wanted = None

    def _take(self, count: int) -> bytes:
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    def _wake(self) -> None:
        if self._wanted is not None and not self._wanted.done():
            self._wanted.set_result(None)

    def _mark_lost(self) -> None:
        if self.lost:
            return
        self.lost = True
        self._writable.set()
        self._wake()
        if self.on_lost is not None:
            self.on_lost()
