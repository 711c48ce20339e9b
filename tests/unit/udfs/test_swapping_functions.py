"""New versions beside the live one: loaded without a gap, tried on the same batches, cut over in one step."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.flight as flight
import pytest

from core.errors import ConflictError, InvalidInputError, NotFoundError
from udfs.client import UdfClient
from udfs.control import is_local
from udfs.functions.loading import load_folder, lock
from udfs.functions.rows import UserFunction
from udfs.functions.table import LIVE_FILE
from udfs.functions.trial import Trial
from udfs.server import build_server
from udfs.warming import WarmingSource

ONE = """
from udfs.functions import udf
@udf
def price(amount: float) -> float:
    if amount < 0:
        raise ValueError("negative")
    return amount * 2.0
"""
TWO = """
from udfs.functions import udf
@udf(version=2)
def price(amount: float) -> float:
    if amount > 90:
        raise ValueError("too much")
    return amount * 2.0 if amount < 50 else amount * 2.0 + 0.5
"""
OTHER_SIGNATURE = """
from udfs.functions import udf
@udf(version=3)
def price(amount: float, currency: str) -> float:
    return amount
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "functions"
    place.mkdir()
    (place / "price.py").write_text(ONE)
    lock(place, load_folder(place))
    return place


@pytest.fixture
def server(artifacts, folder):
    server = build_server(artifacts, port=0, functions=load_folder(folder), folder=folder)
    yield server
    server.drain_and_stop(1.0)
    server.close_functions()


@pytest.fixture
def client(server):
    with UdfClient(f"http://127.0.0.1:{server.port}") as client:
        yield client


def _values(client: UdfClient, name: str, amounts: list[float]) -> list[float | None]:
    answer = client.call(name, pa.record_batch({"amount": pa.array(amounts, pa.float64())}))
    return [row["value"] for row in answer.to_pylist()]


def _await(condition, what: str) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def test_a_new_version_is_served_beside_and_the_name_means_what_it_meant(client, folder):
    (folder / "price_2.py").write_text(TWO)
    assert client.act("reload") == {"new": ["price@2"]}
    assert client.act("reload") == {"new": []}
    assert _values(client, "price", [60.0]) == _values(client, "price@1", [60.0]) == [120.0]
    assert _values(client, "price@2", [60.0]) == [120.5]
    assert client.health()["live"] == {"price": 1}


def test_a_trial_compares_what_callers_send_and_the_cut_changes_the_name_only(client, server, folder):
    (folder / "price_2.py").write_text(TWO)
    client.act("reload")
    client.act("trial", function="price", version=2)
    assert _values(client, "price", [1.0, 60.0, 95.0, -1.0]) == [2.0, 120.0, 190.0, None], "the old one answers"
    _await(lambda: client.act("trial_report", function="price")["rows"] == 4, "the batch is not compared")
    report = client.act("trial_report", function="price")
    assert (report["old"], report["new"]) == ("price@1", "price@2")
    assert (report["different"], report["largest_difference"]) == (1, 0.5)
    assert (report["failed_in_new_only"], report["failed_in_old_only"], report["failed_in_both"]) == (1, 1, 0)
    assert report["rows_not_compared"] == 0
    assert [each["arguments"] for each in report["examples"]] == [["60.0"], ["95.0"], ["-1.0"]]
    assert client.act("cut_over", function="price", version=2) == {"function": "price", "from": 1, "to": 2}
    assert _values(client, "price", [60.0]) == [120.5]
    assert _values(client, "price@1", [60.0]) == [120.0], "a pinned name never changes"
    with pytest.raises(NotFoundError, match="no version of `price` is being tried"):
        client.act("trial_report", function="price")


def test_an_exchange_that_is_held_open_gets_the_live_version_batch_by_batch(client, server, folder):
    (folder / "price_2.py").write_text(TWO)
    client.act("reload")
    batch = pa.record_batch({"amount": [60.0]})
    with flight.FlightClient(f"grpc://127.0.0.1:{server.port}") as connection:
        writer, reader = connection.do_exchange(flight.FlightDescriptor.for_path("price"))
        with writer:
            writer.begin(batch.schema)
            found = []
            for version in (1, 2, 1):
                client.act("cut_over", function="price", version=version)
                writer.write_batch(batch)
                found.append(reader.read_chunk().data.column(0)[0].as_py()["value"])
            writer.done_writing()
    assert found == [120.0, 120.5, 120.0]


