"""Turns away what a foreign web page makes a browser send.

A listener on loopback is reached by any page that the user has open. Two checks close that door: the **Host** must be
one of ours (else a name that an attacker points at 127.0.0.1 would be taken for the same origin: DNS rebinding), and an
**Origin**, which browsers send with every websocket, every POST and every cross-site request, must be ours too.
Programs send no Origin and are not affected.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from api.http.loopback import is_loopback
from api.http.problems import problem

_POLICY_VIOLATION = 1008


class OriginGuard:
    """ASGI middleware that answers 403 (or refuses the websocket) unless Host and Origin are ours."""

    def __init__(self, app: ASGIApp, *, check_host: bool, allowed_origins: Iterable[str]) -> None:
        self._app = app
        self._check_host = check_host
        self._allowed_origins = frozenset(origin.rstrip("/").lower() for origin in allowed_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(Headers(scope=scope))
        if refusal is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": _POLICY_VIOLATION, "reason": refusal})
        else:
            await problem(403, "forbidden", refusal)(scope, receive, send)

    def _refusal(self, headers: Headers) -> str | None:
        host = headers.get("host", "").lower()
        if self._check_host and not is_loopback(_host_name(host)):
            return "the Host header names another machine than this one"
        origin = headers.get("origin")
        if origin is None:
            if headers.get("sec-fetch-site") == "cross-site":
                return "the request comes from another web site"
            return None
        origin = origin.lower()
        if origin in self._allowed_origins or (host and urlsplit(origin).netloc == host):
            return None
        return "the Origin header names a web site that may not call this API"


@lru_cache(maxsize=256)
def _host_name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
