"""Runs the API as a process."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI

from api.app import build_app
from api.graphql.models import ModelLifecycle
from api.v2.grpc.server import build_server
from core.clock import Clock, SystemClock
from core.errors import ConflictError, UnavailableError
from core.settings import Settings

logger = logging.getLogger(__name__)

DRAIN_SECONDS = 5  # open requests may take so long after SIGTERM; with the flush still below the supervisor's patience
PING_SECONDS = 15.0  # a socket whose other side is gone without a word is noticed after two of these


def run(
    settings: Settings,
    *,
    clock: Clock | None = None,
    model_lifecycle: ModelLifecycle | None = None,
    on_listening: Callable[[str, int], None] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then drain and return.

    Args:
        settings: `api_port` 0 takes a free port.
        clock: default is the machine's.
        model_lifecycle: see `build_app`.
        on_listening: called with host and port when connections are accepted.

    Raises:
        ConflictError: somebody else has the port.
    """
    listeners = [_listen(settings.api_host, port) for port in (settings.api_port, *settings.api_extra_ports)]
    host, port = listeners[0].getsockname()[:2]
    app = build_app(settings, clock=clock or SystemClock(), model_lifecycle=model_lifecycle)
    config = uvicorn.Config(
        app.state.front,
        log_config=None,
        access_log=False,  # no addresses and no queries in the log; requests are traced instead
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=DRAIN_SECONDS,
        ws_ping_interval=PING_SECONDS,
        ws_ping_timeout=PING_SECONDS,
        ws_max_size=64 * 1024,  # clients send queries, not data
        ws_max_queue=8,
    )

    def ready() -> None:
        # What was imported stays for good; a full collection need not look at it, which takes 70 ms and stops every request.
        gc.collect()
        gc.freeze()
        logger.info("api listens", extra={"host": host, "port": port})
        if on_listening is not None:
            on_listening(host, port)

    # uvicorn's choice of event loop: uvloop where there is one.
    with contextlib.ExitStack() as stack:
        for listener in listeners:
            stack.enter_context(listener)
        runner = stack.enter_context(asyncio.Runner(loop_factory=config.get_loop_factory()))
        runner.run(_Server(config, app, ready, (settings.api_host, settings.resolved_v2_grpc_port)).serve(sockets=listeners))


class _Server(uvicorn.Server):
    """Stops on the first signal without dying by it, tells when it listens, and serves gRPC beside HTTP."""

    def __init__(
        self, config: uvicorn.Config, app: FastAPI, ready: Callable[[], None], v2_grpc: tuple[str, int | None]
    ) -> None:
        super().__init__(config)
        self._app = app
        self._ready = ready
        self._v2_grpc = v2_grpc
        self._grpc_server: Any = None  # grpc publishes no types

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        host, port = self._v2_grpc
        if port is not None:
            await self._start_grpc(host, port)
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._grpc_server is not None:
            await self._grpc_server.stop(DRAIN_SECONDS)
        await super().shutdown(sockets)

    async def _start_grpc(self, host: str, port: int) -> None:
        try:
            self._grpc_server, bound = build_server(self._app.state.v2_servicer, host, port)
        except UnavailableError as problem:  # everything else is of more use than nothing
            logger.error("no gRPC", extra={"reason": str(problem)})
            return
        await self._grpc_server.start()
        logger.info("v2 gRPC listens", extra={"host": host, "port": bound})

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._app.state.lifecycle.draining = True
        super().handle_exit(sig, frame)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn raises the signal again when it has stopped; a clean stop should exit with 0.
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise ConflictError(
            f"port {port} cannot be bound: {error.strerror}",
            where="api_port",
            fix="Stop who has it, or choose another `--port`.",
        ) from error
    return listener
