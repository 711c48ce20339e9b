"""Functions of users: signatures from hints, rows that fail alone, deadlines, processes, versions that never change."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from core.errors import ConflictError, InvalidInputError
from udfs.client import UdfClient
from udfs.functions.loading import load_file, load_folder, lock
from udfs.functions.rows import UserFunction
from udfs.server import build_server

SOURCE = '''
"""Functions of a shop."""
import asyncio, os, time
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from udfs.functions import Sql, udf

FACTOR = 2.0

class Parts(NamedTuple):
    name: str
    cents: Annotated[int, Sql("INT")]

@udf
def risk(amount: float, country: str) -> float:
    """Doubles abroad."""
    if country == "??":
        raise ValueError("no such country")
    return amount * (FACTOR if country == "XX" else 1.0)

@udf
def seen(value: str | None) -> bool:
    return value is not None

@udf(batch=True, version=3)
def ratio(a: float, b: float) -> float:
    if pc.any(pc.equal(b, 0.0)).as_py():
        raise ZeroDivisionError("b is 0")
    return pc.divide(a, b)

@udf(deadline_seconds=0.2)
def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds

@udf(deadline_seconds=0.2)
async def wait(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds

@udf(workers=2, deadline_seconds=5.0)
def crash(n: int) -> int:
    if n == 13:
        os._exit(1)
    return n * n

@udf
def describe(at: datetime, tags: list[str], price: Decimal, raw: bytes, extra: dict[str, Any]) -> Parts:
    return Parts(f"{at:%Y}-{'+'.join(tags)}-{len(raw)}-{extra['k']}", int(price * 100))

@udf
def lies(n: int) -> int:
    return "seven" if n == 7 else n

@udf(errors="null")
def strict_or_null(n: int) -> float:
    return 1 / n

EXAMPLES = {"risk@1": [((1.0, "DE"), 1.0), ((1.0, "??"), {"code": "raised", "message": "ValueError: no such country"})]}
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "functions"
    place.mkdir()
    (place / "shop.py").write_text(SOURCE)
    return place


@pytest.fixture
def call(folder: Path, artifacts):
    """Calls a function over Flight with columns of plain values."""
    server = build_server(artifacts, port=0, functions=load_folder(folder), folder=folder)
    by_name = {each.served_as: UserFunction(each) for each in load_folder(folder)}
    with UdfClient(f"http://127.0.0.1:{server.port}", timeout_seconds=300) as client:

        def run(name: str, *columns: list) -> list:
            from arrow_udf import _to_arrow_array

            schema = by_name[name]._input_schema
            arrays = [_to_arrow_array(column, field.type) for column, field in zip(columns, schema, strict=True)]
            answer = client.call(name, pa.RecordBatch.from_arrays(arrays, schema=schema))
            return [value.as_py() for value in answer]

        yield run
    server.drain_and_stop(1.0)
    server.close_functions()


def _values(answer: list) -> list:
    return [each["value"] for each in answer]


def _codes(answer: list) -> list:
    return [None if each["error"] is None else _as_object(each["error"])["code"] for each in answer]


def _as_object(error) -> dict:
    return json.loads(error) if isinstance(error, str) else error


def test_hints_become_the_sql_signature(folder: Path) -> None:
    told = {each.served_as: each.create_function() for each in load_folder(folder)}
    assert told["risk@1"] == (
        "CREATE FUNCTION risk(amount DOUBLE PRECISION, country VARCHAR)\n"
        "RETURNS STRUCT<value DOUBLE PRECISION, error JSONB>\n"
        "AS 'risk@1' USING LINK '${UDF_URL}';"
    )
    assert "CREATE FUNCTION ratio_v3(a DOUBLE PRECISION, b DOUBLE PRECISION)" in told["ratio@3"]
    assert "AS 'ratio@3'" in told["ratio@3"]
    assert told["describe@1"].startswith(
        "CREATE FUNCTION describe(at TIMESTAMP WITH TIME ZONE, tags VARCHAR[], price NUMERIC, raw BYTEA, extra JSONB)\n"
        "RETURNS STRUCT<value STRUCT<name VARCHAR, cents INT>, error JSONB>"
    )
    assert "RETURNS DOUBLE PRECISION\n" in told["strict_or_null@1"]


def test_a_row_that_raises_is_that_rows_error(call) -> None:
    answer = call("risk@1", [1.0, 2.0, 3.0, None], ["XX", "??", "DE", "DE"])
    assert _values(answer) == [2.0, None, 3.0, None]
    assert _codes(answer) == [None, "raised", None, None]
    assert "no such country" in _as_object(answer[1]["error"])["message"]


def test_null_reaches_only_who_asks_for_it(call) -> None:
    assert _values(call("seen@1", ["a", None])) == [True, False]


def test_a_batch_that_raises_is_halved_until_the_row_is_alone(call) -> None:
    n = 1000
    b = [1.0] * n
    b[617] = 0.0
    answer = call("ratio@3", [float(i) for i in range(n)], b)
    assert _codes(answer) == [None if i != 617 else "raised" for i in range(n)]
    assert _values(answer) == [float(i) if i != 617 else None for i in range(n)]


def test_a_row_that_never_ends_is_an_error_and_the_next_one_is_answered(call) -> None:
    answer = call("nap@1", [0.0, 30.0, 0.01])
    assert _codes(answer) == [None, "deadline", None]
    assert _values(answer) == [0.0, None, 0.01]


def test_rows_of_an_async_function_are_awaited_side_by_side(call) -> None:
    answer = call("wait@1", [0.1] * 60 + [30.0])  # one after the other: 6 s, and each within the deadline
    assert _codes(answer) == [None] * 60 + ["deadline"]


def test_a_worker_that_dies_takes_only_its_row_along(call) -> None:
    answer = call("crash@1", list(range(20)))
    assert _codes(answer) == ["worker_died" if n == 13 else None for n in range(20)]
    assert _values(answer) == [None if n == 13 else n * n for n in range(20)]


def test_types_go_there_and_back(call) -> None:
    from datetime import UTC, datetime
    from decimal import Decimal

    answer = call(
        "describe@1",
        [datetime(2025, 1, 1, tzinfo=UTC)],
        [["a", "b"]],
        [Decimal("12.34")],
        [b"\x00\x01"],
        [{"k": [1]}],
    )
    assert answer == [{"value": {"name": "2025-a+b-2-[1]", "cents": 1234}, "error": None}]


def test_a_value_of_another_type_is_that_rows_error(call) -> None:
    answer = call("lies@1", [6, 7, 8])
    assert _values(answer) == [6, None, 8]
    assert _codes(answer) == [None, "wrong_result", None]


def test_errors_may_be_null_where_that_is_asked_for(call) -> None:
    assert call("strict_or_null@1", [2, 0]) == [0.5, None]


def test_a_version_whose_source_changed_is_refused(folder: Path) -> None:
    assert "risk@1" in lock(folder, load_folder(folder))
    assert lock(folder, load_folder(folder)) == []
    path = folder / "shop.py"
    path.write_text(SOURCE.replace("Doubles abroad.", "Says the same.").replace("def seen", "# a comment\ndef seen"))
    load_folder(folder)  # only words changed
    path.write_text(SOURCE.replace("FACTOR = 2.0", "FACTOR = 3.0"))
    with pytest.raises(ConflictError, match=r"@1` computes something else") as caught:
        load_folder(folder)
    assert "version=2" in str(caught.value)


def test_a_version_counts_what_it_calls_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "two.py"
    source = """
