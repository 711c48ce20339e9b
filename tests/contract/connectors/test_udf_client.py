"""`UdfClient` against the reference server of the protocol (arrow-udf), in a process of its own that can be killed."""

from __future__ import annotations

import datetime as dt
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from core.errors import UnavailableError
from engine.connectors.arrow_types import physical_type
from engine.connectors.udf_client import UdfClient, UdfFailed
from engine.sql.errors import InvalidParameter, TypeMismatch, UndefinedFunction
from engine.sql.numeric import from_decimal
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
    VARCHAR,
    SqlType,
    list_of,
    struct_of,
)

SERVER = """
import json, sys, time
import pyarrow as pa
from arrow_udf import UdfServer, udf

OUTCOME = "STRUCT<label: VARCHAR, score: DOUBLE PRECISION, members: JSONB>"

@udf(input_types=["JSONB", "VARCHAR", "DOUBLE PRECISION[]"], result_type=OUTCOME)
def predict(route, key, features):
    if route is None:
        return None
    return {"label": route["a"], "score": None if features is None else sum(x or 0.0 for x in features), "members": {"key": key}}

@udf(input_types=["INT"], result_type="INT")
def add_one(x):
    return x + 1

@udf(input_types=["INT"], result_type="INT")
def fails(x):
    raise ValueError("cannot do %d" % x)

@udf(input_types=["INT"], result_type="INT")
def waits(x):
    print("waiting", flush=True)
    time.sleep(60)

def identity(name, data_type):
    function = udf(input_types=[data_type], result_type=data_type, name=name)(lambda x: x)
    server.add_function(function)

server = UdfServer(location="127.0.0.1:0")
for function in (predict, add_one, fails, waits):
    server.add_function(function)
for name, data_type in json.loads(sys.argv[1]).items():
    identity(name, pa.timestamp("us", "UTC") if data_type == "TIMESTAMPTZ" else data_type)
print("port", server.port, flush=True)
server.serve()
"""

IDENTITIES: list[tuple[str, SqlType, str, list[Any]]] = [
    ("bool", BOOL, "BOOLEAN", [True, None, False]),
    ("int2", INT2, "SMALLINT", [1, None]),
    ("int8", INT8, "BIGINT", [2**62, None]),
    ("float4", FLOAT4, "REAL", [0.5, None]),
    ("varchar", VARCHAR, "VARCHAR", ["é", "", None]),
    ("bytea", BYTEA, "BYTEA", [b"\x00\xff", None]),
    ("date", DATE, "DATE", [dt.date(2024, 2, 29), None]),
    ("time", TIME, "TIME", [dt.time(23, 59, 58, 5), None]),
    ("ts", TIMESTAMP, "TIMESTAMP", [dt.datetime(2024, 4, 11, 2, 0, 0, 1), None]),  # noqa: DTZ001
    ("tstz", TIMESTAMPTZ, "TIMESTAMPTZ", [dt.datetime(2024, 4, 11, 2, 0, 0, 1), None]),  # noqa: DTZ001
    ("num", NUMERIC, "DECIMAL", [Decimal("1.5"), Decimal("-0.000000000000000001"), Decimal(100), None]),
    ("json", JSONB, "JSONB", ['{"a": [1, null]}', None, '"x"']),
    ("jsons", list_of(JSONB), "JSONB[]", [["1", None], [], None]),
    ("nums", list_of(NUMERIC), "DECIMAL[]", [[Decimal("0.25"), None], None]),
    (
        "pair",
        struct_of(("a", INT4), ("b", list_of(VARCHAR))),
        "STRUCT<a: INT, b: VARCHAR[]>",
        [{"a": 1, "b": ["x", None]}, None],
    ),
]


