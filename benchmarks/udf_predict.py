"""What `predict` adds to the model: CPU time per row, in the process and over Arrow Flight, beside `session.run` alone.

    .venv/bin/python benchmarks/udf_predict.py            prints one JSON document

CPU time of all threads, client and server in one process, so that a busy machine does not count; the least of some rounds.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
from arrow_udf import JsonType

from learning.models.trees import fit_random_forest
from learning.plant import CLASSES, simulate_plant
from learning.plant_features import labelled_features
from learning.train import plant_rows, train_plant
from udfs.client import UdfClient
from udfs.predict import predict
from udfs.route import ModelKey
from udfs.server import build_server
from udfs.sessions import LoadedModel, ModelSessions

ROUNDS, SECONDS = 5, 0.4


class Artifacts:
    """Models in memory: `boosting`, `echo_state` and `forest` (100 trees of depth 10), version 1 each."""

    def __init__(self) -> None:
        boosting, echo_state = train_plant()
        replay = simulate_plant(3, datetime(2026, 1, 1, tzinfo=UTC), timedelta(hours=1))
        self.rows = plant_rows(labelled_features(replay.events, replay.truth))
        forest = fit_random_forest(self.rows.features, self.rows.labels, CLASSES, positive="faulty", seed=0, trees=100)
        self.stored = {"boosting": boosting.artifact, "echo_state": echo_state.artifact, "forest": forest.to_onnx()}

    def load_artifact(self, name: str, version: int) -> bytes:
        assert version == 1
        return self.stored[name]


def main() -> None:
    artifacts = Artifacts()
    found = [
        measure(artifacts, members, batch)
        for members in (("boosting",), ("boosting", "echo_state"), ("forest",))
        for batch in (1, 64, 1024)
    ]
    print(json.dumps({"processors": os.cpu_count(), "load": os.getloadavg()[0], "microseconds_per_row": found}, indent=2))


def measure(artifacts: Artifacts, members: tuple[str, ...], batch: int) -> dict[str, object]:
    """One route with equal weights, one batch size."""
    features = artifacts.rows.features[:batch]
    listed = [{"model": name, "version": 1, "role": "champion", "weight": 1.0} for name in members]
    routes = pa.array([json.dumps({"strategy": "ensemble_mean", "members": listed})] * batch)
    keys = pa.array([f"pump-{i % 12:02d}" for i in range(batch)])
    vectors = pa.array(features.astype(float).tolist(), pa.list_(pa.float64()))
    sessions = ModelSessions(artifacts)
    models = [model for name in members if isinstance(model := sessions.get(ModelKey(name, 1)), LoadedModel)]
    raw = cpu(lambda: [model.probabilities(features) for model in models], batch)
    inside = cpu(lambda: predict(routes, keys, vectors, sessions), batch)
    server = build_server(artifacts, port=0)
    json_routes = pa.ExtensionArray.from_storage(JsonType(), routes)
    arguments = pa.RecordBatch.from_arrays([json_routes, keys, vectors], names=["route", "key", "features"])
    with UdfClient(f"http://127.0.0.1:{server.port}") as client:
        wire = cpu(lambda: client.call("predict", arguments), batch)
    server.drain_and_stop(1.0)
    return {
        "models": members,
        "batch": batch,
        "session_run": round(raw, 2),
        "predict": round(inside, 2),
        "flight": round(wire, 2),
        "predict_over_session_run": round(inside / raw, 2),
    }


def cpu(call: Callable[[], object], rows: int) -> float:
    """Microseconds of CPU per row, the least of some rounds."""
    call()
    rounds = []
    for _ in range(ROUNDS):
        calls, begun = 0, time.process_time()
        while (spent := time.process_time() - begun) < SECONDS / ROUNDS:
            call()
            calls += 1
        rounds.append(spent / calls / rows * 1e6)
    return float(np.min(rounds))


if __name__ == "__main__":
    main()
