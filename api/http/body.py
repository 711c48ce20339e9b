"""Reads a request's body, but never more of it than allowed.

Routes that read it themselves say how much they take (`read_body`). Where the framework reads it, before anybody knows who
asks, `BodyLimit` in front of everything keeps it from reading without end.
"""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.http.problems import TooLargeError


async def read_body(request: Request, *, max_bytes: int) -> bytes:
    """Read the whole body.

    Raises:
        TooLargeError: it is (or says that it is) longer than `max_bytes`; the rest is not read.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > max_bytes:
        raise _too_large(max_bytes)
    message = await request.receive()
    body: bytes = message.get("body", b"")
    if not message.get("more_body", False):  # nearly always: no list, no generator
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        if len(body) > max_bytes:
            raise _too_large(max_bytes)
        return body
    chunks, size = [body], len(body)
    while message.get("more_body", False):
        if size > max_bytes:
            raise _too_large(max_bytes)
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
    if size > max_bytes:
        raise _too_large(max_bytes)
    return b"".join(chunks)


class BodyLimit:
    """ASGI middleware that ends the reading of a body beyond `max_bytes` with 413."""

    def __init__(self, app: ASGIApp, *, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        size = 0

        async def bounded() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > self._max_bytes:
                # The one kind of error that frameworks let through while they read a body.
                raise HTTPException(413, str(_too_large(self._max_bytes)))
            return message

        await self._app(scope, bounded, send)


def _too_large(max_bytes: int) -> TooLargeError:
    return TooLargeError(f"the body is larger than {max_bytes} bytes", fix="Send it in several requests.")