from udfs.functions import udf
@udf
def one(a: int) -> int:
    return a
@udf
def two(a: int) -> int:
    return one(a) + 1
"""

    def digests(text: str) -> dict[str, str]:
        path.write_text(text)
        return {each.name: each.digest for each in load_file(path)}

    first = digests(source)
    assert first["one"] != first["two"]
    changed = digests(source.replace("return a\n", "return -a\n"))
    assert changed["one"] != first["one"]
    assert changed["two"] != first["two"], "it calls the one that changed"
    changed = digests(source.replace("+ 1", "+ 2"))
    assert (changed["one"], changed["two"] != first["two"]) == (first["one"], True)
    assert digests(source + "EXAMPLES = {}\n") == first
    # A lock file is written under one Python and read under another.
    assert first["one"] == "cf86bbdf2a942f2d018dfa618e58c98d4aacdaeec0d5633036aa71640bcad75e"


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("from udfs.functions import udf\n@udf\ndef f(a) -> int:\n    return 1\n", "`a` has no type hint"),
        ("from udfs.functions import udf\n@udf\ndef f(a: complex) -> int:\n    return 1\n", "`complex` has no SQL type"),
        ("from udfs.functions import udf\n@udf\ndef f(a: int | str) -> int:\n    return 1\n", "no one type"),
        ("from udfs.functions import udf\n@udf\ndef f(*a: int) -> int:\n    return 1\n", "no SQL signature"),
        ("from udfs.functions import udf\n@udf(version=0)\ndef f(a: int) -> int:\n    return 1\n", "below its least value"),
        ("x = 1 / 0\n", "ZeroDivisionError"),
        ("def f(:\n", "SyntaxError"),
    ],
)
def test_what_cannot_be_served_says_where_and_why(tmp_path: Path, source: str, told: str) -> None:
    path = tmp_path / "broken.py"
    path.write_text(source)
    with pytest.raises(InvalidInputError) as caught:
        load_file(path)
    assert told in str(caught.value)
    assert f"{path}:" in str(caught.value)


def test_two_files_cannot_define_one_version(folder: Path) -> None:
    (folder / "other.py").write_text("from udfs.functions import udf\n@udf\ndef risk(a: int) -> int:\n    return a\n")
    with pytest.raises(ConflictError, match="`risk@1` is defined twice"):
        load_folder(folder)


def test_the_command_line_lists_prints_and_tests(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from headrace.cli import app

    app(["udfs", "list", "--folder", str(folder), "--json"], standalone_mode=False)
    listed = json.loads(capsys.readouterr().out)
    assert {"risk@1", "ratio@3"} <= {each["function"] for each in listed}
    app(["udfs", "test", "--folder", str(folder), "--json"], standalone_mode=False)
    assert [each["ok"] for each in json.loads(capsys.readouterr().out)] == [True, True]
    app(["udfs", "new", "tax", "--folder", str(folder)], standalone_mode=False)
    capsys.readouterr()
    app(["udfs", "sql", "--folder", str(folder)], standalone_mode=False)
    assert "AS 'tax@1' USING LINK '${UDF_URL}';" in capsys.readouterr().out
    app(["udfs", "test", "--folder", str(folder), "--json"], standalone_mode=False)
    assert all(each["ok"] for each in json.loads(capsys.readouterr().out))
