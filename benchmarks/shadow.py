"""What a shadow at 100 % does to the calls that are served: p99 with and without it, in turns.

    .venv/bin/python benchmarks/shadow.py --json        writes results/shadow-<date>.json and prints it

A UDF server in a process of its own answers calls of 32 rows at a fixed rate (open loop: a late answer does not slow the next
call down). The champion is a gradient boosting, the shadow a forest of 100 trees of depth 10, which costs more than it. A block
without the shadow and one with it are a pair, in changing order, so that a busy machine counts for both; the third arm asks
the forest within the row, as a member of the ensemble. The interval is a bootstrap over pairs.

On a machine with other work no p99 can be measured. `--realtime` (Linux, root) gives server and client real-time priority, which
other work cannot take a processor from, and the shadows' process normal priority instead of the idle one, so that it gets its
share beside that work: to the server it is what it always is, somebody who runs on what the server leaves.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
from arrow_udf import JsonType

from core.errors import NotFoundError
from learning.models.trees import fit_random_forest
from learning.plant import CLASSES, simulate_plant
from learning.plant_features import labelled_features
from learning.train import plant_rows, train_plant
from udfs.client import UdfClient
from udfs.server import serve as serve_functions
from udfs.shadows import ShadowAnswer, ShadowLane, ShadowPlan

ROWS, CALLS, WARM_UP = 32, 150, 100
ARMS = ("alone", "shadow", "in_the_row")
RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class FolderSource:
    """Artifacts as files."""

    folder: Path

    def load_artifact(self, name: str, version: int) -> bytes:
        file = self.folder / f"{name}@{version}.onnx"
        if not file.exists():
            raise NotFoundError(f"model version `{name}@{version}` is not registered")
        return file.read_bytes()


class Nowhere:
    """Takes answers and drops them: what a broker costs is no part of this."""

    def write(self, answers: Sequence[ShadowAnswer]) -> None:
        pass

    def close(self) -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="write the dated document too")
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--rate", type=float, default=75.0, help="calls a second")
    parser.add_argument("--realtime", action="store_true", help="server and client at real-time priority")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve is not None:
        serve(given.serve, realtime=given.realtime)
        return
    with tempfile.TemporaryDirectory() as place:
        rows = store_models(Path(place))
        command = [sys.executable, __file__, "--serve", place, *(["--realtime"] if given.realtime else [])]
        if given.realtime:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))  # the server inherits it
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            try:
                document = measure(int(server.stdout.readline()), rows, given.pairs, given.rate)
                document["realtime"] = given.realtime
            finally:
                server.terminate()
    if given.json:
        file = RESULTS / f"shadow-{datetime.now(UTC):%Y-%m-%d}.json"
        file.write_text(json.dumps(document, indent=2) + "\n")
    print(json.dumps(document, indent=2))


def store_models(place: Path) -> np.ndarray:
    """Train both models; returns rows to ask about, float32[n, 7]."""
    boosting, _ = train_plant()
    replay = simulate_plant(3, datetime(2026, 1, 1, tzinfo=UTC), timedelta(hours=1))
    rows = plant_rows(labelled_features(replay.events, replay.truth))
    forest = fit_random_forest(rows.features, rows.labels, CLASSES, positive="faulty", seed=0, trees=100)
    (place / "boosting@1.onnx").write_bytes(boosting.artifact)
    (place / "forest@1.onnx").write_bytes(forest.to_onnx())
    return rows.features


def open_at_normal_priority(place: Path) -> FolderSource:
    """What the shadows' process opens with `--realtime`, after it has stepped back."""
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    return FolderSource(place)


def serve(place: Path, *, realtime: bool) -> None:
    """The server's process: prints its port and serves until it is ended."""
    lane = ShadowLane(ShadowPlan(partial(open_at_normal_priority if realtime else FolderSource, place), Nowhere))

    def ready(port: int) -> None:
        print(port, flush=True)

    serve_functions(FolderSource(place), host="127.0.0.1", port=0, threads=2, shadows=lane, on_ready=ready)


