"""The short form of `tests.chaos.udfs.live`, and restarts of the server under calls."""

from __future__ import annotations

import json
import threading
from collections import Counter
from pathlib import Path

import pyarrow.flight as flight

from tests.chaos.udfs import live
from tests.chaos.udfs.operator import BROKEN
from tests.chaos.udfs.processes import UdfProcess, linear_model, linear_weights, open_registry, register, route_of
from tests.services.kafka import wait_until
from udfs.client import UdfClient


def test_swaps_weight_changes_and_broken_models_fail_no_call_and_leave_no_version_unknown(tmp_path: Path) -> None:
    outcome = live.run(tmp_path / "live", seconds=16.0, rate=300, swaps=3, weight_changes=6)
    print(json.dumps(outcome.as_json(), indent=2))
    assert outcome.events == Counter(swap=3, weights=6, broken=len(BROKEN))
    assert outcome.failed == []
    assert outcome.rows == outcome.calls * live.ROWS > 1_000
    assert outcome.unknown_versions == 0
    assert outcome.broken_that_served == []
    assert len(outcome.rows_by_version) >= 3, "versions that took the first one's place answered"


def test_a_restart_is_a_call_that_took_longer(tmp_path: Path) -> None:
    route = route_of("sick", register(open_registry(tmp_path), "sick", linear_model(linear_weights(0))))
    udf = UdfProcess(tmp_path)
    udf.start()
    stop, failed, answered = threading.Event(), [], Counter[str]()

    def ask() -> None:
        with UdfClient(udf.url, patience_seconds=120.0) as client:
            while not stop.is_set():
                try:
                    (row,) = client.predict([route], ["k"], [[1.0, 2.0, 3.0, 4.0]]).to_pylist()
                    answered[str((row["score"], row["error"]))] += 1
                except flight.FlightError as problem:
                    failed.append(problem)

    callers = [threading.Thread(target=ask) for _ in range(3)]
    for caller in callers:
        caller.start()
    try:
        for _ in range(2):
            before = answered.total()
            wait_until(lambda before=before: answered.total() > before + 20, 60, "no answers")  # type: ignore[misc]
            assert udf.stop() == 0
            udf.start()
        before = answered.total()
        wait_until(lambda: answered.total() > before + 20, 60, "no answers")
    finally:
        stop.set()
        for caller in callers:
            caller.join()
        udf.stop()
    assert failed == []
    assert len(answered) == 1, "the same answer before and after"
