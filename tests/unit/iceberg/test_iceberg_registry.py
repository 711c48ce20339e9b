"""The registry: versions, immutability, aliases, and what happens when something breaks half way."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from pyiceberg.catalog import Catalog

import iceberg.row_appends
from core.errors import CorruptDataError, InvalidInputError, NotFoundError, UnavailableError
from core.fakes.clock import ManualClock
from iceberg.onnx_guard import Tensor
from iceberg.registry import ModelVersion, Registry, Signature


def model(weight: float = 2.0, width: int = 3) -> bytes:
    """A linear model: float32[batch, width] -> float32[batch, 1]."""
    weights = helper.make_tensor("w", TensorProto.FLOAT, [width, 1], np.full(width, weight, np.float32))
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["score"])],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, width])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, [None, 1])],
        [weights],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    content: bytes = proto.SerializeToString()
    return content


@pytest.fixture
def warehouse(tmp_path: Path) -> Path:
    return tmp_path / "warehouse"


@pytest.fixture
def registry(catalog: Catalog, warehouse: Path) -> Registry:
    return Registry(catalog, warehouse, clock=ManualClock())


def register(registry: Registry, artifact: bytes | Path, name: str = "plant.health", **changes: Any) -> ModelVersion:
    arguments: dict[str, Any] = {
        "kind": "linear",
        "feature_names": ("a", "b", "c"),
        "metrics": {"accuracy": 0.91},
        "tags": {"framework": "none"},
        "training_data": {"table": "lake.features_plant", "snapshot": 7, "rows": 100},
        "code_hash": "c0de",
        "duration": timedelta(seconds=1.5),
    }
    return registry.register(name, artifact, **{**arguments, **changes})


def test_a_version_comes_back_as_it_was_registered(registry: Registry, catalog: Catalog, warehouse: Path) -> None:
    made = register(registry, model(), labels=("ok", "worn"))
    assert made.reference == "plant.health@1"
    assert made.created_at == datetime(2026, 1, 1, tzinfo=UTC)
    assert made.signature == Signature(
        (Tensor("x", "float32", (-1, 3)),), (Tensor("score", "float32", (-1, 1)),), ("a", "b", "c"), ("ok", "worn")
    )
    assert (made.metrics, made.training_duration) == ({"accuracy": 0.91}, timedelta(seconds=1.5))
    assert Registry(catalog, warehouse).get("plant.health", 1) == made
    assert registry.load_artifact("plant.health", 1) == model()


def test_versions_of_each_model_count_from_one_and_equal_bytes_are_stored_once(registry: Registry, warehouse: Path) -> None:
    for _ in range(3):
        register(registry, model())
    register(registry, model(5.0), name="other")
    assert [found.reference for found in registry.list()] == ["other@1", "plant.health@1", "plant.health@2", "plant.health@3"]
    assert [found.version for found in registry.list("plant.health")] == [1, 2, 3]
    assert len(list((warehouse / "artifacts").rglob("*.onnx"))) == 2


def test_concurrent_registrations_get_different_versions_without_gaps(
    registry: Registry, open_lake: Callable[[], Catalog], warehouse: Path
) -> None:
    got: list[int] = []

    def run() -> None:
        own = Registry(open_lake(), warehouse)
        got.extend(register(own, model(float(n))).version for n in range(3))

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(got) == list(range(1, 10))
    assert [found.version for found in registry.list("plant.health")] == list(range(1, 10))


def test_what_is_not_registered_is_named_with_what_is(registry: Registry) -> None:
    assert registry.get("plant.health", 1) is None
    assert registry.revision() is None
    with pytest.raises(NotFoundError, match="No version of this model"):
        registry.must_get("plant.health", 1)
    register(registry, model())
    with pytest.raises(NotFoundError, match=r"`plant\.health@4` is not registered .* versions: 1\."):
        registry.load_artifact("plant.health", 4)


def test_the_revision_changes_with_each_registration(registry: Registry) -> None:
    register(registry, model())
    before = registry.revision()
    assert registry.revision() == before
    register(registry, model())
    assert registry.revision() != before


def test_a_registration_that_breaks_before_the_row_shows_nothing(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> bool:
        raise UnavailableError("catalog does not answer")

    with monkeypatch.context() as patch:
        patch.setattr(iceberg.row_appends, "commit_on_head", broken)
        with pytest.raises(UnavailableError):
            register(registry, model())
    assert registry.list() == []
    assert register(registry, model()).version == 1


def test_a_full_disk_leaves_no_part_of_an_artifact(
    registry: Registry, warehouse: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("iceberg.artifacts.os.fsync", no_space)
        with pytest.raises(UnavailableError, match="No space left"):
            register(registry, model())
    assert [path for path in (warehouse / "artifacts").rglob("*") if path.is_file()] == []
    assert registry.list() == []


@pytest.mark.parametrize("damage", ["changed", "cut", "removed"])
def test_damaged_artifacts_are_never_served(registry: Registry, warehouse: Path, damage: str) -> None:
    made = register(registry, model())
    path = warehouse / made.artifact
    if damage == "changed":
        path.write_bytes(path.read_bytes()[:-1] + b"\x00")
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:50])
    else:
        path.unlink()
    with pytest.raises(CorruptDataError, match="missing" if damage == "removed" else "SHA-256"):
        registry.load_artifact("plant.health", 1)


def test_registering_again_repairs_a_damaged_artifact(registry: Registry, warehouse: Path) -> None:
    made = register(registry, model())
    (warehouse / made.artifact).write_bytes(b"damaged")
    register(registry, model())
    assert registry.load_artifact("plant.health", 1) == model()


def test_an_artifact_may_be_a_file(registry: Registry, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(model())
    assert register(registry, path).artifact_bytes == len(model())
    with pytest.raises(NotFoundError, match="does not exist"):
        register(registry, tmp_path / "nothing.onnx")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"name": "Plant"}, "`Plant` is malformed"),
        ({"name": "../evil"}, "is malformed"),
        ({"feature_names": ("a", "b")}, "2 feature names for an input of 3 columns"),
        ({"feature_names": ("a", "a", "b")}, "not unique"),
        ({"metrics": {"accuracy": float("nan")}}, "cannot be kept as JSON"),
        ({"tags": {"x": object()}}, "cannot be kept as JSON"),
        (
            {"signature": Signature((Tensor("x", "float32", (-1, 4)),), (Tensor("score", "float32", (-1, 1)),))},
            "is not that of",
        ),
    ],
)
def test_malformed_registrations_are_refused_and_leave_nothing(registry: Registry, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidInputError, match=says):
        register(registry, model(), **changes)
    assert registry.list() == []


def test_a_signature_survives_json_and_equal_signatures_have_equal_hashes(registry: Registry) -> None:
    one, two, other = register(registry, model(1.0)), register(registry, model(2.0)), register(registry, model(), labels=("a",))
    assert one.signature_hash == two.signature_hash != other.signature_hash
    assert Signature.from_json(one.signature.to_json()) == one.signature
    assert json.loads(one.signature.to_json())["inputs"] == [{"name": "x", "dtype": "float32", "shape": [-1, 3]}]


def test_an_alias_means_the_version_it_was_last_set_to(registry: Registry) -> None:
    for _ in range(3):
        register(registry, model())
    assert registry.get_alias("plant.health", "champion") is None
    registry.set_alias("plant.health", "champion", 1)
    registry.set_alias("plant.health", "champion", 3)
    registry.set_alias("plant.health", "champion", 2, tenant_id="acme", actor="eve")
    assert registry.get_alias("plant.health", "champion") == 3
    assert registry.get_alias("plant.health", "champion", tenant_id="acme") == 2
    assert registry.get_alias("plant.health", "champion", tenant_id="globex") == 3
    registry.set_alias("plant.health", "champion", None, tenant_id="acme")
    assert registry.get_alias("plant.health", "champion", tenant_id="acme") == 3
    assert registry.aliases("plant.health") == {("champion", ""): 3}
    with pytest.raises(NotFoundError):
        registry.set_alias("plant.health", "champion", 9)


def test_the_stored_model_runs_and_gives_what_it_gave(registry: Registry) -> None:
    import onnxruntime

    register(registry, model(2.0))
    session = onnxruntime.InferenceSession(registry.load_artifact("plant.health", 1), providers=["CPUExecutionProvider"])
    [score] = session.run(None, {"x": np.ones((2, 3), np.float32)})
    assert score.tolist() == [[6.0], [6.0]]
    assert onnx.load_from_string(registry.load_artifact("plant.health", 1)).graph.name == "linear"
