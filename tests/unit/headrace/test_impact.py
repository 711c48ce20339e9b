"""What a change of columns would break is named, with the reason, wherever the column is known by name."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from features.declaration import Feature, FeatureView, Offline
from headrace.evolving import declared_views
from headrace.impact import Effect, effects
from iceberg.evolution import parse_steps
from iceberg.onnx_guard import Tensor
from iceberg.registry import ModelVersion, Signature
from pipelines.snapshot import Column, Deployed, Snapshot

TABLE = "lake.features_pump"
OPTIONS = "WITH (connector = 'iceberg', database.name = 'lake', table.name = 'features_pump')"
VIEW = FeatureView(
    name="pump",
    entity=("tenant_id", "entity_id"),
    timestamp="feature_end",
    features=(Feature("level_avg", "double precision", inputs=("level",)), Feature("n", "bigint")),
    offline=Offline("pump", "SELECT tenant_id, entity_id, feature_end, avg(level) AS level_avg, 1 AS n FROM events"),
)


def model(name: str, *features: str, **training: object) -> ModelVersion:
    signature = Signature((Tensor("x", "float32", (-1, len(features))),), (), tuple(features))
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    return ModelVersion(name, 1, "k", moment, "a", "h", 1, signature, "s", {}, {}, training, "c", timedelta(0))


DATABASE = Snapshot(
    objects={
        1: Deployed(1, "features_pump", "MATERIALIZED VIEW", "CREATE MATERIALIZED VIEW features_pump AS SELECT 1"),
        2: Deployed(2, "features_pump_lake", "SINK", f"CREATE SINK features_pump_lake FROM features_pump {OPTIONS}"),
        3: Deployed(3, "history", "SOURCE", f"CREATE SOURCE history {OPTIONS}"),
        4: Deployed(4, "levels", "MATERIALIZED VIEW", "CREATE MATERIALIZED VIEW levels AS SELECT level_avg FROM history"),
        5: Deployed(5, "counts", "MATERIALIZED VIEW", "CREATE MATERIALIZED VIEW counts AS SELECT n FROM history"),
        6: Deployed(6, "high", "MATERIALIZED VIEW", "CREATE MATERIALIZED VIEW high AS SELECT * FROM levels"),
    },
    below={2: frozenset({1}), 4: frozenset({3}), 5: frozenset({3}), 6: frozenset({4})},
    columns={n: (Column("level_avg", "float8"), Column("n", "int8")) for n in (1, 3)},
)
MODELS = [
    model("here", "level_avg", "n", table="features_pump", snapshot=7),
    model("elsewhere", "level_avg", table="lake.features_other"),
    model("unsaid", "level_avg"),
    model("other", "m"),
]


def named(found: list[Effect], outcome: str) -> set[tuple[str, str]]:
    return {(effect.kind, effect.name) for effect in found if effect.outcome == outcome}


@pytest.mark.parametrize("change", [{"drop": ["level_avg"]}, {"rename": ["level_avg=level_mean"]}])
def test_what_knows_a_column_by_name_breaks_when_it_goes(change: dict[str, list[str]]) -> None:
    found = effects(TABLE, parse_steps(**change), [VIEW], MODELS, DATABASE)
    assert named(found, "breaks") == {
        ("feature view", "pump"),
        ("model", "here@1"),
        ("model", "unsaid@1"),
        ("source", "history"),
        ("materialized view", "levels"),
        ("materialized view", "high"),
    }


def test_a_sink_goes_on_after_a_rename_and_loses_what_is_dropped() -> None:
    renamed = effects(TABLE, parse_steps(rename=["level_avg=level_mean"]), [], [], DATABASE)
    assert ("sink", "features_pump_lake") in named(renamed, "keeps")
    dropped = effects(TABLE, parse_steps(drop=["level_avg"]), [], [], DATABASE)
    assert named(dropped, "loses") == {("sink", "features_pump_lake"), ("materialized view", "features_pump")}


def test_widening_and_adding_break_nothing() -> None:
    found = effects(TABLE, parse_steps(widen=["n:long"], add=["x:int"]), [VIEW], MODELS, DATABASE)
    assert named(found, "breaks") == set()
    assert ("feature view", "pump") in named(found, "keeps")


def test_a_raw_column_that_features_are_computed_from_breaks_their_view() -> None:
    found = effects("lake.events_pump", parse_steps(drop=["level"]), [VIEW], [], None)
    assert [(effect.name, effect.reason) for effect in found] == [("pump", "features `level_avg` are recomputed from `level`")]


def test_a_column_of_headraces_own_tables_is_told() -> None:
    found = effects("lake.predictions", parse_steps(rename=["score=points"]), [], [], None)
    assert named(found, "breaks") == {("headrace", "lake.predictions")}
    assert not effects("lake.predictions", parse_steps(add=["remark:text"]), [], [], None)


def test_the_declared_views_are_those_of_the_built_in_pipelines() -> None:
    assert "plant" in {view.name for view in declared_views()}
