"""REST `/predict` beside raw `session.run`, and beside MLServer and BentoML serving the same ONNX file.

    .venv/bin/python benchmarks/serving.py [--json] [--seconds 20] [--only raw headrace ...]

The load generator is a process of its own on the same cores. Paced: 500 single rows a second, latency from the moment a request was
due. Flat out: 32 connections, one row a request. headrace does more for it: every answer is acknowledged by the broker, on
disk, before it is given, and the view `predictions` follows; the peers compute and answer. `headrace_memory` is the same with
its state in memory instead of on the disk, `headrace_v2` the V2 protocol, which records nothing, as the peers.

Peers are measured when they are installed, each in an environment of its own:

    uv venv benchmarks/.venvs/mlserver && uv pip install --python benchmarks/.venvs/mlserver/bin/python mlserver onnxruntime
    uv venv benchmarks/.venvs/bentoml  && uv pip install --python benchmarks/.venvs/bentoml/bin/python bentoml onnxruntime
"""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import json
import multiprocessing
import os
import platform
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnxruntime as ort
from http_load import Load, await_answer, flat_out, http_request, paced

from core.clock import SystemClock
from core.settings import Settings
from headrace.platform import running_platform
from headrace.ports import free_port
from headrace.training import serve
from iceberg.catalog import open_lake
from iceberg.registry import Registry
from learning.tabular import TabularData, train_tabular
from learning.telemetry import CLASSES, FEATURES, load_telemetry, telemetry_rows
from learning.train import TrainedModel, register
from pipelines import deployer, folder

HERE = Path(__file__).parent
HOST = "127.0.0.1"
RATE = 500.0
CONNECTIONS = 32
FIRST = False
DISTINCT = 200  # requests with different rows, sent in turn
CONTENDERS = ("raw", "headrace", "headrace_memory", "headrace_v2", "mlserver", "bentoml")
MEMORY = Path("/dev/shm")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each measurement")
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument(
        "--first", action="store_true", help="take the processors before everybody else, on a machine that is not idle (root)"
    )
    parser.add_argument("--json", action="store_true", help="write benchmarks/results/serving-<date>.json")
    arguments = parser.parse_args()
    global FIRST
    FIRST = arguments.first
    load_before = os.getloadavg()[0]
    trained, rows = forest()
    found: dict[str, object] = {}
    if "raw" in arguments.only:
        found["raw"] = raw(trained.artifact, rows, arguments.seconds)
    for name, path, body, root in (
        ("headrace", "/predict", _predict_body, None),
        ("headrace_memory", "/predict", _predict_body, MEMORY),
        ("headrace_v2", "/v2/models/default/infer", _v2_body, None),
    ):
        if name in arguments.only and (root is None or root.is_dir()):
            found[name] = headrace(trained, rows, arguments.seconds, path, body, root)
    for name, start in (("mlserver", mlserver), ("bentoml", bentoml)):
        if name in arguments.only:
            found[name] = peer(name, start, trained.artifact, rows, arguments.seconds)
    report = {
        "benchmark": "serving", "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"), "cores": os.cpu_count(),
        "machine": platform.machine(), "python": platform.python_version(), "onnxruntime": ort.__version__,
        "load_before": round(load_before, 1), "before_others": FIRST, "seconds": arguments.seconds, "paced_requests_per_second": RATE,
        "flat_out_connections": CONNECTIONS, "model": "random forest, 100 trees of depth 10, 9 features, one row a request",
        "model_bytes": len(trained.artifact), "found": found,
    }  # fmt: skip
    print(json.dumps(report, indent=1))
    if arguments.json:
        (HERE / "results" / f"serving-{report['date'][:10]}.json").write_text(json.dumps(report, indent=1) + "\n")


def come_first(*pids: int) -> None:
    """Give the sessions of processes the highest weight of the scheduler, where that is asked for."""
    for pid in pids if FIRST else ():
        Path(f"/proc/{pid}/autogroup").write_text("-20")
        time.sleep(0.2)  # the kernel takes ten such requests a second


def forest() -> tuple[TrainedModel, np.ndarray]:
    """A forest on the shuttle's sensors, and rows that it never saw, float32[DISTINCT, 9]."""
    loaded = load_telemetry()
    train, kept = telemetry_rows(loaded.train), telemetry_rows(loaded.validate)
    data = TabularData(train.features, train.labels, CLASSES, FEATURES, "")
    trained = train_tabular(data, name="default", source="river.datasets.Shuttle", clock=SystemClock())
    return trained, kept.features[:DISTINCT]


