"""How long a rollback takes to be decided, and how that grows with the history of decisions.

    .venv/bin/python benchmarks/rollback.py [--decisions 10,50,200] [--rollbacks 15] [--json]

Decided means: read the history, check the artifact's bytes and the feature definitions, commit the rows (`decided_ms` of
`headrace models rollback`), on a stopped platform; the aliases that are set with it are in `delivered_ms`. Bound: p99 below a second.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from core.clock import SystemClock
from core.errors import UnavailableError
from core.settings import Settings
from learning.models.trees import fit_gradient_boosting
from learning.promotion.lifecycle import Lifecycle, open_lifecycle
from learning.promotion.policy import parse_policy

OPEN = parse_policy(
    {"stages": {"production": {"unguarded": True, "exclusive": True, "aliases": ["champion"]}}}, where="benchmark"
)
RESULTS = Path(__file__).parent / "results"


@contextmanager
def stopped() -> Iterator[Any]:
    raise UnavailableError("the platform is stopped")
    yield


def registered(folder: Path) -> Lifecycle:
    """Two versions of a model."""
    lifecycle = open_lifecycle(Settings(data_dir=folder), stopped, SystemClock(), policy=OPEN)
    random = np.random.default_rng(0)
    features = random.normal(size=(500, 7)).astype(np.float32)
    labels = (features.sum(axis=1) > 0).astype(np.int64)
    for seed in (1, 2):
        model = fit_gradient_boosting(features, labels, ("healthy", "faulty"), positive="faulty", seed=seed)
        lifecycle.registry.register(
            "pump", model.to_onnx(), kind=model.kind, labels=model.classes, metrics={}, tags={},
            training_data={"source": "benchmark"}, code_hash="none", duration=timedelta(0),
        )  # fmt: skip
    return lifecycle


def measure(decisions: int, rollbacks: int) -> dict[str, Any]:
    """Grow the history to so many decisions, then go back and forth."""
    with tempfile.TemporaryDirectory() as folder:
        lifecycle = registered(Path(folder))
        for number in range(decisions):
            lifecycle.promote("pump", 1 + number % 2, "production", actor="benchmark")
        decided, delivered = [], []
        for number in range(rollbacks):
            answer = lifecycle.roll_back("pump", actor="benchmark", to=1 + (decisions + number) % 2)
            decided.append(answer.decided_ms)
            delivered.append(answer.delivered_ms)
    return {
        "decisions": decisions,
        "rollbacks": rollbacks,
        "decided_ms": {"p50": float(np.median(decided)), "p99": float(np.quantile(decided, 0.99)), "longest": max(decided)},
        "delivered_ms": {"p50": float(np.median(delivered)), "longest": max(delivered)},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--decisions", default="10,50,200")
    parser.add_argument("--rollbacks", type=int, default=15)
    parser.add_argument("--json", action="store_true", help="write a dated document into results/")
    arguments = parser.parse_args()
    runs = [measure(int(each), arguments.rollbacks) for each in arguments.decisions.split(",")]
    now = datetime.now(UTC)
    told = {
        "at": now.isoformat(timespec="seconds"),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "runs": runs,
    }
    print(json.dumps(told, indent=2))
    if arguments.json:
        (RESULTS / f"rollback-{now:%Y-%m-%d}.json").write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
