"""What is trained ends in the registry once, and is served from there."""

from __future__ import annotations

import json

import pytest

from core.settings import Settings
from iceberg.catalog import open_catalog
from iceberg.registry import Registry
from learning.train import register, train_plant, train_vision
from udfs.client import UdfClient
from udfs.server import build_server


@pytest.fixture
def registry(tmp_path):
    settings = Settings(data_dir=tmp_path)
    catalog = open_catalog(settings.catalog_type, settings.resolved_catalog_uri, settings.resolved_warehouse)
    return Registry(catalog, settings.resolved_warehouse)


def test_models_become_versions_1_and_2_once_and_are_served(registry):
    models = [*train_plant(), *train_vision()]
    expected = {"plant_health": [1, 2], "vision_digit": [1, 2]}
    assert register(registry, models) == expected
    assert register(registry, models) == expected
    assert [version.kind for version in registry.list("plant_health")] == ["gradient_boosting", "echo_state"]
    for model, version in zip(models, [*registry.list("plant_health"), *registry.list("vision_digit")], strict=True):
        assert version.metrics == model.metrics
        assert version.signature.labels == model.fitted.classes
        assert version.training_data["sha256"]
    member = {"model": "plant_health", "role": "champion", "weight": 1.0}
    route = json.dumps({"strategy": "ensemble_mean", "members": [member | {"version": 1}, member | {"version": 2}]})
    server = build_server(registry, port=0)
    with UdfClient(f"http://127.0.0.1:{server.port}") as client:
        healthy, starved = client.predict(
            [route] * 2, ["p"] * 2, [[1.0, 0.1, 1.2, 36.0, 0.4, 4.3, 12.5], [1.2, 0.2, 1.5, 38.0, 0.8, 2.0, 4.0]]
        ).to_pylist()
    server.drain_and_stop(1.0)
    assert (healthy["label"], starved["label"]) == ("healthy", "faulty")
    assert healthy["error"] is None
