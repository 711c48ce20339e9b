"""Who calls. The tenant comes from here and from nowhere else: no argument of any query names one.

First slice: keys from the settings, and on a loopback listener in development callers without credentials. JSON web
tokens, hashed keys and browser sessions take the same seam: another way to an `Identity`.
"""

from __future__ import annotations

import hashlib
import ipaddress
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from starlette.requests import HTTPConnection

from api.http.problems import ForbiddenError, UnauthenticatedError
from core.ids import TenantId
from core.settings import Settings

logger = logging.getLogger(__name__)

Role = Literal["viewer", "reviewer", "operator", "admin"]

DEVELOPMENT_TENANT = TenantId("default")
TENANT_HEADER = "x-headrace-tenant"
_MAX_TENANT_LENGTH = 128


@dataclass(frozen=True)
class Identity:
    """The caller, as far as access is concerned."""

    tenant: TenantId
    roles: frozenset[Role]
    method: Literal["development", "key"]


class Authenticator:
    """Turns the credentials of a connection into an `Identity`."""

    def __init__(self, settings: Settings) -> None:
        self._development = settings.auth == "development"
        # Keys are looked up by digest, so that the time of a look-up says nothing about a key's characters.
        self._by_digest: Mapping[bytes, TenantId] = {
            _digest(key.get_secret_value()): TenantId(tenant) for tenant, key in settings.api_keys.items()
        }

    def authenticate(self, connection: HTTPConnection, *, bearer: str | None = None) -> Identity:
        """Find out who calls.

        Args:
            connection: the request, or the upgrade request of a websocket.
            bearer: credentials that came outside the headers (`connection_init` of a websocket), instead of those in them.

        Raises:
            UnauthenticatedError: no credentials where they are needed, or unknown ones.
            ForbiddenError: another tenant was asked for without the role for it.
        """
        credentials = bearer if bearer is not None else connection.headers.get("authorization")
        if credentials is not None:
            identity = self._by_key(credentials)
        elif self._development and is_loopback(connection.client.host if connection.client else ""):
            identity = Identity(DEVELOPMENT_TENANT, frozenset({"admin"}), "development")
        else:
            raise UnauthenticatedError("no credentials were given", fix="Send `Authorization: Bearer KEY`.")
        return _switch_tenant(identity, connection.headers.get(TENANT_HEADER))

    def _by_key(self, credentials: str) -> Identity:
        scheme, _, key = credentials.partition(" ")
        tenant = self._by_digest.get(_digest(key.strip())) if scheme.lower() == "bearer" else None
        if tenant is None:
            raise UnauthenticatedError("the credentials are unknown", fix="Send `Authorization: Bearer KEY` with a valid key.")
        return Identity(tenant, frozenset({"operator"}), "key")


@lru_cache(maxsize=1024)
def is_loopback(host: str) -> bool:
    """Whether `host`, an address without port, is this machine."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _switch_tenant(identity: Identity, wanted: str | None) -> Identity:
    if wanted is None or wanted == identity.tenant:
        return identity
    if "admin" not in identity.roles:
        raise ForbiddenError("only an admin may act for another tenant", where=TENANT_HEADER)
    if not wanted or len(wanted) > _MAX_TENANT_LENGTH or not wanted.isprintable():
        raise ForbiddenError("that is no name of a tenant", where=TENANT_HEADER)
    logger.info("tenant switched", extra={"tenant": wanted, "own_tenant": identity.tenant, "method": identity.method})
    return Identity(TenantId(wanted), identity.roles, identity.method)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
