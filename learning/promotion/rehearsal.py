"""A UDF server of its own on loopback that serves one candidate: the real path of a prediction, without the real traffic.

What is measured there is the whole way: Arrow Flight, `predict`, route, session. Nothing that serves is touched.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from core.errors import HeadraceError, NotFoundError
from udfs.artifact import Signature, read_background, read_signature
from udfs.client import UdfClient
from udfs.server import build_server

_WARM_CALLS = 5
_START_SECONDS = 30.0
_BATCH = 1024


@dataclass(frozen=True)
class OneArtifact:
    """A source of artifacts that knows one version."""

    name: str
    version: int
    artifact: bytes

    def load_artifact(self, name: str, version: int) -> bytes:
        if (name, version) != (self.name, self.version):
            raise NotFoundError(f"`{name}@{version}` is not rehearsed here")
        return self.artifact


@dataclass(frozen=True)
class Latencies:
    """Of single rows, milliseconds; `errors` are calls or rows that failed."""

    p50_ms: float
    p95_ms: float
    p99_ms: float
    longest_ms: float
    calls: int
    errors: int
    calls_per_second: float

    @staticmethod
    def of(seconds: Sequence[float], calls: int, elapsed: float) -> Latencies:
        """Of the calls that were answered; without any, everything is infinitely late."""
        told = np.array(seconds or [np.inf]) * 1000
        p50, p95, p99 = (float(np.quantile(told, share)) for share in (0.5, 0.95, 0.99))
        return Latencies(p50, p95, p99, float(told.max()), calls, calls - len(seconds), calls / elapsed if elapsed else 0.0)


class Rehearsal:
    """Predicts with the candidate; made by `rehearsing`."""

    def __init__(self, client: UdfClient, url: str, source: OneArtifact, signature: Signature) -> None:
        self._client, self._url, self._source = client, url, source
        member = {"model": source.name, "version": source.version, "role": "champion", "weight": 1.0}
        self._route = json.dumps({"strategy": "ensemble_mean", "members": [member]})
        self.signature = signature
        background = read_background(source.artifact, signature, name=source.name)
        self.samples = background if background is not None else np.zeros((1, signature.n_features), np.float32)

    def predict(self, rows: npt.NDArray[np.float32], client: UdfClient | None = None) -> list[dict[str, Any]]:
        """The answers of `predict`, one a row; raises what the client raises."""
        features: list[list[float | None] | None] = [[float(value) for value in row] for row in rows]
        answers: list[dict[str, Any]] = (
            (client or self._client)
            .predict([self._route] * len(rows), [str(i) for i in range(len(rows))], features)
            .to_pylist()
        )
        return answers

    def probabilities(self, rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """All classes' probabilities, by function `infer` of the same server: float64[rows, classes].

        Raises:
            HeadraceError: a row has none.
        """
        parts = []
        for start in range(0, len(rows), _BATCH):
            part = rows[start : start + _BATCH]
            features = pa.FixedSizeListArray.from_arrays(pa.array(part.ravel(), pa.float64()), part.shape[1]).cast(
                pa.list_(pa.float64())
            )
            names = pa.array([self._source.name] * len(part))
            versions = pa.array([self._source.version] * len(part), pa.int32())
            batch = pa.RecordBatch.from_pydict({"model": names, "version": versions, "features": features})
            answers = self._client.call("infer", batch)
            failed = answers.field("error").drop_null()
            if len(failed):
                raise HeadraceError(f"{len(failed)} of {len(part)} rows are not answered: {failed[0].as_py()}")
            parts.append(answers.field("probabilities").flatten().to_numpy().reshape(len(part), -1).astype(np.float64))
        return np.concatenate(parts)

    def measure(self, calls: int) -> Latencies:
        """Single rows, one after the other, after some that do not count."""
        for i in range(_WARM_CALLS):
            self.predict(self._sample(i))
        begun = time.perf_counter()
        seconds = self._calls(self._client, calls)
        return Latencies.of(seconds, calls, time.perf_counter() - begun)

    def press(self, concurrency: int, requests: int) -> Latencies:
        """Single rows from so many clients at once, each with a connection of its own."""
        lock = threading.Lock()
        seconds: list[float] = []
        shares = [requests // concurrency + (i < requests % concurrency) for i in range(concurrency)]
        together = threading.Barrier(concurrency + 1, timeout=_START_SECONDS)

        def ask(share: int) -> None:
            with UdfClient(self._url) as client:
                together.wait()
                mine = self._calls(client, share)
            with lock:
                seconds.extend(mine)

        threads = [threading.Thread(target=ask, args=(share,), daemon=True) for share in shares]
        for thread in threads:
            thread.start()
        together.wait()
        begun = time.perf_counter()
        for thread in threads:
            thread.join()
        return Latencies.of(seconds, requests, time.perf_counter() - begun)

    def _calls(self, client: UdfClient, calls: int) -> list[float]:
        """The seconds of each call that was answered without an error."""
        seconds = []
        for i in range(calls):
            row = self._sample(i)
            begun = time.perf_counter()
            try:
                answered = self.predict(row, client)[0]["error"] is None
            except Exception:  # noqa: BLE001  Flight's errors share no base class with ours; what is missing is counted
                answered = False
            if answered:
                seconds.append(time.perf_counter() - begun)
        return seconds

    def _sample(self, i: int) -> npt.NDArray[np.float32]:
        at = i % len(self.samples)
        return self.samples[at : at + 1]


@contextmanager
def rehearsing(source: OneArtifact, *, threads: int = 2) -> Iterator[Rehearsal]:
    """Serve a candidate, and stop at the end.

    Raises:
        HeadraceError: the artifact cannot be served.
    """
    signature = read_signature(source.artifact, name=f"{source.name}@{source.version}")
    server = build_server(source, port=0, threads=threads)
    url = f"http://127.0.0.1:{server.port}"
    try:
        with UdfClient(url) as client:
            answer = client.load_model(source.name, source.version)
            if not answer["ready"]:
                raise HeadraceError(f"the UDF runtime refuses the model: {answer['message'].rstrip('.')}")
            yield Rehearsal(client, url, source, signature)
    finally:
        server.drain_and_stop(1.0)
        server.close_functions()
