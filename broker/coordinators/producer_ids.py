"""Producer ids: handed out once, never again, reserved on disk a block at a time."""

from __future__ import annotations

import asyncio

from broker.coordinators.store import Store

_BLOCK = 1000
_KEY = "next_producer_id"
_WRITE = "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"


class ProducerIds:
    """Hands out ids; a restart skips the rest of the block."""

    def __init__(self, store: Store) -> None:
        self._store = store
        rows = store.load(f"SELECT value FROM meta WHERE key = '{_KEY}'")
        self._next = self._reserved = int(rows[0][0] or 0) if rows else 0
        self._lock = asyncio.Lock()

    async def allocate(self) -> int:
        """Return an id that nobody had before, durably reserved."""
        async with self._lock:
            if self._next == self._reserved:
                reserved = self._reserved + _BLOCK
                await self._store.write((_WRITE, (_KEY, str(reserved))))
                self._reserved = reserved
            self._next += 1
            return self._next - 1
