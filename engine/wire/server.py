"""The listener: accepts clients, gives each its task, and keeps the keys by which a statement can be cancelled."""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
import ssl

from engine.session import SessionFactory
from engine.wire import messages
from engine.wire.auth import Authenticator, TrustLoopback
from engine.wire.channel import Channel
from engine.wire.connection import Connection, Door
from engine.wire.reports import fatal_fields

logger = logging.getLogger(__name__)

_MAX_MESSAGE_BYTES = 256 * 1024 * 1024
_STOP_SECONDS = 5.0
"""How long `stop` waits for sessions to close after their statements were interrupted."""


class WireServer:
    """Speaks PostgreSQL's protocol for the sessions of a factory.

    Args:
        factory: opens a session for each client.
        host: address to listen on; the default of the house is 127.0.0.1.
        port: 0 takes a free one.
        authenticator: who may connect; by default user `root` from this machine.
        tls: server-side context; None answers SSLRequest with `N`.
        tls_required: refuse clients that do not encrypt.
        max_connections: more are told `53300` and closed.
        max_message_bytes: a longer message ends its connection.
    """

    def __init__(
        self,
        factory: SessionFactory,
        host: str,
        port: int,
        *,
        authenticator: Authenticator | None = None,
        tls: ssl.SSLContext | None = None,
        tls_required: bool = False,
        max_connections: int = 500,
        max_message_bytes: int = _MAX_MESSAGE_BYTES,
    ) -> None:
        self._host = host
        self._port = port
        self._max_connections = max_connections
        self._max_message_bytes = max_message_bytes
        self._door = Door(factory, authenticator or TrustLoopback(), self._cancel, tls, tls_required)
        self._server: asyncio.Server | None = None
        self._connections: dict[int, Connection] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._process_ids = itertools.count(1)

    async def start(self) -> int:
        """Listen; gives the real port."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._channel, self._host, self._port, backlog=256)
        port: int = self._server.sockets[0].getsockname()[1]
        logger.info("database listening", extra={"host": self._host, "port": port})
        return port

    async def stop(self) -> None:
        """Take no more clients, interrupt what runs, tell everybody, and wait until all sessions are closed."""
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections.values()):
            connection.cancel()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_STOP_SECONDS)
        if self._server is not None:
            await self._server.wait_closed()
            self._server = None

    @property
    def connections(self) -> int:
        """Clients that are connected now."""
        return len(self._connections)

    def _channel(self) -> Channel:
        return Channel(self._accept, max_message_bytes=self._max_message_bytes)

    def _accept(self, channel: Channel) -> None:
        channel.keep_alive()
        if len(self._connections) >= self._max_connections:
            channel.write(messages.error_response(fatal_fields("53300", "sorry, too many clients already")))
            channel.close()
            return
        process_id = next(self._process_ids) & 0x7FFFFFFF
        connection = Connection(channel, self._door, process_id, secrets.randbits(32))
        self._connections[process_id] = connection
        task = asyncio.get_running_loop().create_task(self._serve(connection), name=f"wire-{process_id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, connection: Connection) -> None:
        try:
            await connection.run()
        finally:
            self._connections.pop(connection.process_id, None)

    def _cancel(self, process_id: int, secret: int) -> None:
        connection = self._connections.get(process_id)
        if connection is None or not secrets.compare_digest(connection.secret.to_bytes(4), secret.to_bytes(4)):
            logger.warning("cancel request with a wrong key", extra={"process_id": process_id})
            return
        connection.cancel()
