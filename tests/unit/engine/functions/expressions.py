"""Runs expressions through the engine's own door and shows them as the wire does."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from core.clock import SystemClock
from core.settings import EngineSettings
from engine.front.session import EngineSession
from engine.runtime.engine import Engine
from engine.sql.errors import SqlError
from engine.wire.text import encode_text


class Expressions:
    """One engine in a temporary folder."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="functions-")
        self._loop = asyncio.new_event_loop()
        self._engine = Engine(Path(self._folder.name), EngineSettings(threads=1, memory_limit="300MB"), SystemClock())
        self._engine.start()
        self._session = EngineSession(self._engine, "dev", "root", {})

    def query(self, sql: str) -> list[tuple[str | None, ...]]:
        """The rows of the last statement, each value as its text."""
        return self._loop.run_until_complete(self._query(sql))

    async def _query(self, sql: str) -> list[tuple[str | None, ...]]:
        rows: list[tuple[str | None, ...]] = []
        for statement in self._session.parse(sql):
            result = await self._session.execute(await self._session.prepare(statement))
            if result.rows is not None and result.fields is not None:
                columns = [encode_text(f.type, c).to_pylist() for f, c in zip(result.fields, result.rows.columns, strict=True)]
                rows = [tuple(None if v is None else v.decode() for v in row) for row in zip(*columns, strict=True)]
        return rows

    def value(self, expression: str) -> str | None:
        return self.query(f"SELECT {expression}")[0][0]

    def error(self, expression: str) -> str:
        """The SQLSTATE that an expression fails with."""
        try:
            self.query(f"SELECT {expression}")
        except SqlError as error:
            return error.sqlstate
        raise AssertionError(f"`{expression}` did not fail")

    def close(self) -> None:
        self._loop.run_until_complete(self._session.close())
        self._engine.close()
        self._loop.close()
        self._folder.cleanup()
