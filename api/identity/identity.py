"""The caller, and what a role allows.

Four roles, each allows what the ones before it do:

    viewer     reads what the platform found
    reviewer   judges predictions
    operator   sends events, asks for predictions, steers routes, models and experiments
    admin      keys, tenants, free SQL, erasure; may act for another tenant

A key may have scopes besides, which take away: of what its role allows it keeps what the scopes name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args

from api.http.problems import ForbiddenError
from core.errors import InvalidInputError
from core.ids import TenantId

Role = Literal["viewer", "reviewer", "operator", "admin"]
Permission = Literal["read", "feedback", "ingest", "predict", "operate", "administer"]
Method = Literal["development", "key", "token", "session"]

ROLES: tuple[Role, ...] = get_args(Role)
PERMISSIONS: tuple[Permission, ...] = get_args(Permission)

LEAST_ROLE: Mapping[Permission, Role] = {
    "read": "viewer",
    "feedback": "reviewer",
    "ingest": "operator",
    "predict": "operator",
    "operate": "operator",
    "administer": "admin",
}

MAX_TENANT_LENGTH = 128


@dataclass(frozen=True)
class Identity:
    """The caller, as far as access is concerned.

    Attributes:
        tenant: whose rows are seen.
        role: what may be done with them.
        method: how the caller was recognised.
        subject: who it is, for the audit: a key's id, a token's `sub`, a session's id; never a secret.
        scopes: what of the role is left; None leaves all.
        expires_at: when the credentials end by themselves; None never.
    """

    tenant: TenantId
    role: Role
    method: Method
    subject: str = ""
    scopes: frozenset[Permission] | None = None
    expires_at: datetime | None = None

    def may(self, permission: Permission) -> bool:
        """Whether the role allows it and no scope takes it away."""
        ranked = ROLES.index(self.role) >= ROLES.index(LEAST_ROLE[permission])
        return ranked and (self.scopes is None or permission in self.scopes)

    def must(self, permission: Permission) -> Identity:
        """The same caller.

        Raises:
            ForbiddenError: it may not; says which role it takes, or that the key's scopes leave it out.
        """
        if self.may(permission):
            return self
        least = LEAST_ROLE[permission]
        if ROLES.index(self.role) < ROLES.index(least):
            raise ForbiddenError(f"`{permission}` needs the role `{least}`, the caller has `{self.role}`")
        raise ForbiddenError(f"`{permission}` is none of this key's scopes ({', '.join(sorted(self.scopes or ()))})")


def parse_role(text: object) -> Role:
    """Read the name of a role.

    Raises:
        InvalidInputError: there is no such role.
    """
    for role in ROLES:
        if text == role:
            return role
    raise InvalidInputError(f"there is no role `{text}`", fix=f"Use one of {', '.join(ROLES)}.")


def parse_scope(text: object) -> Permission:
    """Read the name of a scope.

    Raises:
        InvalidInputError: there is no such scope.
    """
    for permission in PERMISSIONS:
        if text == permission:
            return permission
    raise InvalidInputError(f"there is no scope `{text}`", fix=f"Use some of {', '.join(PERMISSIONS)}.")


def parse_tenant(text: object) -> TenantId:
    """Read the name of a tenant.

    Raises:
        InvalidInputError: it is empty, too long, or holds what cannot be printed.
    """
    if not isinstance(text, str) or not text.strip() or len(text) > MAX_TENANT_LENGTH or not text.isprintable():
        raise InvalidInputError(
            f"`{str(text)[:MAX_TENANT_LENGTH]}` is no name of a tenant",
            fix=f"Use 1 to {MAX_TENANT_LENGTH} printable characters.",
        )
    return TenantId(text)