def test_no_call_fails_and_every_batch_is_of_one_version_while_names_are_moved(client, server, folder):
    (folder / "price_2.py").write_text(TWO)
    client.act("reload")
    stop, found, failed = threading.Event(), set(), []

    def ask() -> None:
        with UdfClient(f"http://127.0.0.1:{server.port}") as own:
            while not stop.is_set():
                try:
                    found.add(tuple(_values(own, "price", [60.0] * 20)))
                except flight.FlightError as problem:
                    failed.append(problem)

    callers = [threading.Thread(target=ask) for _ in range(2)]
    for caller in callers:
        caller.start()
    for version in [2, 1] * 25:
        client.act("cut_over", function="price", version=version)
    _await(lambda: len(found) == 2, "one version never answered")
    stop.set()
    for caller in callers:
        caller.join()
    assert failed == []
    assert found == {(120.0,) * 20, (120.5,) * 20}


def test_the_live_version_survives_a_restart_and_a_higher_one_does_not_take_over(artifacts, client, server, folder):
    (folder / "price_2.py").write_text(TWO)
    client.act("reload")
    assert json.loads((folder / LIVE_FILE).read_text()) == {"price": 1}
    again = build_server(artifacts, port=0, functions=load_folder(folder), folder=folder)
    with UdfClient(f"http://127.0.0.1:{again.port}") as other:
        assert other.health()["live"] == {"price": 1}
        other.act("cut_over", function="price", version=2)
    again.drain_and_stop(1.0)
    assert json.loads((folder / LIVE_FILE).read_text()) == {"price": 2}


def test_what_cannot_be_swapped_says_why_and_changes_nothing(client, folder):
    with pytest.raises(NotFoundError, match=r"`price@2`.*There are price@1"):
        client.act("trial", function="price", version=2)
    with pytest.raises(InvalidInputError, match="is the live version already"):
        client.act("trial", function="price", version=1)
    with pytest.raises(NotFoundError, match="no function `predict` of a folder"):
        client.act("cut_over", function="predict", version=2)
    (folder / "price_3.py").write_text(OTHER_SIGNATURE)
    client.act("reload")
    for action in ("trial", "cut_over"):
        with pytest.raises(InvalidInputError, match="`price@3` has another signature than `price@1`"):
            client.act(action, function="price", version=3)
    (folder / "broken.py").write_text("def f(:\n")
    with pytest.raises(InvalidInputError, match="cannot be executed"):
        client.act("reload")
    (folder / "broken.py").unlink()
    (folder / "price.py").write_text(ONE.replace("2.0", "3.0"))
    with pytest.raises(ConflictError, match="computes something else"):
        client.act("reload")
    assert _values(client, "price", [10.0]) == [20.0]


def test_a_slow_new_version_is_shed_and_does_not_hold_the_old_ones_callers_up(client, folder):
    (folder / "price_2.py").write_text(
        TWO.replace("from udfs.functions import udf", "import time\nfrom udfs.functions import udf").replace(
            "    if amount > 90", "    time.sleep(0.5)\n    if amount > 90"
        )
    )
    client.act("reload")
    client.act("trial", function="price", version=2)
    begun = time.monotonic()
    for _ in range(60):
        assert _values(client, "price", [1.0]) == [2.0]
    assert time.monotonic() - begun < 15, "one after the other they take 30 s"
    report = client.act("end_trial", function="price")
    assert report["rows_not_compared"] > 0


def test_a_trial_ends_although_its_new_version_hangs_and_no_batch_finds_room(folder):
    release = threading.Event()
    old = UserFunction(load_folder(folder)[0])
    new = UserFunction(load_folder(folder)[0])
    new.eval_batch = lambda _batch: release.wait(60)  # for as long as the test looks
    trial = Trial(old, new)
    batch = pa.RecordBatch.from_pydict({"amount": [1.0]}, schema=old._input_schema)
    (answered,) = old.eval_batch(batch)
    try:
        _await(lambda: trial.offer(batch, answered, 0.0) or trial.report()["rows_not_compared"] > 0, "no batch was shed")
        ending = threading.Thread(target=trial.end, daemon=True)
        ending.start()
        ending.join(10)
        assert not ending.is_alive()
    finally:
        release.set()
        old.close()
        new.close()


def test_a_users_function_cannot_take_the_name_of_one_that_is_there(artifacts, folder):
    (folder / "redact.py").write_text(ONE.replace("price", "redact"))
    with pytest.raises(ConflictError, match="`redact@1` is the name of a function that is there already"):
        build_server(artifacts, port=0, functions=load_folder(folder), folder=folder)


def test_a_server_is_ready_while_its_registry_answers_and_healthy_all_the_same(artifacts):
    answers = [None]

    def check() -> None:
        if answers[0] is not None:
            raise answers[0]

    server = build_server(artifacts, port=0, check=check)
    with UdfClient(f"http://127.0.0.1:{server.port}") as client:
        assert client.ready() == {"ready": True, "reason": None}
        answers[0] = OSError("disk is gone")
        assert client.ready() == {"ready": False, "reason": "a dependency does not answer: disk is gone"}
        assert client.health()["status"] == "ok"
    server.drain_and_stop(1.0)


