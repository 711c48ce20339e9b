"""One client's connection: requests in, answers out in the same order.

A produce request is appended as soon as it is read, so that several share one flush; everything else runs one after the
other, as in Kafka. What is malformed, or breaks a handler, costs this connection only.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import struct
from collections.abc import Awaitable

from broker.apis import produce
from broker.apis.table import APIS, PRODUCE_KEY, VERSIONS
from broker.node import Node
from broker.wire import Fields, MalformedRequest, Request, decode_request, encode_response
from core.errors import HeadraceError

logger = logging.getLogger(__name__)

_LENGTH = struct.Struct(">i")
MAX_REQUEST_BYTES = 100 * 1024 * 1024  # Kafka's socket.request.max.bytes
_MAX_PIPELINED = 64

_Pending = tuple[Request, Awaitable[Fields | None] | None]


class Connection:
    """Serves one client until it leaves."""

    def __init__(self, node: Node, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._node = node
        self._reader = reader
        self._writer = writer
        self._queue: asyncio.Queue[_Pending | None] = asyncio.Queue(_MAX_PIPELINED)
        self._unfinished_others = 0

    async def serve(self) -> None:
        answering = asyncio.create_task(self._answer())
        reading = asyncio.create_task(self._read())
        try:
            await asyncio.wait((answering, reading), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (reading, answering):
                task.cancel()
            await asyncio.gather(reading, answering, return_exceptions=True)
            self._discard()
            self._writer.close()
            with contextlib.suppress(OSError):
                await self._writer.wait_closed()

    async def _read(self) -> None:
        try:
            while True:
                length = _LENGTH.unpack(await self._reader.readexactly(_LENGTH.size))[0]
                if not 0 < length <= MAX_REQUEST_BYTES:
                    raise MalformedRequest(f"a request cannot be `{length}` bytes long")
                request = decode_request(await self._reader.readexactly(length), VERSIONS)
                acknowledged: Awaitable[Fields | None] | None = None
                if request.api_key == PRODUCE_KEY and not self._unfinished_others:
                    acknowledged = produce.begin(self._node, request)
                else:
                    self._unfinished_others += 1
                await self._queue.put((request, acknowledged))
        except MalformedRequest as error:
            logger.warning("malformed request; connection closed", extra={"peer": self._peer(), "error": str(error)})
        except (asyncio.IncompleteReadError, OSError):
            pass  # the client left

    async def _answer(self) -> None:
        request: Request | None = None
        try:
            while True:
                item = await self._queue.get()
                assert item is not None
                request, acknowledged = item
                if acknowledged is not None:
                    fields = await acknowledged
                else:
                    fields = await self._handle(request)
                    self._unfinished_others -= 1
                if fields is None:
                    continue
                version = request.version if request.supported else 0
                self._writer.writelines(encode_response(request.api_key, version, request.correlation_id, fields))
                await self._writer.drain()
        except OSError:
            pass  # the client left
        except Exception as error:  # the last frame of a connection: one client's surprise must not touch the others
            logger.exception(
                "request failed; connection closed",
                extra={
                    "peer": self._peer(),
                    "api_key": request.api_key if request else None,
                    "version": request.version if request else None,
                    "known": isinstance(error, HeadraceError),
                },
            )

    async def _handle(self, request: Request) -> Fields | None:
        if request.api_key == PRODUCE_KEY:
            return await produce.begin(self._node, request)
        api = APIS[request.api_key]
        if api.reads_only:
            return await api.handle(self._node, request)
        # The client may leave meanwhile, which cancels us, and must not leave half a decision behind.
        working = asyncio.create_task(api.handle(self._node, request))
        self._node.unfinished.add(working)
        working.add_done_callback(self._node.unfinished.discard)
        return await asyncio.shield(working)

    def _discard(self) -> None:
        """Close what was begun and never awaited; the records are appended all the same."""
        while not self._queue.empty():
            item = self._queue.get_nowait()
            if item is not None and asyncio.iscoroutine(item[1]):
                item[1].close()

    def _peer(self) -> str:
        return str(self._writer.get_extra_info("peername"))
