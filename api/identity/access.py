"""What the process knows of keys, tenants and ended sessions: read from the stream database once a second, looked up in memory.

A request never waits for the database, except one with a key that is not known yet: it may have been made a moment ago, so
the database is asked at once, for all who wait together. When the database is away, what was known stays true for
`STALE_SECONDS`, long enough for a restart; then nobody is let in by it, because a revocation could not be seen.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from api.database import Database, StatementError
from api.http.problems import UnauthenticatedError
from api.identity.identity import Identity
from api.identity.keys import ApiKey, KeyStore, split_key
from core.clock import Clock
from core.errors import UnavailableError

logger = logging.getLogger(__name__)

REFRESH_SECONDS = 1.0
STALE_SECONDS = 60.0
USES_SECONDS = 30.0
_MISSES_SECONDS = 0.2  # unknown keys cost the database no more than five questions a second


@dataclass(frozen=True)
class _Known:
    """One look at the database."""

    at: float = float("-inf")
    keys: Mapping[str, ApiKey] = field(default_factory=dict)
    disabled: frozenset[str] = frozenset()
    ended: frozenset[str] = frozenset()


class Access:
    """Keys, tenants and sessions, as of at most a second ago.

    Args:
        database: where they are.
        clock: says whether a key has expired, and how old what is known is.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._store = KeyStore(database)
        self._known = _Known()
        self._looking = asyncio.Lock()
        self._uses: dict[str, datetime] = {}
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Follow the database until `stop`."""
        self._task = asyncio.create_task(self._follow(), name="access")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        with contextlib.suppress(UnavailableError, StatementError):
            await self.note_uses()

    async def by_key(self, text: str) -> Identity | None:
        """Whose key it is; None when it is not shaped like one.

        Raises:
            UnauthenticatedError: there is no such key, or it is not valid any more.
            UnavailableError: the database did not answer for too long to know.
        """
        parts = split_key(text)
        if parts is None:
            return None
        key_id, secret = parts
        key = self._known.keys.get(key_id)
        if key is None or self._age() > STALE_SECONDS:
            await self._look(since=self._clock.monotonic_seconds())
            key = self._known.keys.get(key_id)
        now = self._clock.now()
        if key is None or not key.matches(secret) or not key.is_valid(now) or key.tenant in self._known.disabled:
            raise UnauthenticatedError("the key is not valid", fix="`headrace keys create` makes one.")
        self._uses[key_id] = now
        return Identity(key.tenant, key.role, "key", key_id, key.scopes, key.expires_at)

    async def must_be_open(self, identity: Identity) -> Identity:
        """The same caller, unless the tenant is disabled or the session has ended.

        Raises:
            UnauthenticatedError: one of them.
            UnavailableError: the database did not answer for too long to know.
        """
        if self._age() > STALE_SECONDS:
            await self._look(since=self._clock.monotonic_seconds())
        if identity.tenant in self._known.disabled:
            raise UnauthenticatedError("the tenant is disabled")
        if identity.method == "session" and identity.subject in self._known.ended:
            raise UnauthenticatedError("the session has ended", fix="Log in again.")
        return identity

    def is_open(self, identity: Identity) -> bool:
        """Whether credentials that were good once still are, as far as is known; for what lasts long, such as a socket."""
        if identity.method == "development":
            return True
        now = self._clock.now()
        if (identity.expires_at is not None and now >= identity.expires_at) or identity.tenant in self._known.disabled:
            return False
        if identity.method == "session":
            return identity.subject not in self._known.ended
        key = self._known.keys.get(identity.subject) if identity.method == "key" else None
        return key is None or key.is_valid(now)

    async def look(self) -> None:
        """Read the database now, for who has just changed something.

        Raises:
            UnavailableError: it does not answer.
        """
        await self._look(since=self._clock.monotonic_seconds(), at_once=True)

    def _age(self) -> float:
        return self._clock.monotonic_seconds() - self._known.at

    async def _look(self, *, since: float, at_once: bool = False) -> None:
        """Read the database, unless somebody else did so `since` then; not too often unless it must be `at_once`."""
        async with self._looking:
            if self._known.at >= since:
                return
            if not at_once and self._age() < _MISSES_SECONDS:
                await asyncio.sleep(_MISSES_SECONDS - self._age())
            begun = self._clock.monotonic_seconds()
            try:
                keys = await self._store.all()
                disabled = await self._database.fetch("SELECT tenant_id FROM tenants WHERE disabled_at IS NOT NULL")
                ended = await self._database.fetch("SELECT session_id FROM ended_sessions")
            except StatementError as problem:
                if problem.sqlstate != "42P01":
                    raise
                # No pipelines, no tables: there are no keys but those of the settings.
                self._known = _Known(begun)
                return
            self._known = _Known(
                begun,
                {key.key_id: key for key in keys},
                frozenset(row["tenant_id"] for row in disabled),
                frozenset(row["session_id"] for row in ended),
            )

    async def _follow(self) -> None:
        noted = self._clock.monotonic_seconds()
        while True:
            try:
                await self._look(since=self._clock.monotonic_seconds() - REFRESH_SECONDS / 2)
                if self._clock.monotonic_seconds() - noted >= USES_SECONDS:
                    noted = self._clock.monotonic_seconds()
                    await self.note_uses()
            except (UnavailableError, StatementError) as problem:
                logger.debug("keys not read", extra={"reason": str(problem)})
            await asyncio.sleep(REFRESH_SECONDS)

    async def note_uses(self) -> None:
        """Write down when keys were used last."""
        for key_id, at in list(self._uses.items()):
            await self._database.execute("INSERT INTO api_key_uses (key_id, last_used_at) VALUES (%s, %s)", (key_id, at))
            if self._uses.get(key_id) == at:
                del self._uses[key_id]