def test_a_model_is_warmed_before_a_route_names_it(client, artifacts):
    assert client.load_model("sick", 2) == {"ready": True, "features": 3, "classes": ["no", "yes"]}
    assert client.health()["models"] == ["sick@2"]
    refused = client.load_model("pickled", 1)
    assert (refused["ready"], refused["code"]) == (False, "model_rejected")
    assert client.load_model("absent", 1)["code"] == "model_not_found"
    with pytest.raises(InvalidInputError, match="`version` must be an integer"):
        client.act("load_model", model="sick", version="2")


def test_who_looks_at_a_version_warms_it_on_the_server_too(client, server, artifacts):
    source = WarmingSource(artifacts, f"http://127.0.0.1:{server.port}")
    assert source.load_artifact("sick", 1) == artifacts.stored["sick", 1]
    assert client.health()["models"] == ["sick@1"]
    with pytest.raises(InvalidInputError, match="refuses `pickled@1`"):
        source.load_artifact("pickled", 1)
    assert WarmingSource(artifacts, "http://127.0.0.1:1").load_artifact("sick", 2) == artifacts.stored["sick", 2]


@pytest.mark.parametrize(
    ("peer", "local"),
    [
        ("ipv4:127.0.0.1:5000", True),
        ("ipv6:[::1]:5000", True),
        ("ipv6:%5B::1%5D:5000", True),
        ("ipv6:[::ffff:127.0.0.1]:5000", True),
        ("unix:/run/udf", True),
        ("ipv4:10.0.0.7:5000", False),
        ("ipv6:[2001:db8::1]:5000", False),
        ("ipv6:[::ffff:10.0.0.7]:5000", False),
        ("", False),
        ("ipv4:localhost.example.com:1", False),
    ],
)
def test_only_callers_on_the_same_machine_may_change_functions(server, peer, local):
    assert is_local(peer) is local
    for action in ("reload", "cut_over"):
        told = json.loads(server._control.act(action, b'{"function": "price", "version": 1}', local=is_local(peer)))
        assert ("error" in told) is not local
    assert "error" not in json.loads(server._control.act("health", b"", local=is_local(peer)))


@pytest.fixture
def command(server, capsys):
    """Runs `headrace udfs ...` against the server; gives the exit code and the JSON that it prints."""
    from headrace.cli import app

    def run(*arguments: str) -> tuple[int, dict]:
        capsys.readouterr()
        code = app(["udfs", *arguments, "--url", f"http://127.0.0.1:{server.port}", "--json"], standalone_mode=False)
        return code or 0, json.loads(capsys.readouterr().out)

    return run


def test_the_command_cuts_over_when_versions_agree_and_refuses_when_they_do_not(command, client, server, folder):
    (folder / "price_2.py").write_text(TWO)
    stop = threading.Event()

    def ask(amounts: list[float]) -> threading.Thread:
        def work() -> None:
            with UdfClient(f"http://127.0.0.1:{server.port}") as own:
                while not stop.is_set():
                    _values(own, "price", amounts)

        thread = threading.Thread(target=work)
        thread.start()
        return thread

    assert command("health")[1]["live"] == {"price": 1}
    code, told = command("swap", "price@2", "--dual-run", "0.1s")
    assert (code, told["cut_over"], told["reason"]) == (1, False, "0 rows were compared, 1 are asked for")
    thread = ask([1.0, 60.0, 2.0, 3.0])
    try:
        code, told = command("swap", "price@2", "--dual-run", "0.5s")
        assert (code, told["cut_over"]) == (1, False)
        assert 0 < told["different"] == told["rows"] / 4
        assert client.health()["live"] == {"price": 1}
        code, told = command("swap", "price@2", "--dual-run", "0.5s", "--accept", "0.3", "--dry-run")
        assert (code, told["cut_over"], told["reason"]) == (0, False, None)
        code, told = command("swap", "price@2", "--dual-run", "0.5s", "--accept", "0.3")
        assert (code, told["cut_over"]) == (0, True)
    finally:
        stop.set()
        thread.join()
    assert client.health()["live"] == {"price": 2}
    assert command("reload") == (0, {"new": []})


def test_a_bench_tells_rows_a_second_each_way(server, folder, capsys):
    from headrace.cli import app

    (folder / "price.py").write_text(ONE + '\nEXAMPLES = {"price@1": [((1.0,), 2.0), ((None,), None)]}\n')
    url = f"http://127.0.0.1:{server.port}"
    app(
        ["udfs", "bench", "--folder", str(folder), "--batch", "50", "--seconds", "0.05", "--url", url, "--json"],
        standalone_mode=False,
    )
    told = json.loads(capsys.readouterr().out)
    assert [each["way"] for each in told] == ["python", "arrow", "flight"]
    assert all(each["rows_per_second"] > 0 and each["batch"] == 50 for each in told)
    assert told[0]["p50_milliseconds"] < told[2]["p50_milliseconds"], "a call over the wire costs more than one in Python"
