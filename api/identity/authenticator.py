"""Turns the credentials of a connection into an `Identity`. The tenant comes from here and from nowhere else: no argument of
any query names one.

In this order: `Authorization: Bearer` (a key or a token), the cookie of a session, and on loopback in development nothing.
Credentials that are given and wrong are refused, also where none would do.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace

from starlette.requests import HTTPConnection

from api.database import Database
from api.http.limits import RateLimits
from api.http.loopback import is_loopback
from api.http.problems import ForbiddenError, UnauthenticatedError
from api.identity.access import Access
from api.identity.identity import Identity, Permission, parse_tenant
from api.identity.keys import sha256
from api.identity.sessions import COOKIE, CSRF_HEADER, Sessions
from api.identity.tokens import TokenVerifier
from core.clock import Clock
from core.errors import InvalidInputError
from core.ids import TenantId
from core.settings import Settings

logger = logging.getLogger(__name__)

DEVELOPMENT_TENANT = TenantId("default")
TENANT_HEADER = "x-headrace-tenant"


class Authenticator:
    """Finds out who calls.

    Args:
        settings: keys of the settings, and whether loopback callers need credentials.
        access: keys, tenants and ended sessions of the stream database.
        tokens: JSON web tokens.
        sessions: cookies of people in a browser.
        limits: how often a tenant may do what.
        clock: says whether a session is over.
    """

    def __init__(
        self, settings: Settings, access: Access, tokens: TokenVerifier, sessions: Sessions, limits: RateLimits, clock: Clock
    ) -> None:
        self.access = access
        self.sessions = sessions
        self._limits = limits
        self._tokens = tokens
        self._clock = clock
        self._development = settings.auth == "development"
        # Keys are looked up by digest, so that the time of a look-up says nothing about a key's characters.
        self._by_digest: Mapping[str, TenantId] = {
            sha256(key.get_secret_value()): TenantId(tenant) for tenant, key in settings.api_keys.items()
        }

    async def authenticate(
        self, connection: HTTPConnection, needs: Permission | None = None, *, bearer: str | None = None
    ) -> Identity:
        """Find out who calls.

        Args:
            connection: the request, or the upgrade request of a websocket.
            needs: what the caller must be allowed.
            bearer: credentials that came outside the headers (`connection_init` of a websocket), instead of those in them.

        Raises:
            UnauthenticatedError: no credentials where they are needed, or unknown ones.
            ForbiddenError: the caller may not do that, asked for another tenant without the role for it, or the request
                of a session may be forged.
            TooManyRequestsError: the tenant makes such calls more often than it may.
            UnavailableError: whether the credentials are valid cannot be found out now.
        """
        credentials = bearer if bearer is not None else connection.headers.get("authorization")
        cookie = connection.cookies.get(COOKIE) if credentials is None and "cookie" in connection.headers else None
        if credentials is not None:
            identity = await self._by_bearer(credentials)
        elif cookie is not None:
            identity = await self._by_session(connection, cookie)
        elif self._development and is_loopback(connection.client.host if connection.client else ""):
            identity = Identity(DEVELOPMENT_TENANT, "admin", "development")
        else:
            raise UnauthenticatedError("no credentials were given", fix="Send `Authorization: Bearer KEY`.")
        identity = _switch_tenant(identity, connection.headers.get(TENANT_HEADER))
        return identity if needs is None else self.admit(identity, needs)

    def admit(self, identity: Identity, needs: Permission) -> Identity:
        """Let a caller that was recognised do something, and count it.

        Raises:
            ForbiddenError: they may not do that.
            TooManyRequestsError: their tenant does it more often than it may.
        """
        identity.must(needs)
        self._limits.take(needs, identity.tenant)
        return identity

    async def _by_bearer(self, credentials: str) -> Identity:
        scheme, _, given = credentials.partition(" ")
        given = given.strip()
        if scheme.lower() == "bearer" and given:
            tenant = self._by_digest.get(sha256(given))
            if tenant is not None:
                return Identity(tenant, "operator", "key", subject="settings")
            found = await self.access.by_key(given)
            if found is not None:
                return found
            if self._tokens.is_configured and given.count(".") == 2:
                return await self.access.must_be_open(await self._tokens.verify(given))
        raise UnauthenticatedError("the credentials are unknown", fix="Send `Authorization: Bearer KEY` with a valid key.")

    async def _by_session(self, connection: HTTPConnection, cookie: str) -> Identity:
        identity = await self.access.must_be_open(self.sessions.read(cookie, self._clock.now()))
        # A websocket's upgrade is a GET that no page of another origin gets through (`api.http.guard`).
        self.sessions.must_not_be_forged(
            connection.scope.get("method", "GET"), identity.subject, connection.headers.get(CSRF_HEADER)
        )
        return identity


def build_authenticator(settings: Settings, database: Database, clock: Clock) -> Authenticator:
    """The authenticator that the settings ask for; `access` is to be started."""
    return Authenticator(
        settings,
        Access(database, clock),
        TokenVerifier(settings.tokens, clock),
        Sessions(settings.sessions, settings.data_dir),
        RateLimits(settings.limits.model_dump()),
        clock,
    )


def _switch_tenant(identity: Identity, wanted: str | None) -> Identity:
    if wanted is None or wanted == identity.tenant:
        return identity
    if not identity.may("administer"):
        raise ForbiddenError("only an admin may act for another tenant", where=TENANT_HEADER)
    try:
        tenant = parse_tenant(wanted)
    except InvalidInputError as problem:
        raise ForbiddenError("that is no name of a tenant", where=TENANT_HEADER) from problem
    logger.info("tenant switched", extra={"tenant": tenant, "own_tenant": identity.tenant, "method": identity.method})
    return replace(identity, tenant=tenant)
