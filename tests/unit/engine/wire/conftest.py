"""A small session over plain DuckDB, so that real values of every type go through the real protocol.

It is not the engine: it translates nothing and knows just enough to say which type each column has.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from engine.session import Field, Prepared, Result
from engine.sql.errors import QueryCanceled, SqlError, SqlSyntaxError, UndefinedTable
from engine.sql.numeric_arrow import KEY_TYPE, numeric_decimals
from engine.sql.statements import Copy, ObjectName, Statement, Utility
from engine.sql.types import (
    BOOL,
    BYTEA,
    DATE,
    FLOAT4,
    FLOAT8,
    INT2,
    INT4,
    INT8,
    INTERVAL,
    JSONB,
    NUMERIC,
    TIME,
    TIMESTAMP,
    TIMESTAMPTZ,
    UNKNOWN,
    VARCHAR,
    SqlType,
    list_of,
    struct_of,
)
from engine.wire.server import WireServer

_BY_DUCKDB = {
    "boolean": BOOL, "smallint": INT2, "integer": INT4, "bigint": INT8, "hugeint": NUMERIC, "float": FLOAT4, "double": FLOAT8,
    "varchar": VARCHAR, "blob": BYTEA, "date": DATE, "time": TIME, "timestamp": TIMESTAMP, "timestamp with time zone": TIMESTAMPTZ,
    "interval": INTERVAL, "json": JSONB, "decimal": NUMERIC,
}  # fmt: skip
_CASTS = {
    "varchar[]": list_of(VARCHAR),
    "int": INT4,
    "int4": INT4,
    "bigint": INT8,
    "text": VARCHAR,
    "float8": FLOAT8,
    "numeric": NUMERIC,
    "timestamp": TIMESTAMP,
}


def sql_type(type_: Any) -> SqlType:
    if str(type_).lower() == "json":
        return JSONB
    if type_.id == "list":
        return list_of(sql_type(type_.children[0][1]))
    if type_.id == "struct":
        return struct_of(*((name, sql_type(child)) for name, child in type_.children))
    return _BY_DUCKDB[type_.id]


@dataclass(frozen=True)
class Placed(Statement):
    """A statement that knows where in the client's text it begins, as errors count from there."""

    begins: int = 0


