"""A feature is followed down to raw columns and up to the models that read it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from core.errors import NotFoundError
from features.reading import read_folder
from headrace.feature_lineage import Use, trace
from iceberg.registry import ModelVersion, Signature
from pipelines import folder
from pipelines.snapshot import Column, Deployed, Snapshot
from pipelines.statements import split
from pipelines.template import render

VALUES = dict.fromkeys(("KAFKA_BOOTSTRAP", "UDF_URL", "CATALOG_TYPE", "CATALOG_URI", "WAREHOUSE"), "x")
PLANT = {
    "plant_events": ("SOURCE", (), ("tenant_id", "entity_id", "event_time", "vibration", "temperature", "pressure", "flow")),
    "features_plant": (
        "MATERIALIZED VIEW",
        ("plant_events",),
        (
            "tenant_id",
            "entity_id",
            "feature_start",
            "feature_end",
            "readings",
            "vibration_avg",
            "temperature_span",
            "low_flow_readings",
        ),
    ),
    "scored_plant": ("MATERIALIZED VIEW", ("features_plant",), ("tenant_id", "features")),
    "predictions_plant": ("MATERIALIZED VIEW", ("scored_plant",), ("tenant_id", "endpoint")),
}


def _snapshot() -> Snapshot:
    pipeline = folder.load(folder.BUILT_IN / "plant")
    statements = [each for path, text in pipeline.files for each in split(render(path, text, VALUES))]
    texts = {each.name: each.text for each in statements}
    numbers = {name: number for number, name in enumerate(PLANT, start=1)}
    return Snapshot(
        {numbers[name]: Deployed(numbers[name], name, kind, texts[name]) for name, (kind, _, _) in PLANT.items()},
        {numbers[name]: frozenset(numbers[each] for each in below) for name, (_, below, _) in PLANT.items()},
        {numbers[name]: tuple(Column(each, "double precision") for each in columns) for name, (_, _, columns) in PLANT.items()},
    )


def _model(name: str, version: int, *features: str) -> ModelVersion:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    signature = Signature((), (), tuple(features), ())
    return ModelVersion(name, version, "test", now, "a", "b", 1, signature, "c", {}, {}, {}, "d", timedelta())


def test_a_feature_is_followed_both_ways() -> None:
    (declared,) = read_folder(folder.BUILT_IN / "plant")
    models = [
        _model("plant_health", 1, "vibration_avg"),
        _model("plant_health", 2, "vibration_avg"),
        _model("other", 1, "vibration_avg"),
    ]
    routes = [("plant.health", "plant_health", 2), ("other.endpoint", "other", 1)]
    average, span = trace(
        ["plant:vibration_avg", "plant:temperature_span"], {"plant": declared.view}, _snapshot(), models, routes
    )
    assert average.columns == ("plant_events.vibration",)
    assert average.declared == ("vibration",)
    assert average.relations == ("plant_events",)
    assert average.consumers == ("scored_plant", "predictions_plant")
    assert average.models == (Use("plant_health", 2, ("plant.health",)),), (
        "neither a version without route nor another's endpoint"
    )
    assert (span.columns, span.models) == (("plant_events.temperature",), ())


def test_what_is_not_deployed_is_told() -> None:
    (declared,) = read_folder(folder.BUILT_IN / "plant")
    with pytest.raises(NotFoundError, match="features_plant"):
        trace(["plant:vibration_avg"], {"plant": declared.view}, Snapshot(), [], [])


def test_declared_inputs_are_what_the_sql_reads() -> None:
    """The declaration of the plant names for each feature just the columns that its SQL reads."""
    (declared,) = read_folder(folder.BUILT_IN / "plant")
    found = trace(
        ["plant:vibration_avg", "plant:temperature_span", "plant:low_flow_readings"],
        {"plant": declared.view},
        _snapshot(),
        [],
        [],
    )
    for each in found:
        assert {column.partition(".")[2] for column in each.columns} == set(each.declared)