def raw(artifact: bytes, rows: np.ndarray, seconds: float) -> dict[str, object]:
    """`session.run` on one row after the other, in this process."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(artifact, options, providers=["CPUExecutionProvider"])
    spent: list[float] = []
    begun = time.perf_counter()
    while time.perf_counter() - begun < seconds / 4:
        for row in rows:
            since = time.perf_counter()
            session.run(["probabilities"], {"features": row[None]})
            spent.append(time.perf_counter() - since)
    load = Load(spent, lasted_seconds=time.perf_counter() - begun)
    load.statuses[200] = len(spent)
    return {"flat_out": load.report()}


def headrace(
    trained: TrainedModel, rows: np.ndarray, seconds: float, path: str, body: Callable[[np.ndarray], object], root: Path | None
) -> dict[str, object]:
    """The whole platform: broker, stream database with pipeline `online`, UDF server, API.

    Args:
        root: where the state lies; a folder in memory shows what is left without a disk.
    """
    with tempfile.TemporaryDirectory(prefix="headrace-serving-", dir=root) as state:
        settings = Settings.model_validate(
            {
                "data_dir": Path(state),
                "kafka": f"{HOST}:0",
                "database_url": f"postgresql://root@{HOST}:0/dev",
                "udf_url": f"http://{HOST}:0",
                "api_port": 0,
                "engine": {"metrics_port": 0},
                "v2_grpc_port": 0,
            }
        )
        with running_platform(settings, dict(os.environ)) as running:
            settings = running.settings
            catalog = open_lake(settings)
            (version,) = register(Registry(catalog, settings.resolved_warehouse), [trained])["default"]  # type: ignore[arg-type]
            deployer.apply(settings.database_url, folder.find(["online"]), deployer.variables(settings))
            serve(settings, tenant="default", endpoint="default", model="default", version=version)
            come_first(*(running.supervisor.pid(spec.name) for spec in running.supervisor.specs))
            requests = [http_request(HOST, settings.api_port, path, json.dumps(body(row)).encode()) for row in rows]
            return measure(settings.api_port, requests, seconds)


def peer(name: str, start: object, artifact: bytes, rows: np.ndarray, seconds: float) -> dict[str, object]:
    """A peer in its own environment; `skipped` where that is not there."""
    python = HERE / ".venvs" / name / "bin" / "python"
    if not python.exists():
        return {"skipped": f"{python.relative_to(HERE.parent)} is not there"}
    with tempfile.TemporaryDirectory(prefix=f"{name}-") as folder_name:
        place = Path(folder_name)
        (place / "model.onnx").write_bytes(artifact)
        assert callable(start)
        with start(python, place) as (port, path, body, pid):
            requests = [http_request(HOST, port, path, json.dumps(body(row)).encode()) for row in rows]
            await_answer(HOST, port, requests[0])
            come_first(pid)
            versions = subprocess.run(
                [python, "-c", f"from importlib.metadata import version; print(version('{name}'), version('onnxruntime'))"],
                capture_output=True, text=True, check=True,
            ).stdout.split()  # fmt: skip
            return {"version": versions[0], "onnxruntime": versions[1], **measure(port, requests, seconds)}


@contextmanager
def mlserver(python: Path, place: Path) -> Iterator[tuple[int, str, object, int]]:
    """MLServer without worker processes: for one row they cost more than they bring."""
    ports = [free_port(HOST) for _ in range(3)]
    settings = dict(zip(("http_port", "grpc_port", "metrics_port"), ports, strict=True)) | {
        "host": HOST,
        "parallel_workers": 0,
        "debug": False,
    }
    (place / "settings.json").write_text(json.dumps(settings))
    model = {
        "name": "default",
        "implementation": "mlserver_runtime.OnnxModel",
        "parameters": {"uri": str(place / "model.onnx")},
    }
    (place / "model-settings.json").write_text(json.dumps(model))
    with _process([python.parent / "mlserver", "start", str(place)], place) as pid:
        yield ports[0], "/v2/models/default/infer", _v2_body, pid


@contextmanager
def bentoml(python: Path, place: Path) -> Iterator[tuple[int, str, object, int]]:
    """BentoML with one worker, as its service asks for."""
    port = free_port(HOST)
    command = [python, "-m", "bentoml", "serve", "bentoml_service:Forest", "--host", HOST, "--port", str(port)]
    with _process(command, place) as pid:
        yield port, "/predict", _predict_body, pid


@contextmanager
def _process(command: list[object], place: Path) -> Iterator[int]:
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(place),
        "PYTHONPATH": str(HERE / "peers"),
        "MODEL_FILE": str(place / "model.onnx"),
        "BENTOML_DO_NOT_TRACK": "True",
        "BENTOML_HOME": str(place / "bentoml"),
    }
    with (place / "log").open("wb") as log:
        process = subprocess.Popen(
            [str(part) for part in command], env=environ, cwd=HERE / "peers", stdout=log, stderr=log, start_new_session=True
        )
        try:
            yield process.pid
        except TimeoutError as problem:
            raise TimeoutError(f"{problem}\n{(place / 'log').read_text()[-2000:]}") from problem
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def measure(port: int, requests: list[bytes], seconds: float) -> dict[str, object]:
    """Warm up, then paced, then flat out; the generator runs in another process."""
    await_answer(HOST, port, requests[0])
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        pool.apply(_flat_out, (port, requests, 3.0, FIRST))
        return {
            "paced": pool.apply(_paced, (port, requests, seconds, FIRST)),
            "flat_out": pool.apply(_flat_out, (port, requests, seconds, FIRST)),
        }


def _paced(port: int, requests: list[bytes], seconds: float, first: bool) -> dict[str, object]:
    global FIRST
    FIRST = first
    come_first(os.getpid())
    return _run(paced(HOST, port, requests, rate=RATE, seconds=seconds)).report()


def _flat_out(port: int, requests: list[bytes], seconds: float, first: bool) -> dict[str, object]:
    global FIRST
    FIRST = first
    come_first(os.getpid())
    return _run(flat_out(HOST, port, requests, seconds=seconds, connections=CONNECTIONS)).report()


def _run(coroutine: object) -> Load:
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(coroutine)  # type: ignore[arg-type, no-any-return]


def _predict_body(row: np.ndarray) -> dict[str, object]:
    return {"features": [row.tolist()]}


def _v2_body(row: np.ndarray) -> dict[str, object]:
    return {"inputs": [{"name": "features", "shape": [1, len(row)], "datatype": "FP32", "data": row.tolist()}]}


if __name__ == "__main__":
    main()