class DuckSession:
    """One DuckDB cursor as a `Session`; `BEGIN` and `COMMIT` only change the status it reports."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self.connection = connection
        self.closed = False
        self.cancelled = asyncio.Event()
        self.executed: list[str] = []
        self.status = "I"

    @property
    def parameters(self) -> Mapping[str, str]:
        return {
            "server_version": "13.14.0", "server_encoding": "UTF8", "client_encoding": "UTF8", "DateStyle": "ISO, MDY",
            "TimeZone": "UTC", "integer_datetimes": "on", "standard_conforming_strings": "on", "IntervalStyle": "postgres",
        }  # fmt: skip

    @property
    def idle_in_transaction_seconds(self) -> float | None:
        return None

    def parse(self, sql: str) -> Sequence[Statement]:
        copy = re.fullmatch(
            r'COPY "?(\w+)"?(?:\([^)]*\))? (FROM STDIN|TO STDOUT)(?: WITH)?(?: \((.*)\))?;?\s*',
            sql.strip(),
            re.IGNORECASE | re.DOTALL,
        )
        if copy is not None:
            options = dict(re.findall(r"(\w+) '?([^',]*|,)'?(?:, |$)", copy[3] or ""))
            direction = "from" if copy[2].upper().startswith("FROM") else "to"
            return [Copy(sql, direction, ObjectName(copy[1]), options=options)]
        if re.fullmatch(r"\s*(DEALLOCATE|wait|explode)\b.*", sql, re.IGNORECASE | re.DOTALL):
            return [Utility(sql.strip(), sql.split()[0].upper())]
        try:
            texts = [found.query.strip().rstrip(";") for found in self.connection.extract_statements(sql)]
            return [Placed(text, sql.find(text)) for text in texts]
        except duckdb.ParserException as error:
            raise SqlSyntaxError(str(error).splitlines()[0], position=sql.find("slect") + 1 or None) from error

    async def prepare(self, statement: Statement, parameter_types: Sequence[SqlType | None] = ()) -> Prepared:
        if isinstance(statement, Utility):
            return Prepared(statement)
        if isinstance(statement, Copy):
            fields = self.fields(f"FROM {statement.table}")
            return (
                Prepared(statement, fields=None, copy_fields=fields)
                if statement.direction == "from"
                else Prepared(statement, (), fields)
            )
        count = max((int(found) for found in re.findall(r"\$(\d+)", statement.text)), default=0)
        given = [*parameter_types, *[None] * count]
        casts = dict(re.findall(r"\$(\d+)::(\w+(?:\[\])?)", statement.text))
        types = tuple(given[at] or _CASTS.get(casts.get(str(at + 1), ""), UNKNOWN) for at in range(count))
        if not re.match(r"\s*(select|values|from|with)\b", statement.text, re.IGNORECASE):
            return Prepared(statement, types)
        text = re.sub(r"\$(\d+)", lambda found: f"CAST(NULL AS {types[int(found[1]) - 1].duckdb})", statement.text)
        try:
            relation = self.connection.sql(f"SELECT * FROM ({text}) LIMIT 0")
        except duckdb.CatalogException as error:
            at = statement.text.find("missing")
            begins = statement.begins if isinstance(statement, Placed) else 0
            raise UndefinedTable("table `missing` does not exist", position=begins + at + 1, fix="Create it first.") from error
        return Prepared(statement, types, self.columns(relation))

    def fields(self, query: str) -> tuple[Field, ...]:
        return self.columns(self.connection.sql(f"{query} LIMIT 0"))

    @staticmethod
    def columns(relation: Any) -> tuple[Field, ...]:
        return tuple(Field(name, sql_type(type_)) for name, type_ in zip(relation.columns, relation.types, strict=True))

    async def copy_in(self, prepared: Prepared, batches: AsyncIterator[pa.Table]) -> Result:
        assert isinstance(prepared.statement, Copy)
        tables = [table async for table in batches]
        for table in tables:
            self.connection.register("incoming", _plain_numerics(table))
            self.connection.execute(f"INSERT INTO {prepared.statement.table} FROM incoming")
            self.connection.unregister("incoming")
        return Result(f"COPY {sum(table.num_rows for table in tables)}", transaction_status=self.status)

    async def execute(self, prepared: Prepared, values: Sequence[object] = ()) -> Result:
        text = prepared.statement.text
        self.executed.append(text)
        word = text.split()[0].upper()
        if isinstance(prepared.statement, Copy):
            answer = await asyncio.to_thread(self._run, f"FROM {prepared.statement.table}", [])
            return Result(f"COPY {answer.num_rows}", prepared.fields, answer, transaction_status=self.status)
        if word == "WAIT":
            self.cancelled.clear()
            await self.cancelled.wait()
            raise QueryCanceled("canceling statement due to user request")
        if word == "EXPLODE":
            raise RuntimeError("a secret of the server")
        if word in ("BEGIN", "COMMIT", "ROLLBACK"):
            self.status = "T" if word == "BEGIN" else "I"
            return Result(word, transaction_status=self.status)
        if word in ("SET", "DEALLOCATE"):
            return Result(
                word, notices=("noticed",), parameters={"application_name": "changed"}, transaction_status=self.status
            )
        try:
            answer = await asyncio.to_thread(self._run, text, list(values))
        except duckdb.Error as error:
            raise SqlError(str(error).splitlines()[0], sqlstate="22000") from error
        if prepared.fields is None:
            return Result(f"{word} 0 1" if word == "INSERT" else word, transaction_status=self.status)
        return Result(f"SELECT {answer.num_rows}", prepared.fields, answer, transaction_status=self.status)

    def _run(self, text: str, values: list[object]) -> Any:
        relation = self.connection.sql(text, params=values)
        return relation.to_arrow_table() if relation is not None else None

    def cancel(self) -> None:
        self.cancelled.set()

    async def close(self) -> None:
        self.closed = True
        self.connection.close()


def _plain_numerics(table: pa.Table) -> pa.Table:
    """Numerics arrive as keys; this database knows plain decimals."""
    columns = [
        pa.array(numeric_decimals(c.combine_chunks()), pa.decimal128(38, 18)) if c.type == KEY_TYPE else c
        for c in table.columns
    ]
    return pa.table(columns, names=table.column_names)


class DuckFactory:
    """Opens sessions on one in-memory database, and remembers them."""

    def __init__(self) -> None:
        self.database = duckdb.connect()
        self.database.execute("SET TimeZone = 'UTC'")
        self.sessions: list[DuckSession] = []
        self.options: list[Mapping[str, str]] = []

    async def __call__(self, *, database: str, user: str, options: Mapping[str, str]) -> DuckSession:
        if database != "dev":
            raise SqlError(f"database `{database}` does not exist", sqlstate="3D000")
        session = DuckSession(self.database.cursor())
        session.connection.execute("SET TimeZone = 'UTC'")
        self.sessions.append(session)
        self.options.append(options)
        return session


class Running:
    """A server that runs in the test's loop."""

    def __init__(self, server: WireServer, factory: DuckFactory, port: int) -> None:
        self.server = server
        self.factory = factory
        self.port = port
        self.url = f"postgresql://root@127.0.0.1:{port}/dev"
        self.dsn = f"host=127.0.0.1 port={port} user=root dbname=dev"

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.01)


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    factory = DuckFactory()
    server = WireServer(factory, "127.0.0.1", 0)
    port = await server.start()
    yield Running(server, factory, port)
    await server.stop()
    assert all(session.closed for session in factory.sessions), "a session was left open"
    factory.database.close()


@pytest.fixture
def factory() -> Iterator[DuckFactory]:
    """For tests that start a server in a loop of their own."""
    made = DuckFactory()
    yield made
    assert all(session.closed for session in made.sessions), "a session was left open"
    made.database.close()


_JDBC_POM = """<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>headrace</groupId><artifactId>jdbc-check</artifactId><version>1</version>
<dependencies><dependency><groupId>org.postgresql</groupId><artifactId>postgresql</artifactId><version>42.7.4</version></dependency></dependencies>
</project>"""


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with PostgreSQL's JDBC driver."""
    if shutil.which("java") is None or shutil.which("mvn") is None:
        pytest.skip("java and mvn are not installed")
    folder = tmp_path_factory.mktemp("jdbc")
    (folder / "pom.xml").write_text(_JDBC_POM)
    command = [
        "mvn",
        "-q",
        "-B",
        "-f",
        str(folder / "pom.xml"),
        "dependency:copy-dependencies",
        f"-DoutputDirectory={folder / 'lib'}",
    ]
    found = subprocess.run(command, capture_output=True, timeout=240, check=False)
    if found.returncode:
        pytest.skip("the JDBC driver cannot be fetched")
    return folder / "lib"
