"""The UDF server as a process of its own on a real registry, and small models to put into it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow.flight as flight
from onnx import helper

from headrace.ports import accepts_connections, free_port
from iceberg.catalog import open_catalog
from iceberg.registry import Registry
from learning.models.kind import build_graph
from tests.services.kafka import wait_until
from udfs.client import UdfClient

HOST = "127.0.0.1"
START_SECONDS = 90.0
STOP_SECONDS = 30.0
WIDTH = 4
CLASSES = ("no", "yes")


@dataclass
class UdfProcess:
    """`headrace serve udf` on a data folder; the port stays the same over restarts."""

    folder: Path
    functions: Path | None = None
    port: int = field(default_factory=lambda: free_port(HOST))
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    _hold: int | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self) -> None:
        """Start it and wait until it is ready."""
        self.launch()
        wait_until(self._is_ready, START_SECONDS, "the UDF server is not ready")

    def launch(self) -> None:
        """Start it and do not wait."""
        lifeline, self._hold = os.pipe()  # our end closes when we die, however that happens
        command = [sys.executable, "-m", "headrace", "--log-level", "error", "serve", "udf", "--listen", f"{HOST}:{self.port}"]
        command += ["--data-dir", str(self.folder), "--lifeline", str(lifeline)]
        command += ["--functions", str(self.functions)] if self.functions else []
        with (self.folder / "udf.log").open("ab") as log:
            self.process = subprocess.Popen(command, pass_fds=(lifeline,), stdout=log, stderr=log)
        os.close(lifeline)

    def kill(self) -> None:
        """SIGKILL: nobody is told."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(STOP_SECONDS)
        self._let_go()

    def stop(self) -> int:
        """SIGTERM: it drains. Returns the exit status."""
        assert self.process is not None
        self.process.terminate()
        status = self.process.wait(STOP_SECONDS)
        self._let_go()
        return status

    def _let_go(self) -> None:
        if self._hold is not None:
            os.close(self._hold)
            self._hold = None

    def _is_ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "udf.log").read_text()[-2000:]
        if not accepts_connections(HOST, self.port):
            return False
        with UdfClient(self.url, timeout_seconds=5.0) as client:
            try:
                return bool(client.ready()["ready"])
            except flight.FlightUnavailableError:
                return False


def open_registry(folder: Path) -> Registry:
    """The registry that `headrace serve udf --data-dir FOLDER` reads."""
    warehouse = str((folder / "warehouse").absolute())
    return Registry(open_catalog("jdbc", f"jdbc:sqlite:{(folder / 'catalog.db').absolute()}", warehouse), warehouse)


def linear_weights(seed: int) -> np.ndarray:
    """float32[WIDTH, classes]."""
    return np.random.default_rng(seed).normal(size=(WIDTH, len(CLASSES))).astype(np.float32)


def linear_model(weights: np.ndarray) -> bytes:
    """softmax(features @ weights)."""
    nodes = [
        helper.make_node("MatMul", ["features", "weights"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    return build_graph("linear", nodes, {"weights": weights}, n_features=WIDTH, classes=CLASSES, positive="yes")


def register(registry: Registry, name: str, artifact: bytes) -> int:
    """Register a model; returns its version."""
    version = registry.register(
        name, artifact, kind="linear", metrics={}, tags={}, training_data={}, code_hash="test", duration=timedelta(0)
    )
    return version.version


def route_of(model: str, version: int) -> str:
    """A route with one champion."""
    member = {"model": model, "version": version, "role": "champion", "weight": 1.0, "fraction": None}
    return json.dumps({"strategy": "ensemble_mean", "members": [member]})


def expected_scores(weights: np.ndarray, features: np.ndarray) -> np.ndarray:
    """What the linear model answers, by NumPy: float64[rows]."""
    logits = features.astype(np.float32) @ weights
    powers = np.exp(logits - logits.max(axis=1, keepdims=True)).astype(np.float64)
    scores: np.ndarray = powers[:, 1] / powers.sum(axis=1)
    return scores
