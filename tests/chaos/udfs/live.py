"""Models are swapped, weights moved and broken models offered while predictions are asked for at a constant rate.

    python -m tests.chaos.udfs.live --seconds 120 [--rate 1000] [--swaps 20] [--weight-changes 50] [--json FILE]

Routes live in a real engine and are read from `active_routes`, models in a real registry, predictions come from a real UDF server.
The first quarter of the time nothing changes; what callers wait then, after a short warm-up, is what the rest is compared with. A latency counts from when
the call was due, so a stall is not hidden by calls that were not made. Exit status 1 if a call failed, a prediction has no known
version, a broken model served, or the p99 during swaps is twice the p99 before.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psycopg

from pipelines.routing import RouteMember, change_route
from tests.chaos.engine.processes import EngineProcess
from tests.chaos.udfs.operator import BROKEN, ENDPOINT, MODEL, TENANT, Plan, boosted_model, operate
from tests.chaos.udfs.processes import WIDTH, UdfProcess, open_registry, register
from tests.services.kafka import wait_until
from udfs.client import UdfClient

REPOSITORY = Path(__file__).parents[3]
ROUTING = ("10_routing.sql", "15_route_changes.sql")
ROWS = 10  # of a call
CALLERS = 4
AFTERWARDS_SECONDS = 0.25  # a swap is felt until then: callers have the new route
WARM_UP_SECONDS = 3.0  # connections and threads are made; these calls count as calls, and are not timed


@dataclass
class Outcome:
    """What a run found."""

    calls: int = 0
    rows: int = 0
    failed: list[str] = field(default_factory=list)
    unknown_versions: int = 0
    rows_by_version: Counter[str] = field(default_factory=Counter)
    routes_seen: int = 0
    events: Counter[str] = field(default_factory=Counter)
    broken_that_served: list[str] = field(default_factory=list)
    milliseconds: dict[str, dict[str, float]] = field(default_factory=dict)
    late_calls: int = 0

    @property
    def slowdown(self) -> float:
        """The p99 while models are swapped over the p99 before anything changes."""
        return self.milliseconds["swaps"]["p99"] / self.milliseconds["before"]["p99"]

    def as_json(self) -> dict[str, Any]:
        return {
            "calls": self.calls,
            "predictions": self.rows,
            "failed_calls": len(self.failed),
            "failures": self.failed[:5],
            "predictions_without_a_known_version": self.unknown_versions,
            "versions_that_served": len(self.rows_by_version),
            "routes_seen": self.routes_seen,
            "events": dict(sorted(self.events.items())),
            "broken_that_served": self.broken_that_served,
            "milliseconds": self.milliseconds,
            "p99_during_swaps_over_before": round(self.slowdown, 2),
        }


def run(folder: Path, *, seconds: float, rate: int, swaps: int, weight_changes: int, seed: int = 0) -> Outcome:
    """Run everything in a folder of its own; see the module."""
    data = folder / "data"
    data.mkdir(parents=True)
    first = register(open_registry(data), MODEL, boosted_model(0))
    engine, udf = EngineProcess(folder / "engine"), UdfProcess(data)
    engine.start()
    udf.start()
    try:
        assert engine.await_port()
        with engine.connect() as connection:
            for name in ROUTING:
                for statement in (REPOSITORY / "pipelines/00_shared" / name).read_text().split(";\n"):
                    if statement.strip():
                        connection.execute(statement.encode())
            change_route(
                connection,
                TENANT,
                ENDPOINT,
                "ensemble_mean",
                [RouteMember(MODEL, first)],
                changed_by="operator",
                reason="first",
            )
            with UdfClient(udf.url) as client:
                assert client.load_model(MODEL, first)["ready"]
        database = f"postgresql://root@127.0.0.1:{engine.port}/dev"
        return _measure(folder, database, udf.url, seconds, rate, Plan(swaps, weight_changes, seconds * 0.7, seed))
    finally:
        udf.stop()
        engine.stop()


def _measure(folder: Path, database: str, url: str, seconds: float, rate: int, plan: Plan) -> Outcome:
    journal = folder / "operator.jsonl"
    ours, theirs = multiprocessing.Pipe()
    operator = multiprocessing.get_context("spawn").Process(
        target=operate, args=(folder / "data", database, url, plan, theirs, journal), daemon=True
    )
    operator.start()
    assert ours.poll(120), "the operator is not ready"
    assert ours.recv() == "ready"
    load = _Load(database, url, rate)
    load.start()
    began = load.began
    ours.send(began + seconds * 0.25)
    time.sleep(max(0.0, began + seconds - time.monotonic()))  # the load runs for so long: nothing is waited for
    operator.join(60)
    load.stop()
    assert operator.exitcode == 0, f"the operator ended with {operator.exitcode}"
    events = [json.loads(line) for line in journal.read_text().splitlines()]
    return _judge(load, events, began + seconds * 0.25)


class _Load:
    """Callers at a constant rate, and a watcher that keeps the route as the API does."""

    def __init__(self, database: str, url: str, rate: int) -> None:
        self._database, self._url = database, url
        self._interval = ROWS * CALLERS / rate
        self._stop = threading.Event()
        self._route: tuple[int, str] = (-1, "")
        self.routes: dict[int, dict[str, Any]] = {}
        self.latencies: list[tuple[float, float]] = []  # when it was due, and how long it took
        self.answers: list[tuple[int, str, int]] = []  # route epoch, what decided, rows
        self.failed: list[str] = []
        self.began = 0.0
        self._threads = [threading.Thread(target=self._watch)]
        self._threads += [threading.Thread(target=self._call, args=(number,)) for number in range(CALLERS)]

    def start(self) -> None:
        self._threads[0].start()
        wait_until(lambda: bool(self._route[1]), 30, "there is no route")
        sys.setswitchinterval(0.0005)  # callers measure the server, not each other
        self.began = time.monotonic() + 1.0
        for thread in self._threads[1:]:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _watch(self) -> None:
        with psycopg.connect(self._database, autocommit=True) as connection:
            while not self._stop.is_set():
                row = connection.execute(
                    "SELECT route_epoch, route::VARCHAR FROM active_routes WHERE tenant_id = %s AND endpoint = %s",
                    (TENANT, ENDPOINT),
                ).fetchone()
                if row is not None and row[0] != self._route[0]:
                    self.routes[row[0]] = json.loads(row[1])
                    self._route = (row[0], row[1])
                self._stop.wait(0.1)

    def _call(self, number: int) -> None:
        features = np.random.default_rng(number).normal(size=(ROWS, WIDTH)).tolist()
        keys = [f"key-{number}-{i}" for i in range(ROWS)]
        due = self.began + self._interval * number / CALLERS
        with UdfClient(self._url) as client:
            while not self._stop.is_set():
                if due > time.monotonic():
                    time.sleep(max(0.0, due - time.monotonic()))
                epoch, route = self._route
                try:
                    answer = client.predict([route] * ROWS, keys, features).to_pylist()
                except Exception as problem:  # noqa: BLE001  whatever it is, it is a failed call
                    self.failed.append(f"{type(problem).__name__}: {str(problem)[:200]}")
                    answer = []
                self.latencies.append((due, time.monotonic() - due))
                for row in answer:
                    if row["error"] is not None or row["score"] is None:
                        self.failed.append(f"{row['error']}")
                    else:
                        decided = [f"{m['model']}@{m['version']}" for m in row["members"] if m["weight"] > 0]
                        self.answers.append((epoch, ",".join(decided), 1))
                due += self._interval


def _judge(load: _Load, events: list[dict[str, Any]], changes_from: float) -> Outcome:
    outcome = Outcome(calls=len(load.latencies), failed=load.failed, routes_seen=len(load.routes))
    named = {
        epoch: {f"{m['model']}@{m['version']}" for m in route["members"] if m["version"] < 10_000}
        for epoch, route in load.routes.items()
    }
    refused = {
        f"{MODEL}@{event['told']['version']}" for event in events if "version" in event["told"] and event["kind"] != "swap"
    }
    for epoch, decided, rows in load.answers:
        outcome.rows += rows
        versions = set(decided.split(",")) - {""}
        if not versions or not versions <= named[epoch]:
            outcome.unknown_versions += rows
        outcome.rows_by_version.update(dict.fromkeys(versions, rows))
    outcome.broken_that_served = sorted(refused & set(outcome.rows_by_version))
    for event in events:
        outcome.events[event["kind"].partition(":")[0]] += 1
        if event["kind"].startswith("broken") and event["told"]["refused_by"] is None:
            outcome.broken_that_served.append(event["kind"])
    windows = [(event["from"], event["to"] + AFTERWARDS_SECONDS) for event in events if event["kind"] == "swap"]
    swapping = [took for due, took in load.latencies if any(start <= due < end for start, end in windows)]
    outcome.milliseconds = {
        "before": _quantiles([took for due, took in load.latencies if load.began + WARM_UP_SECONDS <= due < changes_from]),
        "swaps": _quantiles(swapping),
        "all changes": _quantiles([took for due, took in load.latencies if due >= changes_from]),
    }
    return outcome


def _quantiles(seconds: list[float]) -> dict[str, float]:
    told = np.array(seconds or [np.nan]) * 1000
    return {"calls": len(seconds)} | {f"p{q}": round(float(np.percentile(told, q)), 2) for q in (50, 95, 99)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--rate", type=int, default=1_000, help="predictions a second")
    parser.add_argument("--swaps", type=int, default=20)
    parser.add_argument("--weight-changes", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        outcome = run(
            Path(folder) / "live",
            seconds=given.seconds,
            rate=given.rate,
            swaps=given.swaps,
            weight_changes=given.weight_changes,
            seed=given.seed,
        )
    told = outcome.as_json()
    print(json.dumps(told, indent=2))
    if given.json is not None:
        given.json.write_text(json.dumps(told, indent=2) + "\n")
    done = outcome.events == Counter(swap=given.swaps, weights=given.weight_changes, broken=len(BROKEN))
    clean = not outcome.failed and not outcome.unknown_versions and not outcome.broken_that_served
    return 0 if done and clean and outcome.slowdown < 2 else 1


if __name__ == "__main__":
    sys.exit(main())
