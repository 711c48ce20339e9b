"""The server over a real Flight connection."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.flight as flight
import pytest

from core.errors import UnavailableError
from udfs.client import UdfClient
from udfs.predict import predict
from udfs.server import build_server
from udfs.sessions import ModelSessions


@pytest.fixture
def server(artifacts):
    server = build_server(artifacts, port=0)
    yield server
    server.drain_and_stop(1.0)


@pytest.fixture
def client(server):
    with UdfClient(f"http://127.0.0.1:{server.port}") as client:
        yield client


def test_the_wire_changes_nothing(client, artifacts, make_route):
    route = make_route(("sick", 1, "champion", 0.7), ("sick", 2, "challenger", 0.3))
    routes, keys = [route, None, route, "nonsense"], ["a", "b", None, "d"]
    features = [[1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [None, 1.0, 2.0], [1.0, 2.0, 3.0]]
    answer = client.predict(routes, keys, features)
    direct = predict(pa.array(routes), pa.array(keys), pa.array(features), ModelSessions(artifacts))
    assert answer.type == direct.type
    assert answer.to_pylist() == direct.to_pylist()


def test_an_exchange_answers_batch_by_batch_so_that_a_caller_may_keep_it_open(server, make_route):
    route = make_route(("sick", 1, "champion", 1.0))
    schema = pa.schema([("route", pa.string()), ("key", pa.string()), ("features", pa.list_(pa.float64()))])
    with flight.FlightClient(f"grpc://127.0.0.1:{server.port}") as connection:
        writer, reader = connection.do_exchange(flight.FlightDescriptor.for_path("predict"))
        with writer:
            writer.begin(schema)
            for rows in (1, 3, 0, 2):
                writer.write_batch(pa.record_batch([[route] * rows, ["k"] * rows, [[1.0, 2.0, 3.0]] * rows], schema=schema))
                assert reader.read_chunk().data.num_rows == rows
            writer.done_writing()


def test_the_schema_of_a_function_is_known_to_arrow_udf_callers(server):
    with flight.FlightClient(f"grpc://127.0.0.1:{server.port}") as connection:
        info = connection.get_flight_info(flight.FlightDescriptor.for_path("predict"))
        (version,) = connection.do_action(flight.Action("protocol_version", b""))
    assert info.schema.names == ["route", "key", "features", "predict"]
    assert info.total_records == 3
    assert version.body.to_pybytes() == b"\x02"


def test_health_names_the_functions_and_the_models_that_are_ready(client, make_route):
    told = client.health()
    assert {name: told[name] for name in ("status", "models", "threads", "live")} == {
        "status": "ok",
        "models": [],
        "threads": 2,
        "live": {},
    }
    assert {"predict", "explain@1", "saliency@1", "detect@1", "profile@1", "redact@1"} <= set(told["functions"])
    client.predict([make_route(("sick", 2, "champion", 1.0))], ["k"], [[1.0, 2.0, 3.0]])
    assert client.health()["models"] == ["sick@2"]


def test_an_unknown_function_is_refused_by_name(client):
    with pytest.raises(flight.FlightServerError, match=r"no function `predikt`; there are .*predict"):
        client.call("predikt", pa.record_batch({"x": [1]}))


def test_wrong_arguments_are_refused_and_the_server_goes_on(client, make_route):
    with pytest.raises(flight.FlightServerError, match=r"takes 3 arguments \(route, key, features\), got 1"):
        client.call("predict", pa.record_batch({"x": [1]}))
    with pytest.raises(flight.FlightServerError, match="of another type"):
        client.call("predict", pa.record_batch({"r": ["{}"], "k": ["k"], "f": ["text"]}))
    assert client.predict([None], ["k"], [[1.0]]).to_pylist()[0]["error"]["code"] == "no_route"


def test_a_registry_that_does_not_answer_is_unavailable_and_no_result(make_route):
    class Down:
        def load_artifact(self, name: str, version: int) -> bytes:
            raise UnavailableError("the catalog does not answer")

    server = build_server(Down(), port=0)
    with UdfClient(f"http://127.0.0.1:{server.port}") as client, pytest.raises(flight.FlightUnavailableError, match="catalog"):
        client.predict([make_route(("sick", 1, "champion", 1.0))], ["k"], [[1.0, 2.0, 3.0]])
    server.drain_and_stop(1.0)


def test_callers_at_the_same_time_get_their_own_answers_and_a_drain_cuts_none_off(artifacts, make_route):
    server = build_server(artifacts, port=0, threads=2)
    route = make_route(("sick", 1, "champion", 0.5), ("sick", 2, "champion", 0.5))
    sessions = ModelSessions(artifacts)
    started = threading.Barrier(5)

    def call_until_refused(caller: int) -> int:
        vectors = [[float(caller), float(i), 1.0] for i in range(50)]
        expected = predict(pa.array([route] * 50), pa.array(["k"] * 50), pa.array(vectors), sessions).to_pylist()
        answered = 0
        with UdfClient(f"http://127.0.0.1:{server.port}") as client:
            try:
                while True:
                    assert client.predict([route] * 50, ["k"] * 50, vectors).to_pylist() == expected
                    answered += 1
                    if answered == 5:
                        started.wait(30)
            except (flight.FlightUnavailableError, flight.FlightCancelledError):  # refused, or not looked at any more
                return answered

    with ThreadPoolExecutor(4) as callers:
        running = [callers.submit(call_until_refused, caller) for caller in range(4)]
        started.wait(30)
        assert server.drain_and_stop(10.0)
        assert all(caller.result(30) >= 5 for caller in running)


def test_a_taken_port_says_so(server, artifacts):
    with pytest.raises(UnavailableError, match=f"127.0.0.1:{server.port}"):
        build_server(artifacts, port=server.port)


_SERVE = """
from udfs.server import serve
serve(None, host="127.0.0.1", port=0, threads=1, on_ready=lambda port: print(port, flush=True))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_process_cleanly_even_when_a_caller_keeps_an_exchange_open(number):
    process = subprocess.Popen([sys.executable, "-c", _SERVE], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        port = int(process.stdout.readline())
        with flight.FlightClient(f"grpc://127.0.0.1:{port}") as connection:
            writer, reader = connection.do_exchange(flight.FlightDescriptor.for_path("predict"))
            schema = pa.schema([("route", pa.string()), ("key", pa.string()), ("features", pa.list_(pa.float64()))])
            writer.begin(schema)
            writer.write_batch(pa.record_batch([[None], ["k"], [[1.0]]], schema=schema))
            assert reader.read_chunk().data.num_rows == 1
            process.send_signal(number)
            assert process.wait(20) == 0
    finally:
        process.kill()
        process.stdout.close()
