"""COPY in and out, with psycopg, asyncpg and psql as the other side."""

from __future__ import annotations

import asyncio
import io
import shutil
from datetime import datetime
from decimal import Decimal
from typing import Any

import asyncpg
import psycopg
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.session import Field
from engine.sql.errors import InvalidParameter, SqlError, UnsupportedQuery
from engine.sql.types import INT4, VARCHAR
from engine.wire.copy_format import CopyFormat, copy_format
from engine.wire.copy_in import CopyReader
from engine.wire.copy_out import copy_rows, with_signature

COLUMNS = """a INT, b VARCHAR, c DOUBLE, d BOOLEAN, e DECIMAL(38,18), f TIMESTAMP, g DATE, h TIME, i BLOB, j INTERVAL, k INT[],
             l VARCHAR[], m SMALLINT, n BIGINT, o JSON, p STRUCT(x INT, y VARCHAR)"""
INSERT = """INSERT INTO t VALUES
    (1, 'a\tb\nc\\d"e,f', 0.1, true, 1.5, '2024-01-02 03:04:05.000006', '2024-01-02', '01:02', '\\x00\\x5C', '1 mon 2 hours', [1, NULL],
     ['x y', '', NULL, 'q"', ',|;'], -3, 1099511627776, '{"b": 1, "a": [1]}', {'x': 1, 'y': 'é, (z)'}),
    (2, '', 'inf', false, 0, NULL, NULL, NULL, '', '00:00', [], [], 0, 0, '[]', {'x': NULL, 'y': NULL}),
    (3, '\\N', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
    (4, 'none', -1e-9, NULL, -0.000001, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
    (NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)"""
OPTIONS = pytest.mark.parametrize(
    "options",
    ["", " (FORMAT csv)", " (FORMAT csv, DELIMITER ';', HEADER true, NULL 'none')", " (DELIMITER '|')", " (FORMAT binary)"],
)


@OPTIONS
async def test_what_comes_out_goes_in_again(running: Any, options: str) -> None:
    async with await psycopg.AsyncConnection.connect(running.url, autocommit=True) as client:
        await client.execute(f"CREATE TABLE t ({COLUMNS})")
        await client.execute(INSERT)
        before = await (await client.execute("SELECT * FROM t")).fetchall()
        data = b""
        async with client.cursor().copy(f"COPY t TO STDOUT{options}") as copy:
            async for part in copy:
                data += bytes(part)
        await client.execute("CREATE TABLE u AS SELECT * FROM t LIMIT 0")
        cursor = client.cursor()
        async with cursor.copy(f"COPY u FROM STDIN{options}") as copy:
            for at in range(0, len(data), 7):
                await copy.write(data[at : at + 7])
        assert cursor.statusmessage == "COPY 5"
        after = await (await client.execute("SELECT * FROM u")).fetchall()
    assert after == before
    assert len(before) == 5
    assert before[0][:6] == (1, 'a\tb\nc\\d"e,f', 0.1, True, Decimal("1.5"), datetime(2024, 1, 2, 3, 4, 5, 6))  # noqa: DTZ001
    assert before[0][8] == b"\x00\\"
    assert before[2][1] == "\\N"


async def test_psycopg_writes_and_reads_rows(running: Any) -> None:
    rows = [(number, f"text\t{number}\n\\", number / 3) for number in range(3000)]
    async with await psycopg.AsyncConnection.connect(running.url, autocommit=True) as client:
        await client.execute("CREATE TABLE r (a INT, b VARCHAR, c DOUBLE)")
        async with client.cursor().copy("COPY r FROM STDIN") as copy:
            for row in rows:
                await copy.write_row(row)
        async with client.cursor().copy("COPY r TO STDOUT") as copy:
            copy.set_types(["int4", "text", "float8"])
            assert [row async for row in copy.rows()] == rows
        async with client.cursor().copy("COPY r TO STDOUT (FORMAT binary)") as copy:
            copy.set_types(["int4", "text", "float8"])
            assert [row async for row in copy.rows()] == rows
        async with client.cursor().copy("COPY r FROM STDIN (FORMAT binary)") as copy:
            copy.set_types(["int4", "text", "float8"])
            await copy.write_row((1, None, 0.5))
        assert await (await client.execute("SELECT * FROM r WHERE b IS NULL")).fetchall() == [(1, None, 0.5)]


