"""Tenants: noted down with their first key; one that is disabled lets nobody in, and keeps its rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from api.database import Database
from core.errors import ConflictError, NotFoundError
from core.ids import TenantId


@dataclass(frozen=True)
class Tenant:
    """Whose rows are kept apart from everybody else's."""

    tenant: TenantId
    created_at: datetime
    disabled_at: datetime | None


class TenantStore:
    """Tenants in the stream database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self) -> Sequence[Tenant]:
        """All of them, by name."""
        rows = await self._database.fetch("SELECT tenant_id, created_at, disabled_at FROM tenants ORDER BY tenant_id")
        return [Tenant(TenantId(row["tenant_id"]), row["created_at"], row["disabled_at"]) for row in rows]

    async def create(self, tenant: TenantId, now: datetime) -> Tenant:
        """Note a tenant down.

        Raises:
            ConflictError: it is there already.
        """
        if any(each.tenant == tenant for each in await self.all()):
            raise ConflictError(f"tenant `{tenant}` is there already")
        await self._database.execute("INSERT INTO tenants (tenant_id, created_at) VALUES (%s, %s)", (tenant, now))
        return Tenant(tenant, now, None)

    async def disable(self, tenant: TenantId, now: datetime) -> Tenant:
        """Let nobody of it in any more: keys, tokens and sessions alike.

        Raises:
            NotFoundError: there is no such tenant.
        """
        return await self._set(tenant, now)

    async def enable(self, tenant: TenantId) -> Tenant:
        """Let it in again.

        Raises:
            NotFoundError: there is no such tenant.
        """
        return await self._set(tenant, None)

    async def _set(self, tenant: TenantId, disabled_at: datetime | None) -> Tenant:
        found = next((each for each in await self.all() if each.tenant == tenant), None)
        if found is None:
            raise NotFoundError(f"there is no tenant `{tenant}`", fix="`headrace tenants list` shows them.")
        await self._database.execute("UPDATE tenants SET disabled_at = %s WHERE tenant_id = %s", (disabled_at, tenant))
        return Tenant(tenant, found.created_at, disabled_at)
