"""Every sqllogictest file of this folder, over the wire, each in a database of its own."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from tests.sql.runner import SqlTestError, parse_file, run_file

FOLDER = Path(__file__).parent
FILES = sorted(FOLDER.glob("**/*.slt"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(FOLDER).with_suffix("")))
def test_file_gives_what_it_says(path: Path, engine_port: int) -> None:
    name = "slt_" + "_".join(path.relative_to(FOLDER).with_suffix("").parts).replace("-", "_")
    address = f"host=127.0.0.1 port={engine_port} user=root"
    with psycopg.connect(f"{address} dbname=dev", autocommit=True) as admin:
        admin.execute(f'CREATE DATABASE "{name}"')
        try:
            with psycopg.connect(f"{address} dbname={name}", autocommit=True) as connection:
                assert run_file(path, connection) > 0
        finally:
            admin.execute(f'DROP DATABASE "{name}"')


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("query I\nSELECT 1\n----\n2\n", "the result differs"),
        ("query II\nSELECT 1\n----\n1\n", "1 columns"),
        ("statement ok\nSELECT nothing\n", "failed"),
        ("statement error\nSELECT 1\n", "an error was expected"),
        ("statement error no such text\nSELECT nothing\n", "does not match"),
        ("query error\nSELECT 1\n", "an error was expected"),
        ("statement count 3\nVALUES (1)\n", "1 rows"),
    ],
)
def test_runner_reports_what_is_wrong(text: str, message: str, engine_port: int, tmp_path: Path) -> None:
    path = tmp_path / "wrong.slt"
    path.write_text(text)
    address = f"host=127.0.0.1 port={engine_port} user=root dbname=dev"
    with psycopg.connect(address, autocommit=True) as connection, pytest.raises(SqlTestError, match=message):
        run_file(path, connection)


def test_runner_reads_guards_sort_modes_and_halt(engine_port: int, tmp_path: Path) -> None:
    path = tmp_path / "right.slt"
    path.write_text(
        "skipif headrace\nstatement ok\nSELECT nothing\n\nonlyif mysql\nstatement ok\nSELECT nothing\n\n"
        "query IT rowsort\nVALUES (2, 'b'), (1, NULL)\n----\n1 NULL\n2  b\n\nquery T valuesort\nVALUES ('b'), ('a')\n----\na\nb\n\n"
        "halt\n\nstatement ok\nSELECT nothing\n"
    )
    assert len(parse_file(path)) == 2
    with psycopg.connect(f"host=127.0.0.1 port={engine_port} user=root dbname=dev", autocommit=True) as connection:
        assert run_file(path, connection) == 2
