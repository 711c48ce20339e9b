"""asyncpg against the server: everything it reads and writes is binary."""

from __future__ import annotations

import asyncio
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import asyncpg
import pytest

VALUES: list[tuple[str, Any]] = [
    ("true", True),
    ("(-3)::SMALLINT", -3),
    ("2147483647::INT", 2147483647),
    ("(-9223372036854775808)::BIGINT", -(2**63)),
    ("1.5::DECIMAL(38,18)", Decimal("1.5")),
    ("10000.0001::DECIMAL(38,18)", Decimal("10000.0001")),
    ("(-0.00001)::DECIMAL(38,18)", Decimal("-0.00001")),
    ("0.25::FLOAT", 0.25),
    ("'-infinity'::DOUBLE", float("-inf")),
    ("'naïve'", "naïve"),
    ("'\\x00\\xFF'::BLOB", b"\x00\xff"),
    ("DATE '2024-02-29'", date(2024, 2, 29)),
    ("TIME '23:59:59.999999'", time(23, 59, 59, 999999)),
    ("TIMESTAMP '1969-12-31 23:59:59.5'", datetime(1969, 12, 31, 23, 59, 59, 500000)),  # noqa: DTZ001
    ("TIMESTAMPTZ '2026-01-01 00:00:00+00'", datetime.fromisoformat("2026-01-01T00:00:00+00:00")),
    ("INTERVAL '26 hours'", timedelta(hours=26)),
    ("'[1, 2]'::JSON", "[1, 2]"),
    ("{'a': 1, 'b': 'x', 'c': NULL::DATE}", (1, "x", None)),
]


async def test_no_statement_of_introspection_is_needed_for_scalars(running: Any) -> None:
    client = await asyncpg.connect(running.url)
    try:
        for expression, expected in VALUES:
            row = await client.fetchrow(f"SELECT {expression} AS v, NULL::BIGINT AS n")
            got = tuple(row["v"]) if isinstance(expected, tuple) else row["v"]
            assert got == expected, expression
            assert row["n"] is None
    finally:
        await client.close()
    executed = running.factory.sessions[0].executed
    assert len(executed) == len(VALUES)
    assert not any("pg_catalog" in text for text in executed)


@pytest.mark.parametrize(
    ("cast", "value"),
    [
        ("int", 7),
        ("bigint", -(2**40)),
        ("float8", 0.1),
        ("numeric", Decimal("12.3450")),
        ("numeric", Decimal("0")),
        ("numeric", Decimal("-1E-18")),
        ("text", "ü"),
        ("timestamp", datetime(2024, 1, 2, 3, 4, 5, 6)),  # noqa: DTZ001
        ("int", None),
    ],
)
async def test_a_binary_parameter_comes_back(running: Any, cast: str, value: Any) -> None:
    client = await asyncpg.connect(running.url)
    try:
        statement = await client.prepare(
            f"SELECT $1::{'decimal(38,18)' if cast == 'numeric' else cast} AS v".replace("::decimal(38,18)", "::numeric")
        )
        got = await statement.fetchval(value)
    finally:
        await client.close()
    assert got == value or (cast == "numeric" and got == round(value, 3))


async def test_a_cursor_reads_in_steps_and_the_portal_ends_with_the_transaction(running: Any) -> None:
    client = await asyncpg.connect(running.url)
    try:
        async with client.transaction():
            numbers = [row["i"] async for row in client.cursor("SELECT i FROM range(1000) t(i) ORDER BY i", prefetch=64)]
        assert numbers == list(range(1000))
        assert await client.fetchval("SELECT 1::int") == 1
    finally:
        await client.close()


async def test_many_executions_of_one_statement(running: Any) -> None:
    client = await asyncpg.connect(running.url)
    try:
        await client.execute("CREATE TABLE many (a INT, b VARCHAR)")
        await client.executemany("INSERT INTO many VALUES ($1::int, $2::text)", [(at, f"row {at}") for at in range(200)])
        assert await client.fetchval("SELECT count(*) FROM many") == 200
        assert await client.fetchval("SELECT b FROM many WHERE a = $1::int", 123) == "row 123"
    finally:
        await client.close()


async def test_an_error_leaves_the_connection_usable(running: Any) -> None:
    client = await asyncpg.connect(running.url)
    try:
        with pytest.raises(asyncpg.UndefinedTableError, match="missing"):
            await client.fetch("SELECT * FROM missing")
        assert await client.fetchval("SELECT 1::int") == 1
    finally:
        await client.close()


async def test_a_time_out_cancels_the_statement(running: Any) -> None:
    client = await asyncpg.connect(running.url)
    try:
        with pytest.raises(asyncio.TimeoutError):
            await client.execute("wait", timeout=0.2)
        assert await client.fetchval("SELECT 1::int") == 1
    finally:
        await client.close()
