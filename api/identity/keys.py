"""API keys: made once, shown once, kept as a hash.

A key is `hr_ID_SECRET`. The id is public (it stands in lists and in the audit), the secret is 256 random bits; so one
SHA-256 keeps it, a slow hash for passwords would only slow every request down.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from api.database import Database
from api.identity.identity import Permission, Role, parse_role, parse_scope
from core.errors import ConflictError, InvalidInputError, NotFoundError
from core.ids import TenantId

logger = logging.getLogger(__name__)

PREFIX = "hr_"
_ID_BYTES, _SECRET_BYTES = 6, 32
_MOST_DAYS = 36_500


@dataclass(frozen=True)
class ApiKey:
    """A key without its secret.

    Attributes:
        secret_sha256: hexadecimal.
        scopes: what of the role is left; None leaves all.
        last_used_at: within a minute; None before the first use.
    """

    key_id: str
    tenant: TenantId
    role: Role
    scopes: frozenset[Permission] | None
    note: str | None
    secret_sha256: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None = None

    def is_valid(self, now: datetime) -> bool:
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)

    def matches(self, secret: str) -> bool:
        """Whether this is its secret; takes as long for a wrong one as for the right one."""
        return hmac.compare_digest(self.secret_sha256, sha256(secret))


def split_key(text: str) -> tuple[str, str] | None:
    """Id and secret of a text that is shaped like a key."""
    if not text.startswith(PREFIX):
        return None
    key_id, _, secret = text.removeprefix(PREFIX).partition("_")
    return (key_id, secret) if key_id and secret else None


def parse_days(days: float) -> timedelta:
    """How long a key is valid.

    Raises:
        InvalidInputError: not more than nothing, or more than a century.
    """
    if not 0 < days <= _MOST_DAYS:
        raise InvalidInputError(
            f"a key cannot be valid for {days:g} days", fix=f"Ask for more than 0 and at most {_MOST_DAYS}."
        )
    return timedelta(days=days)


def sha256(secret: str) -> str:
    """Hexadecimal digest of a secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


class KeyStore:
    """Keys in the stream database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(
        self,
        tenant: TenantId,
        role: Role,
        now: datetime,
        *,
        scopes: frozenset[Permission] | None = None,
        valid: timedelta | None = None,
        note: str | None = None,
    ) -> tuple[ApiKey, str]:
        """Make a key; it counts when this returns. A tenant that is not known yet is noted down.

        Returns:
            the key, and its text, which nobody can find out later.

        Raises:
            ConflictError: the tenant is disabled.
        """
        known = await self._database.fetch("SELECT disabled_at FROM tenants WHERE tenant_id = %s", (tenant,))
        if known and known[0]["disabled_at"] is not None:
            raise ConflictError(f"tenant `{tenant}` is disabled", fix="Run `headrace tenants enable` first.")
        if not known:
            await self._database.execute("INSERT INTO tenants (tenant_id, created_at) VALUES (%s, %s)", (tenant, now))
        secret = secrets.token_urlsafe(_SECRET_BYTES)
        key = ApiKey(
            key_id=secrets.token_hex(_ID_BYTES),
            tenant=tenant,
            role=role,
            scopes=scopes,
            note=note,
            secret_sha256=sha256(secret),
            created_at=now,
            expires_at=None if valid is None else now + valid,
            revoked_at=None,
        )
        await self._database.execute(
            "INSERT INTO api_keys (key_id, tenant_id, role, scopes, note, secret_sha256, created_at, expires_at)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
            (
                key.key_id,
                tenant,
                role,
                None if scopes is None else sorted(scopes),
                note,
                key.secret_sha256,
                now,
                key.expires_at,
            ),
        )
        return key, f"{PREFIX}{key.key_id}_{secret}"

    async def all(self, tenant: TenantId | None = None) -> Sequence[ApiKey]:
        """Keys of a tenant or of all, the newest first."""
        rows = await self._database.fetch(
            _ALL_KEYS + ("" if tenant is None else " WHERE k.tenant_id = %s"), (tenant,) * (tenant is not None)
        )
        found = [key for key in map(_readable_key, rows) if key is not None]
        return sorted(found, key=lambda key: (key.created_at, key.key_id), reverse=True)

    async def revoke(self, key_id: str, now: datetime, *, tenant: TenantId | None = None) -> ApiKey:
        """Take a key's validity away; every process notices within `access.REFRESH_SECONDS`.

        Raises:
            NotFoundError: the tenant has no such key.
        """
        found = next((key for key in await self.all(tenant) if key.key_id == key_id), None)
        if found is None:
            raise NotFoundError(f"there is no key `{key_id}`", fix="`headrace keys list` shows the ids.")
        if found.revoked_at is not None:
            return found
        await self._database.execute(
            "UPDATE api_keys SET revoked_at = %s WHERE key_id = %s AND revoked_at IS NULL", (now, key_id)
        )
        return next(key for key in await self.all() if key.key_id == key_id)


_ALL_KEYS = "SELECT k.*, u.last_used_at FROM api_keys AS k LEFT JOIN api_key_uses AS u ON k.key_id = u.key_id"


def _readable_key(row: dict[str, Any]) -> ApiKey | None:
    """The key of a row; one that somebody wrote past `create`, with a role that we do not know, say, lets nobody in."""
    try:
        return _key(row)
    except InvalidInputError as problem:
        logger.warning("key cannot be read", extra={"key": row["key_id"], "reason": str(problem)})
        return None


def _key(row: dict[str, Any]) -> ApiKey:
    return ApiKey(
        key_id=row["key_id"],
        tenant=TenantId(row["tenant_id"]),
        role=parse_role(row["role"]),
        scopes=None if row["scopes"] is None else frozenset(parse_scope(scope) for scope in row["scopes"]),
        note=row["note"],
        secret_sha256=row["secret_sha256"],
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        revoked_at=row["revoked_at"],
        last_used_at=row["last_used_at"],
    )
