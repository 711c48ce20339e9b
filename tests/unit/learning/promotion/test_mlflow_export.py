"""What is exported is loaded again by MLflow itself. Needs the extra `mlflow`, whose dependencies the lock cannot have (cachetools < 8):
`uv pip install mlflow-skinny alembic` in an environment of its own, and this file run there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from core.errors import InvalidInputError
from iceberg.registry import ModelVersion
from learning.promotion.lifecycle import Lifecycle
from learning.promotion.mlflow_export import export

mlflow = pytest.importorskip("mlflow", reason="the extra `mlflow` is not installed")


def test_versions_come_back_byte_for_byte_with_metrics_tags_and_aliases(
    lifecycle: Lifecycle, add: Callable[..., ModelVersion], tmp_path: Path
) -> None:
    one, two = add(seed=1), add(seed=2)
    registry = lifecycle.registry
    registry.set_alias("pump", "champion", 1)
    registry.set_alias("pump", "v1", 1)
    registry.set_alias("pump", "challenger", 2, tenant_id="acme")
    stages = {1: "production", 2: "archived"}
    target = str(tmp_path / "exported")
    first = export(registry, stages, [two, one], target)
    assert [(row["version"], row["mlflow_version"], row["copied"]) for row in first] == [(1, 1, True), (2, 2, True)]
    assert first[0]["aliases"] == ["champion", "label-v1", "production"]
    assert first[1]["aliases"] == ["challenger-acme"]
    assert [row["copied"] for row in export(registry, stages, [one, two], target)] == [False, False], "again copies nothing"

    import mlflow.onnx

    uri = f"sqlite:///{target}/mlflow.db"
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    loaded = mlflow.onnx.load_model("models:/pump@production")
    assert loaded.SerializeToString() == registry.load_artifact("pump", 1)
    answers = mlflow.pyfunc.load_model("models:/pump@challenger-acme").predict({"features": np.ones((2, 3), np.float32)})
    assert answers["probabilities"].shape == (2, 2)
    client = mlflow.tracking.MlflowClient()
    found = client.get_model_version_by_alias("pump", "champion")
    assert found.tags["headrace.version"] == "1"
    assert found.tags["headrace.stage"] == "production"
    assert found.tags["headrace.artifact_sha256"] == one.artifact_sha256
    run = client.get_run(found.run_id)
    assert run.data.metrics["accuracy"] == pytest.approx(one.metrics["accuracy"])
    assert run.data.tags["signature_hash"] == one.signature_hash


def test_an_unknown_kind_of_target_is_refused(lifecycle: Lifecycle, add: Callable[..., ModelVersion]) -> None:
    with pytest.raises(InvalidInputError, match="neither a folder nor an address"):
        export(lifecycle.registry, {}, [add()], "ftp://somewhere")
