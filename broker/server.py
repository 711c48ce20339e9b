"""The broker: a data folder, a listening socket, and what lies between."""

from __future__ import annotations

import asyncio
import logging
import uuid
from contextlib import AsyncExitStack
from pathlib import Path

from broker.connection import Connection
from broker.coordinators.groups import Groups
from broker.coordinators.offsets import Offsets
from broker.coordinators.producer_ids import ProducerIds
from broker.coordinators.store import Store
from broker.coordinators.transactions import Transactions
from broker.folder import FolderLock
from broker.log.flusher import Flusher
from broker.node import Node
from broker.topics import Topics
from core.clock import Clock, SystemClock
from core.errors import ConfigError, HeadraceError, UnavailableError
from core.settings import BrokerSettings

logger = logging.getLogger(__name__)

# A produce request of a usual client fits, so that its read does not stop and go.
_STREAM_LIMIT_BYTES = 1 << 20
_HOUSEKEEPING_SECONDS = 1.0
_RETENTION_ROUNDS = 30


class Broker:
    """An embedded Kafka broker on one data folder.

    Args:
        data_dir: holds everything the broker keeps; locked while it runs.
        host: address to listen on, and what clients are told to connect to.
        port: 0 takes a free one.
    """

    def __init__(self, data_dir: Path, host: str, port: int, settings: BrokerSettings, clock: Clock | None = None) -> None:
        self._data_dir = data_dir
        self._host = host
        self._port = port
        self._settings = settings
        self._clock = clock or SystemClock()
        self._failure: asyncio.Future[None] | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._closing = AsyncExitStack()  # what was opened, to be closed the other way round

    async def start(self) -> int:
        """Recover the logs and listen.

        Returns:
            the port.

        Raises:
            ConflictError: another broker runs on the folder.
            ConfigError: the address cannot be listened on.
            CorruptDataError: the folder holds what is not ours.
        """
        self._failure = asyncio.get_running_loop().create_future()
        self._failure.add_done_callback(lambda future: future.cancelled() or future.exception())
        try:
            self._node = await self._open()
            await self._listen()
        except BaseException:
            await self.stop()
            raise
        logger.info("broker ready", extra={"host": self._host, "port": self._port, "data_dir": str(self._data_dir)})
        return self._port

    async def stop(self) -> None:
        """Stop listening, let go of the clients, flush, and unlock the folder."""
        await self._closing.aclose()

    async def wait_failed(self) -> None:
        """Wait for ever, or until the disk fails.

        Raises:
            UnavailableError: the disk failed; call `stop`.
        """
        assert self._failure is not None, "start() comes first"
        await asyncio.shield(self._failure)

    async def _open(self) -> Node:
        """Recover what the folder holds."""
        settings, closing = self._settings, self._closing
        lock = FolderLock(self._data_dir)
        closing.callback(lock.release)
        flusher = Flusher(settings.fsync, settings.fsync_interval_ms, self._fail)
        topics = Topics(self._data_dir, settings, flusher, self._now_ms)
        closing.callback(topics.close)
        closing.push_async_callback(flusher.close)
        topics.open()
        store = Store(self._data_dir / "coordinators.db", sync=settings.fsync != "never")
        closing.push_async_callback(store.close)
        producer_ids, offsets = ProducerIds(store), Offsets(store)
        node = Node(
            cluster_id=await _cluster_id(store),
            host=self._host,
            port=self._port,
            settings=settings,
            topics=topics,
            producer_ids=producer_ids,
            offsets=offsets,
            groups=Groups(self._clock),
            transactions=Transactions(store, topics, offsets, producer_ids, self._now_ms),
        )
        closing.push_async_callback(self._finish_requests, node)
        await node.transactions.recover()
        housekeeping = asyncio.create_task(self._keep_house(node))
        closing.push_async_callback(_cancelled, housekeeping)
        return node

    async def _listen(self) -> None:
        try:
            server = await asyncio.start_server(
                self._serve, self._host, self._port, limit=_STREAM_LIMIT_BYTES, start_serving=False
            )
        except OSError as error:
            raise ConfigError(
                f"cannot listen on `{self._host}:{self._port}`: {error.strerror}",
                fix="Choose another port; 0 takes a free one.",
            ) from error
        self._closing.push_async_callback(self._hang_up, server)
        # Clients are told this port, so nobody may be served before it is known.
        self._node.port = self._port = server.sockets[0].getsockname()[1]
        await server.start_serving()

    async def _hang_up(self, server: asyncio.Server) -> None:
        server.close()
        self._node.groups.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await server.wait_closed()
        logger.info("broker stopped", extra={"port": self._port})

    async def _finish_requests(self, node: Node) -> None:
        await asyncio.gather(*node.unfinished, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None, "asyncio runs this in a task"
        self._connections.add(task)
        try:
            await Connection(self._node, reader, writer).serve()
        except asyncio.CancelledError:
            pass  # the broker stops
        finally:
            self._connections.discard(task)

    async def _keep_house(self, node: Node) -> None:
        rounds = 0
        while True:
            await asyncio.sleep(_HOUSEKEEPING_SECONDS)
            try:
                node.groups.expire()
                await node.transactions.abort_expired()
                rounds += 1
                if rounds % _RETENTION_ROUNDS == 0:
                    node.topics.retain()
            except (HeadraceError, OSError):
                logger.exception("housekeeping failed; tried again later")

    def _now_ms(self) -> int:
        return int(self._clock.now().timestamp() * 1000)

    def _fail(self, error: UnavailableError) -> None:
        if self._failure is not None and not self._failure.done():
            self._failure.set_exception(error)


async def _cluster_id(store: Store) -> str:
    rows = store.load("SELECT value FROM meta WHERE key = 'cluster_id'")
    if rows:
        return str(rows[0][0])
    cluster_id = uuid.uuid4().hex[:22]
    await store.write(("INSERT INTO meta (key, value) VALUES ('cluster_id', ?)", (cluster_id,)))
    return cluster_id


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
