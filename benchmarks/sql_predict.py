"""`predict` through SQL beside `session.run` alone: rows a second, same model, same rows, batches of 1,024.

    .venv/bin/python benchmarks/sql_predict.py [--rows 200000]          prints one JSON document

    raw            session.run in this process, one thread, 1,024 rows a call
    raw x threads  the same on as many threads as the UDF server has
    query          SELECT ... predict(...) FROM a table of the engine
    view           CREATE MATERIALIZED VIEW over that table, until it is there
    flight         UdfClient.call, 1,024 rows a call

Engine and UDF server are processes of their own, as `headrace dev` starts them. The best of some rounds. Beside the rows a second
stand microseconds of processor time a row (user and system, all threads, engine and UDF server together), which other work on
the machine does not change: two free processors give `2 x raw cpu / sql cpu` of the raw rows a second, as long as both are busy.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
from arrow_udf import JsonType

from core.settings import EngineSettings
from learning.labelled import LabelledRows
from learning.models.trees import fit_gradient_boosting, fit_random_forest
from learning.plant import CLASSES, simulate_plant
from learning.plant_features import labelled_features
from learning.train import plant_rows
from tests.chaos.engine.processes import EngineProcess, query
from tests.chaos.udfs.processes import UdfProcess, open_registry, register, route_of
from udfs.client import UdfClient
from udfs.runtime import build_session

BATCH, ROUNDS = 1024, 3
PREDICT = (
    "CREATE FUNCTION predict(route JSONB, key VARCHAR, features DOUBLE PRECISION[])"
    " RETURNS STRUCT<label VARCHAR, score DOUBLE PRECISION, members JSONB, error JSONB> AS predict USING LINK '{url}'"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    rows = parser.parse_args().rows
    trained = _plant_rows()
    models = {
        "boosting, 60 trees of depth 3": fit_gradient_boosting(
            trained.features, trained.labels, CLASSES, positive="faulty", seed=0
        ).to_onnx(),
        "forest, 100 trees of depth 10": fit_random_forest(
            trained.features, trained.labels, CLASSES, positive="faulty", seed=0, trees=100
        ).to_onnx(),
    }
    features = np.resize(trained.features, (rows, trained.features.shape[1])).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), models, features)
    print(json.dumps({"processors": os.cpu_count(), "load": os.getloadavg()[0], "rows": rows, "models": found}, indent=2))


def measure(folder: Path, models: dict[str, bytes], features: np.ndarray) -> dict[str, dict[str, dict[str, float]]]:
    (folder / "data").mkdir()
    registry = open_registry(folder / "data")
    versions = {name: register(registry, "benchmark", artifact) for name, artifact in models.items()}
    engine = EngineProcess(folder / "engine", settings=EngineSettings(metrics_port=None))
    udf = UdfProcess(folder / "data")
    engine.start()
    udf.start()
    assert engine.await_port()
    try:
        with engine.connect() as connection, UdfClient(udf.url) as client:
            connection.execute(PREDICT.format(url=udf.url).encode())
            connection.execute("CREATE TABLE readings (id INT PRIMARY KEY, key VARCHAR, features DOUBLE PRECISION[])")
            with connection.cursor() as cursor, cursor.copy("COPY readings (id, key, features) FROM STDIN") as copy:
                for number, row in enumerate(features.astype(float).tolist()):
                    copy.write_row((number, f"pump-{number % 12:02d}", row))
            connection.execute("FLUSH")
            threads = client.health()["threads"]
            found = {}
            for name, artifact in models.items():
                route = route_of("benchmark", versions[name])
                client.load_model("benchmark", versions[name])
                call = f"predict('{route}'::JSONB, key, features)"

                def by_query(call: str = call) -> None:
                    sql = f"SELECT count(*)::INT, sum((p).score) FROM (SELECT {call} AS p FROM readings) AS answers"
                    ((count, _),) = query(connection, sql)
                    assert count == len(features)

                def by_view(call: str = call) -> None:
                    connection.execute(
                        f"CREATE MATERIALIZED VIEW answers AS SELECT id, (p).label AS label, (p).score AS score, (p).members AS members,"
                        f" (p).error AS error FROM (SELECT id, {call} AS p FROM readings) AS answered".encode()
                    )
                    assert query(connection, "SELECT count(*)::INT FROM answers") == [(len(features),)]

                def drop() -> None:
                    connection.execute("DROP MATERIALIZED VIEW IF EXISTS answers")

                parts = [features[start : start + BATCH] for start in range(0, len(features), BATCH)]
                sessions = [build_session(artifact) for _ in range(threads)]

                def raw(sessions: list = sessions, parts: list = parts) -> None:
                    for part in parts:
                        sessions[0].run(["probabilities"], {"features": part})

                def raw_on_threads(sessions: list = sessions, parts: list = parts) -> None:
                    def work(number: int) -> None:
                        for part in parts[number :: len(sessions)]:
                            sessions[number].run(["probabilities"], {"features": part})

                    with ThreadPoolExecutor(len(sessions)) as pool:
                        list(pool.map(work, range(len(sessions))))

                batches = [_arguments(route, part) for part in parts]

                def by_flight(batches: list = batches) -> None:
                    for batch in batches:
                        client.call("predict", batch)

                assert engine.process is not None
                assert engine.process.pid is not None
                both = (engine.process.pid, udf.pid)
                ways: dict[str, tuple[Callable[[], None], tuple[int, ...]]] = {
                    "raw": (raw, (os.getpid(),)),
                    f"raw x {threads}": (raw_on_threads, (os.getpid(),)),
                    "flight": (by_flight, (os.getpid(), udf.pid)),
                    "query": (by_query, both),
                    "view": (by_view, both),
                }
                measured = {way: _measured(call, len(features), pids, drop) for way, (call, pids) in ways.items()}
                drop()
                rate, cpu = measured["raw"]
                found[name] = {
                    "rows_per_second": {way: rows for way, (rows, _) in measured.items()},
                    "cpu_microseconds_per_row": {way: used for way, (_, used) in measured.items()},
                    "over_raw": {way: round(measured[way][0] / rate, 2) for way in ("flight", "query", "view")},
                    "over_raw_on_two_free_processors": {
                        way: round(2 * cpu / measured[way][1], 2) for way in ("query",) if measured[way][1]
                    },
                }
        return found
    finally:
        udf.stop()
        engine.stop()


def _plant_rows() -> LabelledRows:
    replay = simulate_plant(3, datetime(2026, 1, 1, tzinfo=UTC), timedelta(hours=1))
    return plant_rows(labelled_features(replay.events, replay.truth))


def _arguments(route: str, features: np.ndarray) -> pa.RecordBatch:
    n = len(features)
    routes = pa.ExtensionArray.from_storage(JsonType(), pa.array([route] * n))
    keys = pa.array([f"pump-{i % 12:02d}" for i in range(n)])
    vectors = pa.array(features.astype(float).tolist(), pa.list_(pa.float64()))
    return pa.RecordBatch.from_arrays([routes, keys, vectors], names=["route", "key", "features"])


def _measured(call: Callable[[], None], rows: int, pids: tuple[int, ...], before: Callable[[], None]) -> tuple[float, float]:
    """Rows a second, and microseconds of processor time a row: each the best of some rounds."""
    rates, used = [], []
    for _ in range(ROUNDS):
        before()
        begun, spent = time.perf_counter(), sum(map(_cpu_seconds, pids))
        call()
        rates.append(rows / (time.perf_counter() - begun))
        used.append((sum(map(_cpu_seconds, pids)) - spent) / rows * 1e6)
    return round(max(rates)), round(min(used), 2)


def _cpu_seconds(pid: int) -> float:
    """Processor time that a process took so far; 0 where there is no /proc."""
    path = Path(f"/proc/{pid}/stat")
    if not path.exists():
        return 0.0
    fields = path.read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