class Server:
    """The reference server as a process."""

    def __init__(self, folder: Path) -> None:
        script = folder / "server.py"
        script.write_text(SERVER)
        declared = json.dumps({f"same_{name}": data_type for name, _, data_type, _ in IDENTITIES})
        self.process = subprocess.Popen(
            [sys.executable, str(script), declared], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.port = int(self.wait_for_line("port").split()[1])

    @property
    def link(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def wait_for_line(self, start: str) -> str:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(start):
                return line
        raise AssertionError("the UDF server ended")

    def kill(self) -> None:
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("udf"))
    yield running
    running.kill()


@pytest.fixture
def client(server: Server) -> Iterator[UdfClient]:
    with UdfClient(server.link) as connected:
        yield connected


def column(values: list[Any], type_: SqlType, name: str = "x") -> pa.RecordBatch:
    return pa.record_batch({name: pa.array(stored_form(values), physical_type(type_))})


def stored_form(value: Any) -> Any:
    """As the engine keeps it: a numeric is its key."""
    if isinstance(value, list):
        return [stored_form(item) for item in value]
    return Decimal(from_decimal(value)) if isinstance(value, Decimal) else value


OUTCOME = struct_of(("label", VARCHAR), ("score", FLOAT8), ("members", JSONB))
PREDICT = [JSONB, VARCHAR, list_of(FLOAT8)]


@pytest.mark.parametrize(("name", "type_", "_declared", "values"), IDENTITIES, ids=[name for name, *_ in IDENTITIES])
def test_every_type_goes_there_and_comes_back(
    client: UdfClient, name: str, type_: SqlType, _declared: str, values: list[Any]
) -> None:
    client.check(f"same_{name}", [type_], type_)
    answer = client.call(f"same_{name}", column(values, type_), [type_], type_)
    assert answer.type == physical_type(type_)
    assert answer.to_pylist() == stored_form(values)


def test_rows_of_duckdb_go_through_a_function_as_they_are(client: UdfClient) -> None:
    client.check("predict", PREDICT, OUTCOME)
    rows = duckdb.connect().sql(
        "SELECT * FROM (VALUES ('{\"a\": \"up\"}'::JSON, 'k1', [1.0, NULL, 2.5]::DOUBLE[]), (NULL, 'k2', NULL), ('{\"a\": \"x\"}', NULL, []))"
    )
    batch = rows.to_arrow_table().combine_chunks().to_batches()[0]
    assert client.call("predict", batch, PREDICT, OUTCOME).to_pylist() == [
        {"label": "up", "score": 3.5, "members": '{"key": "k1"}'},
        None,
        {"label": "x", "score": 0.0, "members": '{"key": null}'},
    ]


def test_a_slice_keeps_its_own_rows(client: UdfClient) -> None:
    type_ = list_of(NUMERIC)
    batch = column([[Decimal(1)], None, [Decimal(2), Decimal(3)], []], type_).slice(1, 3)
    assert client.call("same_nums", batch, [type_], type_).to_pylist() == stored_form([None, [Decimal(2), Decimal(3)], []])


def test_many_rows_travel_in_batches_and_keep_their_order(server: Server) -> None:
    with UdfClient(server.link, batch_rows=100) as client:
        assert client.call("add_one", column(list(range(1050)), INT4), [INT4], INT4).to_pylist() == list(range(1, 1051))


def test_no_rows_need_no_server() -> None:
    with UdfClient("http://127.0.0.1:1") as client:
        assert client.call("add_one", column([], INT4), [INT4], INT4) == pa.array([], pa.int32())


def test_an_unknown_function_is_named(client: UdfClient) -> None:
    with pytest.raises(UndefinedFunction, match="does not know function `absent`"):
        client.check("absent", [INT4], INT4)


@pytest.mark.parametrize(
    ("arguments", "result", "message"),
    [
        (
            [VARCHAR, VARCHAR, list_of(FLOAT8)],
            OUTCOME,
            r"arguments of `predict` .*\(string, string, list<double>\).*arrowudf.json",
        ),
        ([JSONB, VARCHAR], OUTCOME, "arguments of `predict`"),
        (PREDICT, struct_of(("label", VARCHAR), ("score", FLOAT8), ("members", VARCHAR)), "result of `predict`"),
        (PREDICT, struct_of(("wrong", VARCHAR), ("score", FLOAT8), ("members", JSONB)), "result of `predict`"),
    ],
)
def test_another_signature_is_refused_with_both(
    client: UdfClient, arguments: list[SqlType], result: SqlType, message: str
) -> None:
    with pytest.raises(TypeMismatch, match=message):
        client.check("predict", arguments, result)


def test_an_exception_in_the_function_is_a_typed_error_that_is_not_retried(client: UdfClient) -> None:
    with pytest.raises(UdfFailed, match=r"function `fails` failed: .*cannot do 7") as caught:
        client.call("fails", column([7], INT4), [INT4], INT4)
    assert not caught.value.retryable
    assert client.call("add_one", column([1], INT4), [INT4], INT4).to_pylist() == [2]


def test_an_answer_of_another_type_is_a_typed_error(client: UdfClient) -> None:
    with pytest.raises(UdfFailed, match="is no integer"):
        client.call("same_varchar", column(["abc"], VARCHAR), [VARCHAR], INT4)


def test_a_call_that_takes_too_long_is_unavailable_and_not_null(server: Server) -> None:
    with UdfClient(server.link, timeout=timedelta(milliseconds=300)) as client:
        began = time.monotonic()
        with pytest.raises(UnavailableError) as caught:
            client.call("waits", column([1], INT4), [INT4], INT4)
        assert caught.value.retryable
        assert time.monotonic() - began < 5


def test_a_server_that_is_away_or_dies_while_it_works_is_unavailable(tmp_path: Path) -> None:
    running = Server(tmp_path)
    with UdfClient(running.link, timeout=timedelta(seconds=20)) as client:
        caught: list[BaseException] = []

        def call() -> None:
            try:
                client.call("waits", column([1], INT4), [INT4], INT4)
            except UnavailableError as error:
                caught.append(error)

        thread = threading.Thread(target=call)
        thread.start()
        running.wait_for_line("waiting")
        running.kill()
        thread.join(15)
        assert not thread.is_alive()
        assert len(caught) == 1
        for attempt in (
            lambda: client.check("add_one", [INT4], INT4),
            lambda: client.call("add_one", column([1], INT4), [INT4], INT4),
        ):
            with pytest.raises(UnavailableError, match="the rows wait until it answers"):
                attempt()


@pytest.mark.parametrize("link", ["http://nohost", "ftp://a:1", "//"])
def test_a_link_that_is_no_address_is_refused(link: str) -> None:
    with pytest.raises(InvalidParameter, match="is not the address of a UDF server"):
        UdfClient(link)


def test_intervals_have_the_same_arrow_type_on_both_sides() -> None:
    assert physical_type(INTERVAL) == pa.month_day_nano_interval()
