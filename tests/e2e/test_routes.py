"""Routes change in one epoch, are remembered, and every logged decision replays."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import psycopg
import pytest

from core.errors import ConflictError, InvalidInputError, NotFoundError
from learning.routing.changes import roll_back, write_route
from pipelines.routing import RouteMember, must_read_current, read_at, read_history
from tests.e2e.trial import ENDPOINT, START, Artifacts, Trial, linear, running_trial

pytestmark = pytest.mark.xdist_group("processes")

EVERY = timedelta(seconds=1)


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    artifacts = Artifacts({("m", version): linear(float(version)) for version in (1, 2, 3)})
    with running_trial(tmp_path_factory.mktemp("trial"), artifacts, lake=True) as running:
        yield running


def draw(seed: int, n: int) -> list[tuple[float, float]]:
    return [(float(a), float(b)) for a, b in np.random.default_rng(seed).normal(size=(n, 2))]


def headrace(trial: Trial, *arguments: str) -> subprocess.CompletedProcess[str]:
    environ = {"PATH": os.environ["PATH"], "HEADRACE_DATABASE_URL": trial.url, "HEADRACE_DATA_DIR": str(trial.data_dir)}
    command = [sys.executable, "-m", "headrace", "--log-level", "error", *arguments]
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)


def m(version: int, weight: float = 1.0, role: str = "champion", fraction: float | None = None) -> RouteMember:
    return RouteMember("m", version, role, weight, fraction)


def test_every_decision_of_a_run_with_changing_routes_replays_to_the_same_choice(trial: Trial) -> None:
    trial.artifacts.stored["broken", 1] = b"no model"
    routes: list[tuple[str, list[RouteMember]]] = [
        ("ensemble_mean", [m(1, 0.7), m(2, 0.3)]),
        ("choice", [m(1, 0.2), m(2, 0.5), m(3, 0.3)]),
        ("canary", [m(1), m(2, 1.0, "challenger", 0.25)]),
        ("ensemble_vote", [m(1), m(2, 2.0), RouteMember("broken", 1)]),
        ("blue_green", [m(3)]),
    ]
    for i, (strategy, members) in enumerate(routes):
        write_route(trial.connection, "replayed", ENDPOINT, strategy, members, changed_by="test", reason=f"change {i}")
        trial.send("replayed", draw(i, 60), at=START + timedelta(hours=i), every=EVERY)
    served = dict(
        trial.query("SELECT route_epoch, count(*) FROM predictions WHERE tenant_id = 'replayed' GROUP BY route_epoch")
    )
    assert served == dict.fromkeys(range(1, 6), 60)
    (failing,) = trial.query(
        "SELECT members FROM predictions WHERE tenant_id = 'replayed' AND route_epoch = 4 AND entity_id = 'entity-1'"
    )
    told = {each["model"] + str(each["version"]): each["weight"] for each in as_json(failing[0])}
    assert told == {"broken1": 0.0, "m1": pytest.approx(1 / 3), "m2": pytest.approx(2 / 3)}, "the others share its weight"
    done = headrace(trial, "routes", "replay", ENDPOINT, "--tenant", "replayed", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    (found,) = json.loads(done.stdout)
    assert (found["decisions"], found["identical"], found["different"]) == (300, 300, 0)
    deadline = time.monotonic() + 60
    while found["decisions"] != 300 or found.get("source") != "lake":
        assert time.monotonic() < deadline, f"the lake has {found}"
        done = headrace(trial, "routes", "replay", ENDPOINT, "--tenant", "replayed", "--from", "lake", "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        found = {**(json.loads(done.stdout) or [{"decisions": 0}])[0], "source": "lake"}
    assert found["identical"] == 300


def test_a_replay_tells_a_decision_that_its_route_does_not_explain(trial: Trial) -> None:
    write_route(trial.connection, "tampered", ENDPOINT, "choice", [m(1), m(2)], changed_by="test", reason="first")
    # Somebody writes other weights under the same epoch: the history keeps what was announced first.
    trial.query_none("UPDATE routes SET weight = 0 WHERE tenant_id = 'tampered' AND version = 2")
    trial.send("tampered", draw(0, 40), at=START, every=EVERY)
    done = headrace(trial, "routes", "replay", ENDPOINT, "--tenant", "tampered", "--json")
    assert done.returncode == 1
    (found,) = json.loads(done.stdout)
    assert 5 < found["different"] < 35
    assert found["differences"][0]["logged"] == [["m@1", 1.0]]
    assert found["differences"][0]["replayed"] == [["m@2", 1.0]]


def test_who_served_at_a_time_is_a_query_and_a_command(trial: Trial) -> None:
    write_route(trial.connection, "asked", ENDPOINT, "ensemble_mean", [m(1)], changed_by="ann", reason="start")
    between = datetime.now(UTC)
    write_route(
        trial.connection, "asked", ENDPOINT, "canary", [m(1), m(2, 1, "challenger", 0.1)], changed_by="bob", reason="try"
    )
    (then,) = read_at(trial.connection, between, "asked")
    assert (then.epoch, then.strategy, [each.name for each in then.members], then.changed_by) == (
        1,
        "ensemble_mean",
        ["m@1"],
        "ann",
    )
    assert read_at(trial.connection, then.served_from - timedelta(seconds=1), "asked") == []  # type: ignore[operator]
    told = json.loads(
        headrace(trial, "routes", "show", ENDPOINT, "--tenant", "asked", "--at", between.isoformat(), "--json").stdout
    )
    assert [(each["epoch"], each["members"][0]["model"]) for each in told] == [(1, "m")]
    now = json.loads(headrace(trial, "routes", "show", ENDPOINT, "--tenant", "asked", "--json").stdout)
    assert [(each["epoch"], each["strategy"], each["reason"]) for each in now] == [(2, "canary", "try")]


def test_of_two_writers_of_one_epoch_the_second_is_told_and_nothing_is_mixed(trial: Trial) -> None:
    write_route(trial.connection, "raced", ENDPOINT, "ensemble_mean", [m(1)], changed_by="test", reason="first")
    wanted = {"x": [m(1, 0.1), m(2, 0.9)], "y": [m(3)]}
    outcomes: dict[str, object] = {}
    ready = threading.Barrier(2)

    def change(name: str) -> None:
        with psycopg.connect(trial.url, autocommit=True) as connection:
            ready.wait(30)
            try:
                outcomes[name] = write_route(
                    connection, "raced", ENDPOINT, "ensemble_mean", wanted[name], changed_by=name, reason="race", expect_epoch=1
                )
            except ConflictError as error:
                outcomes[name] = error

    threads = [threading.Thread(target=change, args=(name,)) for name in wanted]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    won = [name for name, outcome in outcomes.items() if not isinstance(outcome, ConflictError)]
    assert len(won) == 1, outcomes
    current = must_read_current(trial.connection, "raced", ENDPOINT)
    assert (current.epoch, current.changed_by) == (2, won[0])
    assert [(each.name, each.weight) for each in current.members] == [(each.name, each.weight) for each in wanted[won[0]]]


def test_no_prediction_ever_meets_half_of_a_change(trial: Trial) -> None:
    """While rows flow, a route flips between two that differ in strategy, members and weights."""
    whole = {
        1: ("ensemble_mean", {"m@1": 0.5, "m@2": 0.5}),
        0: ("blue_green", {"m@3": 1.0}),
    }
    stop = threading.Event()

    def flow() -> None:
        with psycopg.connect(trial.url, autocommit=True) as connection:
            i = 0
            while not stop.is_set():
                rows = ", ".join(
                    f"('flipped', 'e-{i}-{k}', '{START + timedelta(seconds=i)!s}', {k - 5}.5, 0.0)" for k in range(10)
                )
                connection.execute(f"INSERT INTO trial_events VALUES {rows}".encode())
                i += 1

    write_route(trial.connection, "flipped", ENDPOINT, "ensemble_mean", [m(1, 0.5), m(2, 0.5)], changed_by="test", reason="1")
    flowing = threading.Thread(target=flow)
    flowing.start()
    try:
        for epoch in range(2, 22):
            strategy, weights = whole[epoch % 2]
            members = [m(int(name[-1]), weight) for name, weight in weights.items()]
            write_route(trial.connection, "flipped", ENDPOINT, strategy, members, changed_by="test", reason=str(epoch))
    finally:
        stop.set()
        flowing.join(60)
    trial.connection.execute("FLUSH")
    rows = trial.query("SELECT route_epoch, members FROM predictions WHERE tenant_id = 'flipped'")
    assert len({epoch for epoch, _ in rows}) > 10
    for epoch, members in rows:
        found = {f"{each['model']}@{each['version']}": each["weight"] for each in as_json(members)}
        assert found == whole[epoch % 2][1], f"epoch {epoch}"


def test_a_rollback_brings_the_last_other_route_back_under_a_new_epoch_and_a_second_one_goes_further(trial: Trial) -> None:
    change: dict[str, Any] = {"changed_by": "test", "reason": "change"}
    write_route(trial.connection, "rolled", ENDPOINT, "ensemble_mean", [m(1, 0.6), m(2, 0.4)], **change)
    write_route(trial.connection, "rolled", ENDPOINT, "blue_green", [m(3)], **change)
    current = write_route(trial.connection, "rolled", ENDPOINT, "blue_green", [m(3, 0.5)], **change)
    once = roll_back(trial.connection, current, changed_by="cli", reason="errors")
    assert (once.epoch, [(each.name, each.weight) for each in once.members]) == (4, [("m@3", 1.0)])
    twice = roll_back(trial.connection, once, changed_by="cli", reason="errors")
    assert (twice.epoch, twice.strategy, [(each.name, each.weight) for each in twice.members]) == (
        5, "ensemble_mean", [("m@1", 0.6), ("m@2", 0.4)],
    )  # fmt: skip
    assert (twice.changed_by, twice.reason) == ("cli", "errors (back to epoch 1)")
    with pytest.raises(NotFoundError, match="no earlier route"):
        roll_back(trial.connection, twice, changed_by="cli", reason="errors")
    retired = trial.query("SELECT weight, epoch FROM routes WHERE tenant_id = 'rolled' AND version = 3")
    assert retired == [(0.0, 5)]
    assert [each.epoch for each in read_history(trial.connection, "rolled", ENDPOINT)] == [1, 2, 3, 4, 5]


def test_a_model_that_cannot_be_served_never_becomes_a_route(trial: Trial) -> None:
    trial.artifacts.stored["junk", 1] = b"\x80\x04."
    change: dict[str, Any] = {"changed_by": "test", "reason": "change", "artifacts": trial.artifacts}
    write_route(trial.connection, "careful", ENDPOINT, "blue_green", [m(1)], **change)
    with pytest.raises(InvalidInputError, match="pickle"):
        write_route(trial.connection, "careful", ENDPOINT, "blue_green", [RouteMember("junk", 1)], **change)
    with pytest.raises(InvalidInputError, match="champion"):
        write_route(trial.connection, "careful", ENDPOINT, "canary", [m(1, 1.0, "challenger", 0.5)], **change)
    assert must_read_current(trial.connection, "careful", ENDPOINT).epoch == 1


def as_json(value: object) -> Any:
    return json.loads(value) if isinstance(value, str) else value


def test_two_identical_runs_give_identical_predictions(tmp_path_factory: pytest.TempPathFactory) -> None:
    def run() -> list[tuple[Any, ...]]:
        artifacts = Artifacts({("m", version): linear(float(version)) for version in (1, 2, 3)})
        change: dict[str, Any] = {"changed_by": "test", "reason": "change"}
        with running_trial(tmp_path_factory.mktemp("run"), artifacts) as trial:
            for i, strategy in enumerate(("ensemble_mean", "choice", "ensemble_vote")):
                write_route(trial.connection, "acme", ENDPOINT, strategy, [m(1, 0.5), m(2, 0.3), m(3, 0.2)], **change)
                trial.send("acme", draw(i, 200), at=START + timedelta(hours=i), every=EVERY)
            return trial.query("SELECT * FROM predictions ORDER BY prediction_id")

    first, second = run(), run()
    assert len(first) == 600
    assert first == second
