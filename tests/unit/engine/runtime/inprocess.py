"""An engine in this process and one session on it, for tests that need neither a socket nor a server."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from core.clock import Clock, SystemClock
from core.settings import EngineSettings
from engine.front.session import EngineSession, EngineSessions
from engine.runtime.engine import Engine
from engine.session import Result

T = TypeVar("T")


class InProcess:
    """Runs SQL and gives rows as tuples.

    Args:
        engine: started.
        database: of the session.
    """

    def __init__(self, engine: Engine, database: str = "dev") -> None:
        self.engine = engine
        self._loop = asyncio.new_event_loop()
        self.session: EngineSession = self._loop.run_until_complete(
            EngineSessions(engine)(database=database, user="root", options={})
        )

    def run(self, sql: str) -> Result:
        """Run all statements; the last one's result."""

        async def everything() -> Result:
            result = Result("")
            for statement in self.session.parse(sql):
                result = await self.session.execute(await self.session.prepare(statement))
            return result

        return self._loop.run_until_complete(everything())

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """What one call of the session gives."""
        return self._loop.run_until_complete(coroutine)

    def rows(self, sql: str) -> list[tuple[object, ...]]:
        found = self.run(sql).rows
        assert found is not None
        return list(zip(*(column.to_pylist() for column in found.columns), strict=True))

    def close(self) -> None:
        self._loop.close()


@contextmanager
def running(folder: Path, clock: Clock | None = None) -> Iterator[InProcess]:
    """An engine on a folder, closed at the end."""
    engine = Engine(folder, EngineSettings(epoch_interval_ms=1, memory_limit="500MB"), clock or SystemClock())
    engine.start()
    session = InProcess(engine)
    try:
        yield session
    finally:
        session.close()
        engine.close()
