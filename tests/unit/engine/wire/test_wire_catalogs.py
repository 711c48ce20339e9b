"""What psql's backslash commands and SQLAlchemy's reflection find out about a database."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from core.clock import SystemClock
from core.settings import EngineSettings
from engine.front.session import EngineSessions
from engine.runtime.engine import Engine
from engine.wire.server import WireServer

_OBJECTS = """
CREATE TABLE t (a INT PRIMARY KEY, b VARCHAR DEFAULT 'x', c INT AS (a + 1), d TIMESTAMPTZ NOT NULL, e DOUBLE PRECISION[]);
CREATE MATERIALIZED VIEW m AS SELECT b, count(*) AS n FROM t GROUP BY b;
CREATE VIEW v AS SELECT a FROM t;
CREATE INDEX i ON t (b);
CREATE FUNCTION f(x INT) RETURNS INT LANGUAGE sql AS 'SELECT x + 1';
CREATE SCHEMA s;
CREATE TABLE s.u (z INT);
"""


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    folder: Path = tmp_path_factory.mktemp("catalogs")
    engine = Engine(folder, EngineSettings(epoch_interval_ms=1, memory_limit="500MB"), SystemClock())
    engine.start()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    server = WireServer(EngineSessions(engine), "127.0.0.1", 0)
    try:
        number = asyncio.run_coroutine_threadsafe(server.start(), loop).result(10)
        with psycopg.connect(f"host=127.0.0.1 port={number} user=root dbname=dev", autocommit=True) as connection:
            for statement in _OBJECTS.split(";\n"):
                if statement.strip():
                    connection.execute(statement)
        yield number
        asyncio.run_coroutine_threadsafe(server.stop(), loop).result(10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
        engine.close()


async def _psql(port: int, command: str, *options: str) -> str:
    process = await asyncio.create_subprocess_exec(
        "psql", "-X", "-h", "127.0.0.1", "-p", str(port), "-U", "root", "-d", "dev", "-w", "-A", *options, "-c", command,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    async with asyncio.timeout(30):
        out, _ = await process.communicate()
    return out.decode()


@pytest.mark.skipif(shutil.which("psql") is None, reason="psql is not installed")
@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (r"\d", "public|m|materialized view|root\npublic|t|table|root\npublic|v|view|root\n"),
        (r"\dt", "public|t|table|root\n"),
        (r"\dt s.*", "s|u|table|root\n"),
        (r"\dm", "public|m|materialized view|root\n"),
        (r"\dv", "public|v|view|root\n"),
        (r"\di", "public|i|index|root|t\npublic|t_pkey|index|root|t\n"),
        (r"\df", "public|f|integer|x integer|func\n"),
        (r"\dn", "public|root\nrw_catalog|root\ns|root\n"),
        (r"\l", "dev|root|UTF8|C|C||libc|\n"),
        (r"\d v", "a|integer|||\n"),
        (r"\sv v", "CREATE OR REPLACE VIEW public.v AS\nSELECT a FROM t\n"),
        (r"\dx", ""),
        (r"\dRp", ""),
    ],
)
async def test_backslash_commands_list_what_there_is(port: int, command: str, expected: str) -> None:
    assert await _psql(port, command, "-t") == expected


@pytest.mark.skipif(shutil.which("psql") is None, reason="psql is not installed")
async def test_a_table_is_described_with_defaults_key_and_indexes(port: int) -> None:
    described = await _psql(port, r"\d t")
    assert "a|integer||not null|\n" in described
    assert "'x'" in described
    assert "generated always as" in described
    assert '"t_pkey" PRIMARY KEY, btree (a)' in described


def test_sqlalchemy_reflects_tables_columns_keys_and_views(port: int) -> None:
    engine = sa.create_engine(
        f"postgresql+psycopg://root@127.0.0.1:{port}/dev", use_native_hstore=False
    )  # it would need a savepoint
    try:
        found = sa.inspect(engine)
        assert set(found.get_schema_names()) >= {"public", "s"}
        assert found.get_table_names() == ["t"]
        assert found.get_view_names() == ["v"]
        assert found.get_materialized_view_names() == ["m"]
        columns = {c["name"]: c for c in found.get_columns("t")}
        assert list(columns) == ["a", "b", "c", "d", "e"]
        assert isinstance(columns["a"]["type"], sa.INTEGER)
        assert isinstance(columns["e"]["type"], sa.ARRAY)
        assert columns["d"]["nullable"] is False
        assert found.get_pk_constraint("t")["constrained_columns"] == ["a"]
        assert found.get_foreign_keys("t") == []
        assert found.get_view_definition("v") == "SELECT a FROM t"
    finally:
        engine.dispose()


def test_tools_find_relations_and_columns_in_the_information_schema(port: int) -> None:
    with psycopg.connect(f"host=127.0.0.1 port={port} user=root dbname=dev", autocommit=True) as connection:
        kinds = connection.execute(
            "SELECT table_name, table_type FROM information_schema.tables WHERE table_schema = 'public' ORDER BY 1"
        ).fetchall()
        assert kinds == [("m", "MATERIALIZED VIEW"), ("t", "BASE TABLE"), ("v", "VIEW")]
        columns = connection.execute(
            "SELECT column_name, data_type, udt_name, is_nullable FROM information_schema.columns WHERE table_name = 't' ORDER BY ordinal_position"
        ).fetchall()
        assert columns[3:] == [("d", "timestamp with time zone", "timestamptz", "NO"), ("e", "ARRAY", "_float8", "YES")]
        # Grafana's query builder: identifiers quoted, search path looked at.
        schemas = connection.execute(
            "SELECT quote_ident(table_name) FROM information_schema.tables WHERE quote_ident(table_schema) NOT IN"
            " ('information_schema', 'pg_catalog', 'rw_catalog') AND table_type = 'BASE TABLE' ORDER BY 1"
        ).fetchall()
        assert schemas == [("t",), ("u",)]


_METADATA = """\
product: PostgreSQL
catalog: dev
schema: s
table: i | INDEX
table: t_pkey | INDEX
table: m | MATERIALIZED VIEW
table: t | TABLE
table: v | VIEW
only tables: public | t
only tables: s | u
column: a | int4 | 0 | null | 1 | NO
column: b | varchar | 1 | 'x' | 2 | NO
column: c | int4 | 1 | (a + CAST(1 AS INTEGER)) | 3 | YES
column: d | timestamptz | 0 | null | 4 | NO
column: e | _float8 | 1 | null | 5 | NO
column of view: b | varchar
column of view: n | int8
key: a | 1 | t_pkey
index: t_pkey | a | f
index: i | b | t
best row: a
function: f
function column: returnValue | int4
function column: x | int4
privilege: root | SELECT
types: many
keywords: some
longest name: 63
connection: isolation 2, read only false, schema public, valid true
shape: a int4
shape: b varchar
shape: d timestamptz
shape: e _float8
parameter: int4
"""


@pytest.mark.service
async def test_a_database_tool_on_jdbc_finds_everything(port: int, driver: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        "java", "-cp", f"{driver}/*", str(Path(__file__).with_name("JdbcMetadata.java")),
        f"jdbc:postgresql://127.0.0.1:{port}/dev?user=root",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(120):
        out, err = await process.communicate()
    assert err.decode() == ""
    assert out.decode() == _METADATA
