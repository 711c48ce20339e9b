"""`/login`, `/logout` and `/session`: how a browser gets in by a link that works once, and out."""

from __future__ import annotations

import asyncio
import secrets
from datetime import datetime, timedelta

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response
from pydantic import BaseModel, Field

from api.database import Database
from api.http.problems import UnauthenticatedError
from api.identity.authenticator import Authenticator
from api.identity.identity import Identity, Role, parse_role
from api.identity.keys import sha256
from api.identity.sessions import COOKIE
from core.clock import Clock
from core.ids import TenantId

LINK_MINUTES = 10
_LINK_BYTES = 32


class SessionAnswer(BaseModel):
    """Who the caller is."""

    tenant: str
    role: str
    method: str = Field(description="How the caller was recognised: session, key, token or development.")
    csrf: str | None = Field(description="Send it as `X-CSRF-Token` with whatever changes something; null without a session.")


class LoginLinks:
    """Links that log in once."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._claiming = asyncio.Lock()

    async def create(self, tenant: TenantId, role: Role, now: datetime) -> str:
        """What stands behind `/login?link=`; good for ten minutes, once."""
        link = secrets.token_urlsafe(_LINK_BYTES)
        await self._database.execute(
            "INSERT INTO login_links (link_sha256, tenant_id, role, expires_at) VALUES (%s, %s, %s, %s)",
            (sha256(link), tenant, role, now + timedelta(minutes=LINK_MINUTES)),
        )
        return link

    async def claim(self, link: str, now: datetime) -> Identity:
        """Who the link was made for; nobody can use it again.

        Raises:
            UnauthenticatedError: it was used, is too old, or never was one.
        """
        digest = sha256(link)
        async with self._claiming:
            found = await self._database.fetch(
                "SELECT tenant_id, role, expires_at FROM login_links WHERE link_sha256 = %s", (digest,)
            )
            await self._database.execute("DELETE FROM login_links WHERE link_sha256 = %s OR expires_at < %s", (digest, now))
        if not found or now >= found[0]["expires_at"]:
            raise UnauthenticatedError(
                "the link was used already, or is too old", fix="`headrace keys login` makes another one."
            )
        return Identity(TenantId(found[0]["tenant_id"]), parse_role(found[0]["role"]), "session")


def build_router(links: LoginLinks, authenticator: Authenticator, database: Database, clock: Clock) -> APIRouter:
    """The routes of sessions."""
    router = APIRouter(tags=["Identity"])
    sessions = authenticator.sessions

    @router.get("/login", response_class=RedirectResponse, status_code=303, responses={401: {"description": "No such link."}})
    async def login(link: str = Query(min_length=1, max_length=256)) -> Response:
        """Begin a session with a link that works once, and go to the dashboard."""
        now = clock.now()
        identity = await links.claim(link, now)
        answer = RedirectResponse("/", status_code=303)
        answer.headers["cache-control"] = "no-store"
        answer.headers["referrer-policy"] = "no-referrer"
        answer.set_cookie(
            COOKIE,
            sessions.begin(identity, now),
            max_age=int(sessions.length.total_seconds()),
            httponly=True,
            samesite="strict",
            secure=sessions.secure,
            path="/",
        )
        return answer

    @router.get("/session", responses={401: {"description": "No credentials, or unknown ones."}})
    async def session(request: Request) -> SessionAnswer:
        """Who the caller is, and a session's CSRF token."""
        identity = await authenticator.authenticate(request)
        csrf = sessions.csrf_token(identity.subject) if identity.method == "session" else None
        return SessionAnswer(tenant=identity.tenant, role=identity.role, method=identity.method, csrf=csrf)

    @router.post("/logout", responses={401: {"description": "There is no session."}})
    async def logout(request: Request) -> JSONResponse:
        """End the session; its cookie is worth nothing from now on, here or copied."""
        identity = await authenticator.authenticate(request)
        if identity.method != "session":
            raise UnauthenticatedError("there is no session to end")
        now = clock.now()
        await database.execute(
            "INSERT INTO ended_sessions (session_id, expires_at) VALUES (%s, %s)", (identity.subject, now + sessions.length)
        )
        await database.execute("DELETE FROM ended_sessions WHERE expires_at < %s", (now,))
        await authenticator.access.look()
        answer = JSONResponse({"ended": True})
        answer.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict", secure=sessions.secure)
        return answer

    return router
