"""psql against the server."""

from __future__ import annotations

import asyncio
import shutil
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(shutil.which("psql") is None, reason="psql is not installed")


async def psql(running: Any, *arguments: str, stdin: str = "") -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        "psql", "-X", "-h", "127.0.0.1", "-p", str(running.port), "-U", "root", "-d", "dev", "-w", *arguments,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(30):
        out, err = await process.communicate(stdin.encode())
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_rows_are_shown_as_a_table(running: Any) -> None:
    code, out, err = await psql(running, "-c", "SELECT 1 AS a, NULL::INT AS b, 'x' AS c, true AS d")
    assert (code, err) == (0, "")
    assert out == " a | b | c | d \n---+---+---+---\n 1 |   | x | t\n(1 row)\n\n"


async def test_several_statements_in_one_message_stop_at_the_first_error(running: Any) -> None:
    code, out, err = await psql(
        running,
        "-At",
        "-c",
        "CREATE TABLE s (a INT); INSERT INTO s VALUES (1); SELECT * FROM s; SELECT * FROM missing; CREATE TABLE never (a INT)",
    )
    assert code == 1
    assert out.splitlines() == ["CREATE", "INSERT 0 1", "1"]
    assert "missing" in err
    _, out, _ = await psql(running, "-At", "-c", "SELECT count(*) FROM information_schema.tables WHERE table_name = 'never'")
    assert out == "0\n"


async def test_an_error_points_at_the_place_in_the_second_statement(running: Any) -> None:
    _, _, err = await psql(running, "-c", "SELECT 'ü'; SELECT * FROM missing")
    assert err.splitlines() == [
        "ERROR:  table `missing` does not exist",
        "LINE 1: SELECT 'ü'; SELECT * FROM missing",
        "                                  ^",
        "HINT:  Create it first.",
    ]


async def test_an_empty_query_and_an_empty_answer(running: Any) -> None:
    code, out, err = await psql(running, "-c", "", "-c", ";", "-c", "SELECT 1 AS a WHERE false")
    assert (code, err) == (0, "")
    assert out == " a \n---\n(0 rows)\n\n"


async def test_a_script_with_variables_and_gset(running: Any) -> None:
    code, out, _ = await psql(
        running, "-At", stdin="SELECT 41 + 1 AS answer \\gset\nSELECT :answer;\n\\echo :SERVER_VERSION_NUM\n"
    )
    assert code == 0
    assert out == "42\n131400\n"
