"""The broker: a data folder, a listening socket, and what lies between."""

from __future__ import annotations

import asyncio
import logging
import uuid
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
        self._lock: FolderLock | None = None
        self._server: asyncio.Server | None = None

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
        self._lock = FolderLock(self._data_dir)
        settings = self._settings
        self._flusher = Flusher(settings.fsync, settings.fsync_interval_ms, self._fail)
        self._store = Store(self._data_dir / "coordinators.db", sync=settings.fsync != "never")
        self._topics = Topics(self._data_dir, settings, self._flusher, self._now_ms)
        self._topics.open()
        producer_ids, offsets = ProducerIds(self._store), Offsets(self._store)
        self._node = Node(
            cluster_id=await self._cluster_id(),
            host=self._host,
            port=self._port,
            settings=settings,
            topics=self._topics,
            producer_ids=producer_ids,
            offsets=offsets,
            groups=Groups(self._clock),
            transactions=Transactions(self._store, self._topics, offsets, producer_ids, self._now_ms),
        )
        await self._node.transactions.recover()
        self._housekeeping = asyncio.create_task(self._keep_house())
        try:
            self._server = await asyncio.start_server(self._serve, self._host, self._port, limit=_STREAM_LIMIT_BYTES)
        except OSError as error:
            await self.stop()
            raise ConfigError(
                f"cannot listen on `{self._host}:{self._port}`: {error.strerror}",
                fix="Choose another port; 0 takes a free one.",
            ) from error
        self._node.port = self._port = self._server.sockets[0].getsockname()[1]
        logger.info("broker ready", extra={"host": self._host, "port": self._port, "data_dir": str(self._data_dir)})
        return self._port

    async def wait_failed(self) -> None:
        """Wait for ever, or until the disk fails.

        Raises:
            UnavailableError: the disk failed; call `stop`.
        """
        assert self._failure is not None, "start() comes first"
        await asyncio.shield(self._failure)

    async def stop(self) -> None:
        """Stop listening, let go of the clients, flush, and unlock the folder."""
        if self._lock is None:
            return
        if self._server is not None:
            self._server.close()
        self._node.groups.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        if self._server is not None:
            await self._server.wait_closed()
        self._housekeeping.cancel()
        await asyncio.gather(self._housekeeping, *self._node.unfinished, return_exceptions=True)
        await self._flusher.close()
        await self._store.close()
        self._topics.close()
        self._lock.release()
        self._lock = None
        logger.info("broker stopped", extra={"port": self._port})

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

    async def _keep_house(self) -> None:
        while True:
            await asyncio.sleep(_HOUSEKEEPING_SECONDS)
            try:
                self._node.groups.expire()
                await self._node.transactions.abort_expired()
            except HeadraceError:
                logger.exception("housekeeping failed; tried again later")

    async def _cluster_id(self) -> str:
        rows = self._store.load("SELECT value FROM meta WHERE key = 'cluster_id'")
        if rows:
            return str(rows[0][0])
        cluster_id = uuid.uuid4().hex[:22]
        await self._store.write(("INSERT INTO meta (key, value) VALUES ('cluster_id', ?)", (cluster_id,)))
        return cluster_id

    def _now_ms(self) -> int:
        return int(self._clock.now().timestamp() * 1000)

    def _fail(self, error: UnavailableError) -> None:
        if self._failure is not None and not self._failure.done():
            self._failure.set_exception(error)
