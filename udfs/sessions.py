"""ONNX sessions by `name@version`: loaded beside those that serve, checked, warmed, then shared.

A version is immutable, so a loaded session never goes stale. A version that cannot be served (unknown, a pickle, corrupt)
is a fact about the route and comes back as a typed failure; a registry that does not answer now is no fact about any row,
so that exception passes through and the caller tries again.

One thread budget holds for all sessions: each runs on the calling thread alone (its sums then have one order, whatever the
load), and at most `threads` calls run at a time. Memory is bounded for all of them, and time for each call (`udfs.runtime`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from core.clock import Clock, SystemClock
from core.errors import HeadraceError, InvalidInputError, NotFoundError, UnavailableError
from udfs.artifact import Signature, read_signature
from udfs.latencies import ModelLatencies
from udfs.route import ModelKey, RowError
from udfs.runtime import DeadlineExceeded, Deadlines, build_session

logger = logging.getLogger(__name__)

# A version may be registered, or its file restored, a moment later; looking it up reads a few files of the lakehouse.
LOOK_AGAIN_SECONDS = 1.0
# A batch takes milliseconds. Whoever calls gives up after 30 s, and then calls again.
CALL_SECONDS = 20.0

Float32 = npt.NDArray[np.float32]


class ArtifactSource(Protocol):
    """Knows the bytes of each model version. Adapter: `iceberg.registry.Registry`.

    Raises NotFoundError for an unknown version, CorruptDataError when the bytes are not those that were registered.
    """

    def load_artifact(self, name: str, version: int) -> bytes: ...


@dataclass(frozen=True)
class LoadedModel:
    """A warmed session and its signature."""

    key: ModelKey
    signature: Signature
    session: Any  # onnxruntime publishes no types

    def probabilities(self, features: Float32, options: Any = None) -> Float32:  # Any: RunOptions
        """Run the model.

        Args:
            features: float32[batch, n_features], finite.

        Returns:
            float32[batch, n_classes].
        """
        return self.session.run(["probabilities"], {"features": features}, options)[0]  # type: ignore[no-any-return]


class ModelSessions:
    """The sessions of one process.

    Args:
        source: where the artifacts come from.
        threads: how many model calls may run at the same time, each on one thread.
        capacity: how many sessions are kept; the one that was used least recently leaves first.
        call_seconds: how long one call of a model may take, and how long it may wait for its turn.
        clock: decides when a version that could not be served is looked up again.
    """

    def __init__(
        self,
        source: ArtifactSource,
        *,
        threads: int = 2,
        capacity: int = 64,
        call_seconds: float = CALL_SECONDS,
        clock: Clock | None = None,
    ) -> None:
        self.latencies = ModelLatencies()
        self._source = source
        self._budget = threading.BoundedSemaphore(threads)
        self._capacity = capacity
        self._clock = clock or SystemClock()
        self._deadlines = Deadlines(call_seconds, SystemClock())
        self._lock = threading.Lock()
        self._loading: dict[ModelKey, threading.Lock] = {}
        self._ready: OrderedDict[ModelKey, LoadedModel] = OrderedDict()
        self._failed: dict[ModelKey, tuple[float, RowError]] = {}  # until when (monotonic seconds), and why

    def get(self, key: ModelKey) -> LoadedModel | RowError:
        """The session of a model version, or why it cannot be served.

        Raises:
            UnavailableError: the registry does not answer; the same call may succeed later.
        """
        with self._lock:
            found = self._find(key)
            if found is not None:
                return found
            gate = self._loading.setdefault(key, threading.Lock())
        with gate:  # others that want this model wait here; those that want another one do not
            with self._lock:
                found = self._find(key)
            return found or self._load_and_keep(key)

    def run(self, model: LoadedModel, features: Float32) -> Float32:
        """Run a model within the thread budget; shapes as `LoadedModel.probabilities`.

        Raises:
            DeadlineExceeded: it took too long and was ended.
            UnavailableError: all threads are busy and stay so; nothing was computed.
        """
        if not self._budget.acquire(timeout=self._deadlines.seconds):
            raise UnavailableError(f"no thread for model `{model.key}` within {self._deadlines.seconds:g} s")
        try:
            begun = time.perf_counter()
            with self._deadlines.call() as options:
                answers = model.probabilities(features, options)
            self.latencies.record(str(model.key), time.perf_counter() - begun)
            return answers
        finally:
            self._budget.release()

    def loaded(self) -> list[str]:
        """Names of the models that are ready, as `name@version`, sorted."""
        with self._lock:
            return sorted(str(key) for key in self._ready)

    def _find(self, key: ModelKey) -> LoadedModel | RowError | None:
        ready = self._ready.get(key)
        if ready is not None:
            self._ready.move_to_end(key)
            return ready
        until, error = self._failed.get(key, (-1.0, None))
        return error if self._clock.monotonic_seconds() < until else None

    def _load_and_keep(self, key: ModelKey) -> LoadedModel | RowError:
        try:
            model = load_model(key, self._source, self._deadlines)
        except HeadraceError as problem:
            if problem.retryable:
                raise
            known = not isinstance(problem, NotFoundError)
            logger.warning("model refused", extra={"model": str(key), "reason": str(problem)})
            error = RowError("model_rejected" if known else "model_not_found", f"Model `{key}` cannot be served: {problem}")
            with self._lock:
                self._failed[key] = (self._clock.monotonic_seconds() + LOOK_AGAIN_SECONDS, error)
            return error
        except Exception as problem:  # the storage's and catalog's own: nothing is known about the model
            raise UnavailableError(f"model `{key}` cannot be fetched now: {problem}") from problem
        logger.info("model ready", extra={"model": str(key)})
        with self._lock:
            self._failed.pop(key, None)
            self._ready[key] = model
            while len(self._ready) > self._capacity:
                self._ready.popitem(last=False)
        return model


def load_model(key: ModelKey, source: ArtifactSource, deadlines: Deadlines | None = None) -> LoadedModel:
    """Fetch, check and warm one model version.

    Raises:
        HeadraceError: unknown, corrupt or unservable; `retryable` says whether later may be better.
    """
    artifact = source.load_artifact(key.model, key.version)
    signature = read_signature(artifact, name=str(key))
    model = LoadedModel(key, signature, _build_session(artifact, key))
    try:
        # Two rows of zeros: allocates what the first real call would, and proves that the shapes are what was declared.
        with (deadlines or Deadlines(CALL_SECONDS, SystemClock())).call() as options:
            answer = model.probabilities(np.zeros((2, signature.n_features), np.float32), options)
    except DeadlineExceeded as problem:
        raise InvalidInputError(f"model `{key}` takes too long for two rows of zeros: {problem}") from problem
    except Exception as problem:  # onnxruntime's exceptions share no base class of their own
        raise InvalidInputError(f"model `{key}` fails on a row of zeros: {problem}") from problem
    if answer.dtype != np.float32 or answer.shape != (2, len(signature.classes)):
        raise InvalidInputError(
            f"model `{key}` answers {answer.dtype}{list(answer.shape)} for 2 rows", fix="Give float32[batch, n_classes]."
        )
    return model


def _build_session(artifact: bytes, key: ModelKey) -> Any:  # Any: onnxruntime publishes no types
    try:
        return build_session(artifact)
    except Exception as problem:  # onnxruntime's exceptions share no base class of their own
        raise InvalidInputError(f"model `{key}` cannot be loaded by onnxruntime: {problem}") from problem
