"""PostgreSQL's JDBC driver against the server: batches, server-side prepared statements, fetch size, COPY."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.service

_TYPES = '[1, null, 3] 1 mon 2 days {"a": 2, "b": 1} true 1.5 2024-02-29 null [a b, null]'


async def test_an_application_on_jdbc_works(running: Any, driver: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        "java", "-cp", f"{driver}/*", str(Path(__file__).with_name("JdbcCheck.java")),
        f"jdbc:postgresql://127.0.0.1:{running.port}/dev?user=root",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(120):
        out, err = await process.communicate()
    assert err.decode() == ""
    assert out.decode().splitlines() == [
        "batch 50", "7 text 7 7.25 2024-01-02T03:04:07 [0, 7]", _TYPES, _TYPES, "fetched 499500", "error 42P01", "copied in 1", "copied out 51 51",
    ]  # fmt: skip
