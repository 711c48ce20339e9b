"""Reads a request's body, but never more of it than allowed."""

from __future__ import annotations

from starlette.requests import ClientDisconnect, Request

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


def _too_large(max_bytes: int) -> TooLargeError:
    return TooLargeError(f"the body is larger than {max_bytes} bytes", fix="Send it in several requests.")
