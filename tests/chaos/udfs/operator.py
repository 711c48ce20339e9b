"""Whoever runs the models while they serve: registers, warms and swaps versions, moves weights, and offers broken ones.

A process of its own with lower priority, as it would be another machine; what it did and when is a line of JSON each.
"""

from __future__ import annotations

import json
import os
import pickle
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
from onnx import TensorProto, helper

from core.errors import HeadraceError
from learning.models.trees import fit_gradient_boosting
from pipelines.routing import RouteMember, change_route
from tests.chaos.udfs.processes import CLASSES, WIDTH, linear_model, linear_weights, open_registry, register
from udfs.client import UdfClient

MODEL, TENANT, ENDPOINT = "live", "default", "live"


@dataclass(frozen=True)
class Plan:
    """What happens, evenly spread over `seconds` in an order that the seed fixes."""

    swaps: int
    weight_changes: int
    seconds: float
    seed: int = 0


def boosted_model(seed: int) -> bytes:
    """Boosted trees of 60 rounds: loading one takes some milliseconds."""
    random_numbers = np.random.default_rng(seed)
    features = random_numbers.normal(size=(400, WIDTH)).astype(np.float32)
    labels = (features[:, 0] + random_numbers.normal(scale=0.3, size=400) > 0).astype(np.int64)
    return fit_gradient_boosting(features, labels, CLASSES, positive="yes", seed=seed).to_onnx()


def operate(folder: Path, database: str, udf_url: str, plan: Plan, boss: Connection, journal: Path) -> None:
    """Train the models, say so, and carry the plan out from the time (of the monotonic clock) that comes back."""
    if hasattr(os, "sched_setscheduler"):
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))  # also when the run itself was started by `chrt`
    os.nice(5)
    models = [boosted_model(seed) for seed in range(100, 100 + plan.swaps)]
    events: list[tuple[str, Callable[[_Hands], Any]]] = [
        *[("swap", _swap)] * plan.swaps,
        *[("weights", _move_weights)] * plan.weight_changes,
        *[(f"broken: {name}", offer) for name, offer in BROKEN.items()],
    ]
    random.Random(plan.seed).shuffle(events)
    with (
        psycopg.connect(database, autocommit=True) as connection,
        UdfClient(udf_url, timeout_seconds=30.0) as client,
        journal.open("w", encoding="utf-8") as lines,
    ):
        hands = _Hands(folder, connection, client, random.Random(plan.seed))
        hands.models = models
        boss.send("ready")
        start_at = boss.recv()
        for number, (kind, act) in enumerate(events):
            at = start_at + plan.seconds * number / len(events)
            time.sleep(max(0.0, at - time.monotonic()))
            begun = time.monotonic()
            told = act(hands)
            lines.write(json.dumps({"kind": kind, "from": begun, "to": time.monotonic(), "told": told}) + "\n")
            lines.flush()


class _Hands:
    """What the acts share. Mutable: who serves now."""

    def __init__(
        self, folder: Path, connection: Any, client: UdfClient, random_numbers: random.Random
    ) -> None:  # Any: psycopg's
        self.folder, self.connection, self.client, self.random = folder, connection, client, random_numbers
        self.registry = open_registry(folder)
        self.models: list[bytes] = []
        newest = max(found.version for found in self.registry.list(MODEL))
        self.members = [RouteMember(MODEL, newest)]

    def route(self, members: list[RouteMember], reason: str) -> int:
        changed = change_route(
            self.connection, TENANT, ENDPOINT, "ensemble_mean", members, changed_by="operator", reason=reason
        )
        return changed.epoch


def _swap(hands: _Hands) -> dict[str, Any]:
    """Register, warm, and only then name it: the new one serves, the old one stays at a tenth."""
    version = register(hands.registry, MODEL, hands.models.pop())
    ready = hands.client.load_model(MODEL, version)
    assert ready["ready"], ready
    hands.members = [RouteMember(MODEL, version, "champion", 0.9), *_tenth(hands.members)]
    return {"version": version, "epoch": hands.route(hands.members, "swap")}


def _tenth(members: list[RouteMember]) -> list[RouteMember]:
    return [RouteMember(members[0].model, members[0].version, "challenger", 0.1)]


def _move_weights(hands: _Hands) -> dict[str, Any]:
    hands.members = [
        RouteMember(each.model, each.version, each.role, round(hands.random.uniform(0.1, 1.0), 3)) for each in hands.members
    ]
    return {"epoch": hands.route(hands.members, "weights")}


def _refused_at_registration(artifact: bytes) -> Callable[[_Hands], dict[str, Any]]:
    def offer(hands: _Hands) -> dict[str, Any]:
        try:
            version = register(hands.registry, MODEL, artifact)
        except HeadraceError as problem:
            return {"refused_by": "registry", "why": problem.what}
        return {"refused_by": None, "version": version}

    return offer


def _refused_at_warming(make: Callable[[_Hands], int]) -> Callable[[_Hands], dict[str, Any]]:
    def offer(hands: _Hands) -> dict[str, Any]:
        version = make(hands)
        answer = hands.client.load_model(MODEL, version)
        return {"refused_by": None if answer["ready"] else "server", "why": answer.get("message"), "version": version}

    return offer


def _corrupted(hands: _Hands) -> int:
    """A version whose file was changed after it was sealed."""
    version = register(hands.registry, MODEL, linear_model(linear_weights(999)))
    path = next(hands.folder.rglob(Path(hands.registry.must_get(MODEL, version).artifact).name))
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    return version


def _foreign_signature(hands: _Hands) -> int:
    """A valid model that takes and gives something else."""
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "other",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return register(hands.registry, MODEL, model.SerializeToString())


def _named_without_being_there(hands: _Hands) -> dict[str, Any]:
    """Straight into the route, with the largest weight: the others answer, and say so."""
    hands.route([*hands.members, RouteMember(MODEL, 10_000, "challenger", 5.0)], "a version that is not registered")
    time.sleep(0.5)
    return {"refused_by": "route", "epoch": hands.route(hands.members, "taken back")}


def _foreign_operator() -> bytes:
    graph = helper.make_graph(
        [helper.make_node("Frobnicate", ["features"], ["probabilities"], domain="com.example")],
        "custom",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", WIDTH])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 2])],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.example", 1)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString())


BROKEN: dict[str, Callable[[_Hands], dict[str, Any]]] = {
    "a pickle": _refused_at_registration(pickle.dumps({"weights": [1, 2]})),
    "foreign operators": _refused_at_registration(_foreign_operator()),
    "a foreign signature": _refused_at_warming(_foreign_signature),
    "a corrupted file": _refused_at_warming(_corrupted),
    "not registered, in the route": _named_without_being_there,
}
