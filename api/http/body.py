"""Reads a request's body, but never more of it than allowed."""

from __future__ import annotations

from starlette.requests import Request

from api.http.problems import TooLargeError


async def read_body(request: Request, *, max_bytes: int) -> bytes:
    """Read the whole body.

    Raises:
        TooLargeError: it is (or says that it is) longer than `max_bytes`; the rest is not read.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > max_bytes:
        raise _too_large(max_bytes)
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > max_bytes:
            raise _too_large(max_bytes)
        chunks.append(chunk)
    return b"".join(chunks)


def _too_large(max_bytes: int) -> TooLargeError:
    return TooLargeError(f"the body is larger than {max_bytes} bytes", fix="Send it in several requests.")
