"""How long the calls of each model took lately: the last so many of each, so that a change shows soon."""

from __future__ import annotations

import threading
from collections import deque

import numpy as np

_KEPT = 512  # calls of a model; a p99 of fewer is a maximum


class ModelLatencies:
    """Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: dict[str, deque[float]] = {}

    def record(self, model: str, seconds: float) -> None:
        """Note one call of a model, named `name@version`."""
        with self._lock:
            self._calls.setdefault(model, deque(maxlen=_KEPT)).append(seconds)

    def told(self) -> dict[str, dict[str, float]]:
        """By model: `calls` that the figures rest on, `p50_ms` and `p99_ms`."""
        with self._lock:
            kept = {model: np.array(calls) for model, calls in self._calls.items()}
        return {
            model: {
                "calls": len(calls),
                "p50_ms": round(float(np.quantile(calls, 0.5)) * 1e3, 3),
                "p99_ms": round(float(np.quantile(calls, 0.99)) * 1e3, 3),
            }
            for model, calls in sorted(kept.items())
        }
