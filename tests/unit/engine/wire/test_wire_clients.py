"""Real clients on the engine itself: what they ask by themselves, arrays, batches, COPY, and what dashboards ask."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from decimal import Decimal

import asyncpg
import psycopg
import pytest

from tests.unit.engine.wire.served import served


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with served(tmp_path_factory.mktemp("clients")) as found:
        yield found


async def test_asyncpg_learns_array_types_and_writes_batches_and_copies(port: int) -> None:
    connection = await asyncpg.connect(host="127.0.0.1", port=port, user="root", database="dev")
    try:
        await connection.execute("CREATE TABLE a (i INT PRIMARY KEY, s VARCHAR, n NUMERIC, numbers INT[])")
        rows = [(1, "x", Decimal("1.50"), [1, None]), (2, None, None, [])]
        await connection.executemany("INSERT INTO a (i, s, n, numbers) VALUES ($1, $2, $3, $4)", rows)
        await connection.copy_records_to_table("a", records=[(3, "y", Decimal("NaN"))], columns=["i", "s", "n"])
        await connection.execute("FLUSH")
        found = [tuple(row) for row in await connection.fetch("SELECT i, s, numbers FROM a ORDER BY i")]
        assert found == [(1, "x", [1, None]), (2, None, []), (3, "y", None)]
        assert (await connection.fetchval("SELECT n FROM a WHERE i = 3")).is_nan()
        any_of = await connection.fetch("SELECT i FROM a WHERE i = ANY($1::int[]) ORDER BY i LIMIT $2", [1, 3], 1)
        assert [tuple(row) for row in any_of] == [(1,)]
        assert await connection.fetchval("SELECT $1::varchar[]", []) == []
        assert await connection.fetchval("SELECT ARRAY[1.5, NULL]::numeric[]") == [Decimal("1.5"), None]
        assert await connection.fetchval("SELECT $1::interval", dt.timedelta(days=1, seconds=5)) == dt.timedelta(
            days=1, seconds=5
        )
        async with connection.transaction():
            cursor = connection.cursor("SELECT x FROM generate_series(1, 5) AS g(x)", prefetch=2)
            assert [row[0] async for row in cursor] == [1, 2, 3, 4, 5]
    finally:
        await connection.close()


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize(
    ("type_", "value"),
    [
        ("smallint", -7), ("int", 7), ("bigint", 2**62), ("real", 1.5), ("double precision", -2.25), ("numeric", Decimal("1.10")), ("boolean", True),
        ("varchar", "ä'\\"), ("bytea", b"\x00\xff"), ("date", dt.date(2024, 2, 29)), ("time", dt.time(1, 2, 3, 4)),
        ("timestamp", dt.datetime.fromisoformat("2024-02-29 01:02:03")), ("timestamptz", dt.datetime(2024, 2, 29, 1, 2, 3, tzinfo=dt.UTC)),
        ("interval", dt.timedelta(days=3, seconds=4)), ("int[]", [1, None, 3]), ("varchar[]", ["a", None, ""]), ("numeric[]", [Decimal("1.50"), None]),
    ],
)  # fmt: skip
def test_psycopg_gets_back_what_it_sends(port: int, type_: str, value: object, binary: bool) -> None:
    with psycopg.connect(f"host=127.0.0.1 port={port} user=root dbname=dev", autocommit=True) as connection:
        placeholder = b"%b" if binary else b"%t"
        cursor = connection.cursor(binary=binary)
        sent = cursor.execute(b"SELECT " + placeholder + f"::{type_}, NULL::{type_}".encode(), [value]).fetchone()
        assert sent == (value, None)


def test_a_dashboard_finds_tables_columns_and_values_in_time(port: int) -> None:
    with psycopg.connect(f"host=127.0.0.1 port={port} user=root dbname=dev", autocommit=True) as connection:
        connection.execute("CREATE TABLE readings (ts TIMESTAMPTZ, sensor VARCHAR, value DOUBLE PRECISION)")
        connection.execute("INSERT INTO readings VALUES ('2024-01-01 00:00:30Z', 'a', 1), ('2024-01-01 00:01:30Z', 'a', 3)")
        connection.execute("FLUSH")
        version = connection.execute("SELECT current_setting('server_version_num')::int / 100").fetchone()
        assert version is not None
        assert version[0] >= 1300
        # What `$__timeFilter(ts)` and `$__timeGroup(ts, '1m')` expand to.
        groups = connection.execute(
            'SELECT floor(extract(epoch from ts)/60)*60 AS "time", sensor, avg(value) FROM readings'
            " WHERE ts BETWEEN '2024-01-01T00:00:00Z' AND '2024-01-01T01:00:00Z' GROUP BY 1, 2 ORDER BY 1"
        ).fetchall()
        assert groups == [(Decimal(1704067200), "a", 1.0), (Decimal(1704067260), "a", 3.0)]
        for relation in ("tables", "columns", "schemata", "views", "table_constraints", "key_column_usage", "routines"):
            connection.execute(f"SELECT * FROM information_schema.{relation}".encode())