def measure(port: int, rows: np.ndarray, pairs: int, rate: float) -> dict[str, object]:
    """All blocks; seconds of every call by arm and pair."""
    seconds: dict[str, list[np.ndarray]] = {arm: [] for arm in ARMS}
    with UdfClient(f"http://127.0.0.1:{port}") as client, ThreadPoolExecutor(16) as threads:
        for arm in ARMS:
            block(client, threads, arm, rows, rate, WARM_UP)
        before = client.health()["shadows"]
        for pair in range(pairs):
            order = ARMS if pair % 2 else tuple(reversed(ARMS))
            for arm in order:
                seconds[arm].append(block(client, threads, arm, rows, rate, CALLS))
        after = client.health()["shadows"]
    figures = {arm: quantiles(np.concatenate(each)) for arm, each in seconds.items()}
    return {
        "recorded": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"processors": os.cpu_count(), "load": round(os.getloadavg()[0], 1), "python": platform.python_version()},
        "calls": {"rows": ROWS, "a_second": rate, "an_arm": pairs * CALLS},
        "milliseconds": figures,
        "p99_with_shadow": ratio(seconds["shadow"], seconds["alone"], 0.99),
        "p50_with_shadow": ratio(seconds["shadow"], seconds["alone"], 0.5),
        "p99_in_the_row": ratio(seconds["in_the_row"], seconds["alone"], 0.99),
        "shadow_rows": {name: after[name] - before[name] for name in ("offered", "answered", "shed")},
    }


def block(client: UdfClient, threads: ThreadPoolExecutor, arm: str, rows: np.ndarray, rate: float, calls: int) -> np.ndarray:
    """Seconds from when a call was due to its answer: float64[calls]."""
    arguments = batch_of(arm, rows)
    begun = time.perf_counter() + 0.05

    def call(i: int) -> float:
        due = begun + i / rate
        time.sleep(max(0.0, due - time.perf_counter()))
        client.call("predict", arguments)
        return time.perf_counter() - due

    return np.array(list(threads.map(call, range(calls))))


def batch_of(arm: str, rows: np.ndarray) -> pa.RecordBatch:
    forest = {
        "alone": [],
        "shadow": [{"model": "forest", "version": 1, "role": "shadow", "weight": 0.0, "fraction": 1.0}],
        "in_the_row": [{"model": "forest", "version": 1, "role": "champion", "weight": 1e-9, "fraction": None}],
    }[arm]
    champion = {"model": "boosting", "version": 1, "role": "champion", "weight": 1.0, "fraction": None}
    route = json.dumps({"strategy": "ensemble_mean", "members": [champion, *forest]})
    routes = pa.ExtensionArray.from_storage(JsonType(), pa.array([route] * ROWS))
    keys = pa.array([f"pump-{i % 12:02d}" for i in range(ROWS)])
    vectors = pa.array(rows[:ROWS].astype(float).tolist(), pa.list_(pa.float64()))
    return pa.RecordBatch.from_arrays([routes, keys, vectors], names=["route", "key", "features"])


def quantiles(seconds: np.ndarray) -> dict[str, float]:
    return {f"p{int(q * 100)}": round(float(np.quantile(seconds, q)) * 1e3, 2) for q in (0.5, 0.9, 0.99)}


def ratio(arm: list[np.ndarray], reference: list[np.ndarray], q: float) -> dict[str, object]:
    """The quantile of an arm over the reference's, of all calls with an interval of 90 % by drawing pairs anew, and the middle
    one of the pairs' own ratios, which a burst of other work on the machine does not move.
    """
    lot = np.random.default_rng(0)

    def of(chosen: np.ndarray) -> float:
        one, other = (np.quantile(np.concatenate([each[i] for i in chosen]), q) for each in (arm, reference))
        return float(one / other)

    drawn = [of(lot.integers(0, len(arm), len(arm))) for _ in range(500)]
    return {
        "ratio": round(of(np.arange(len(arm))), 3),
        "middle_pair": round(
            float(np.median([np.quantile(a, q) / np.quantile(b, q) for a, b in zip(arm, reference, strict=True)])), 3
        ),
        "interval_90": [round(float(np.quantile(drawn, each)), 3) for each in (0.05, 0.95)],
    }


if __name__ == "__main__":
    main()