async def test_asyncpg_copies_records_in_binary_and_files_in_csv(running: Any) -> None:
    records = [(number, "x" if number % 3 else None, datetime(2024, 1, 1, 0, 0, number % 60)) for number in range(500)]  # noqa: DTZ001
    client = await asyncpg.connect(running.url)
    try:
        await client.execute("CREATE TABLE ts (a INT, b VARCHAR, c TIMESTAMP)")
        assert await client.copy_records_to_table("ts", records=records) == "COPY 500"
        assert [tuple(row) for row in await client.fetch("SELECT * FROM ts")] == records
        assert await client.copy_to_table("ts", source=io.BytesIO(b"500,,2024-01-01\n"), format="csv") == "COPY 1"
        assert tuple(await client.fetchrow("SELECT * FROM ts WHERE a = 500")) == (500, None, datetime(2024, 1, 1))  # noqa: DTZ001
        out = io.BytesIO()
        assert await client.copy_from_table("ts", output=out, format="csv") == "COPY 501"
        assert out.getvalue().startswith(b"0,,2024-01-01 00:00:00\n1,x,2024-01-01 00:00:01\n")
    finally:
        await client.close()


@pytest.mark.skipif(shutil.which("psql") is None, reason="psql is not installed")
async def test_psql_copies_inline_data(running: Any) -> None:
    script = 'CREATE TABLE q (a INT, b VARCHAR);\nCOPY q FROM STDIN;\n1\tone\n2\t\\N\n\\.\nCOPY q FROM STDIN (FORMAT csv);\n3,"x,\ny"\n\\.\nCOPY q TO STDOUT (FORMAT csv);\n'
    process = await asyncio.create_subprocess_exec(
        "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", str(running.port), "-U", "root", "-d", "dev",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate(script.encode())
    assert (process.returncode, err.decode()) == (0, "")
    assert out.decode() == '1,one\n2,\n3,"x,\ny"\n'


@pytest.mark.parametrize(
    ("data", "code", "message"),
    [
        (b"1\tx\n2\n", "22P04", "missing data for column `b` in record 2"),
        (b"1\tx\ty\n", "22P04", "extra data after last expected column"),
        (b"1\tx\nzwei\ty\n", "22P02", "record 2, column a"),
        (b"99999999999\tx\n", "22003", "record 1, column a"),
        (b"1\t\xff\n", "22021", "invalid byte sequence"),
    ],
)
async def test_bad_data_stops_the_copy_and_nothing_is_kept(running: Any, data: bytes, code: str, message: str) -> None:
    async with await psycopg.AsyncConnection.connect(running.url, autocommit=True) as client:
        await client.execute("CREATE TABLE z (a INT, b VARCHAR)")
        with pytest.raises(psycopg.Error) as caught:
            async with client.cursor().copy("COPY z FROM STDIN") as copy:
                await copy.write(data)
        assert caught.value.sqlstate == code
        assert message in str(caught.value)
        assert await (await client.execute("SELECT count(*) FROM z")).fetchone() == (0,)


async def test_a_client_that_gives_up_keeps_nothing(running: Any) -> None:
    async with await psycopg.AsyncConnection.connect(running.url, autocommit=True) as client:
        await client.execute("CREATE TABLE g (a INT)")
        with pytest.raises(ZeroDivisionError):  # noqa: PT012  # raised inside the copy on purpose
            async with client.cursor().copy("COPY g FROM STDIN") as copy:
                await copy.write(b"1\n2\n")
                raise ZeroDivisionError
        assert await (await client.execute("SELECT count(*) FROM g")).fetchone() == (0,)


TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
RECORDS = st.lists(st.tuples(st.none() | st.integers(-9, 9), st.none() | TEXT), min_size=1, max_size=6)
FIELDS = (Field("a", INT4), Field("b", VARCHAR))


@settings(max_examples=100, deadline=None)
@given(records=RECORDS, step=st.integers(1, 9), bare=st.booleans())
def test_csv_written_by_the_book_is_read(records: list[tuple[int | None, str | None]], step: int, bare: bool) -> None:
    def cell(value: object) -> str:
        if value is None:
            return ""
        text = str(value)
        plain = bare and text and not set(text) & set('",\r\n') and text != "\\."
        return text if plain else '"' + text.replace('"', '""') + '"'

    data = "".join(",".join(map(cell, record)) + "\n" for record in records).encode()
    reader = CopyReader(FIELDS, copy_format({"format": "csv"}))
    assert read(reader, data, step) == records


@settings(max_examples=100, deadline=None)
@given(
    records=RECORDS,
    step=st.integers(1, 9),
    options=st.sampled_from([{}, {"delimiter": "|"}, {"format": "csv"}, {"format": "binary"}]),
)
def test_what_we_write_we_read(records: list[tuple[int | None, str | None]], step: int, options: dict[str, str]) -> None:
    format_ = copy_format(options)
    columns = [pa.array([record[at] for record in records], type_) for at, type_ in enumerate((pa.int32(), pa.string()))]
    sent, data = bytes(copy_rows(FIELDS, format_, pa.table(columns, ["a", "b"]))), b""
    sent = with_signature(sent) if format_.kind == "binary" else sent
    while sent:
        length = int.from_bytes(sent[1:5])
        assert sent[:1] == b"d"
        data, sent = data + sent[5 : length + 1], sent[length + 1 :]
    assert read(CopyReader(FIELDS, format_), data, step) == records


def read(reader: CopyReader, data: bytes, step: int) -> list[tuple[object, ...]]:
    for at in range(0, len(data), step):
        reader.feed(data[at : at + step])
    table = reader.take(last=True)
    return [] if table is None else [tuple(row.values()) for row in table.to_pylist()]


@settings(max_examples=25, deadline=None)
@given(records=RECORDS, cuts=st.lists(st.integers(1, 30), min_size=1, max_size=5), kind=st.sampled_from(["text", "csv"]))
def test_a_batch_never_ends_inside_a_record(records: list[tuple[int | None, str | None]], cuts: list[int], kind: str) -> None:
    format_ = copy_format({"format": kind})
    columns = [pa.array([record[at] for record in records], type_) for at, type_ in enumerate((pa.int32(), pa.string()))]
    sent, data = bytes(copy_rows(FIELDS, format_, pa.table(columns, ["a", "b"]))), b""
    while sent:
        length = int.from_bytes(sent[1:5])
        data, sent = data + sent[5 : length + 1], sent[length + 1 :]
    reader, found, at = CopyReader(FIELDS, format_), [], 0
    for cut in cuts:
        reader.feed(data[at : at + cut])
        at += cut
        found += rows_of(reader.take(last=False))
    reader.feed(data[at:])
    assert found + rows_of(reader.take(last=True)) == records


def rows_of(table: pa.Table | None) -> list[tuple[object, ...]]:
    return [] if table is None else [tuple(row.values()) for row in table.to_pylist()]


@pytest.mark.parametrize(
    ("data", "rows"),
    [
        (b"1\ta\\tb\n", [(1, "a\tb")]),
        (b"1\ta\\\tb\n", [(1, "a\tb")]),
        (b"1\ta\\\nb\n", [(1, "a\nb")]),
        (b"1\t\\\\N\n", [(1, "\\N")]),
        (b"1\t\\x41\\101\n", [(1, "AA")]),
        (b"1\tx\r\n2\ty\r\n", [(1, "x"), (2, "y")]),
        (b"1\tx\n\\.\nrubbish", [(1, "x")]),
        (b"1\tx", [(1, "x")]),
    ],
)
def test_text_as_other_programs_write_it(data: bytes, rows: list[tuple[object, ...]]) -> None:
    assert read(CopyReader(FIELDS, CopyFormat()), data, 3) == rows


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"frmat": "csv"}, InvalidParameter),
        ({"format": "xml"}, InvalidParameter),
        ({"delimiter": "ab"}, InvalidParameter),
        ({"quote": "'"}, InvalidParameter),
        ({"format": "csv", "escape": "\\"}, UnsupportedQuery),
        ({"encoding": "latin1"}, UnsupportedQuery),
        ({"format": "binary", "header": "true"}, InvalidParameter),
    ],
)
def test_an_option_that_we_do_not_have_is_refused(options: dict[str, str], error: type[SqlError]) -> None:
    with pytest.raises(error):
        copy_format(options)
