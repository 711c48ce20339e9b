"""Keys as GraphQL shows them: never with their secret."""

from __future__ import annotations

from datetime import datetime

import strawberry

from api.identity.identity import ROLES
from api.identity.keys import ApiKey


@strawberry.type(name="ApiKey", description="A key of the API, without its secret.")
class ApiKeyType:
    id: strawberry.ID
    role: str
    scopes: list[str] | None = strawberry.field(description="What of the role is left; null leaves all.")
    note: str | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None = strawberry.field(description="Within a minute; null before the first use.")

    @staticmethod
    def of(key: ApiKey) -> ApiKeyType:
        return ApiKeyType(
            id=strawberry.ID(key.key_id),
            role=key.role,
            scopes=None if key.scopes is None else sorted(key.scopes),
            note=key.note,
            created_at=key.created_at,
            expires_at=key.expires_at,
            revoked_at=key.revoked_at,
            last_used_at=key.last_used_at,
        )


@strawberry.input(description="What a new key may do.")
class ApiKeyInput:
    role: str = strawberry.field(description=f"One of {', '.join(ROLES)}.")
    scopes: list[str] | None = strawberry.field(default=None, description="Only these of what the role allows.")
    days: float | None = strawberry.field(default=None, description="It ends after so many days; null never.")
    note: str | None = None


@strawberry.type(description="A key that was just made; `key` is not shown again.")
class NewApiKey:
    key: str
    api_key: ApiKeyType
