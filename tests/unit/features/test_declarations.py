"""Feature views are declared once, and what is wrong with a declaration is told with its place."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from core.errors import InvalidInputError
from features.declaration import Feature, FeatureView, Offline, Rule, fingerprint, from_json, to_json
from features.durations import parse_duration, write_duration
from features.lint import in_order, lint, must_pass
from features.reading import Declared, read_folder, read_text
from pipelines import folder
from pipelines.sqltext import query_of

VIEW = """feature_views:
  - name: pumps
    entity: [tenant_id, entity_id]
    timestamp: feature_end
    features:
      - {name: speed, type: float8, unit: rpm}
"""


def _view(name: str, **more: object) -> FeatureView:
    return FeatureView(name=name, entity=("id",), timestamp="at", features=(Feature("x", "bigint"),), **more)  # type: ignore[arg-type]


def test_a_declaration_says_what_it_leaves_out() -> None:
    (declared,) = read_text(VIEW, "features.yaml")
    view = declared.view
    assert (view.ttl, view.frequency, view.relation) == (timedelta(days=1), timedelta(days=1), "features_pumps")
    assert view.history_table == "lake.features_pumps"
    assert view.features == (Feature("speed", "double precision", unit="rpm"),)
    assert declared.place == "features.yaml:2:5"


def test_yaml_and_python_declare_the_same() -> None:
    (declared,) = read_text(VIEW)
    python = FeatureView(
        "pumps", ("tenant_id", "entity_id"), "feature_end", (Feature("speed", "double precision", unit="rpm"),)
    )
    assert declared.view == python
    assert fingerprint(declared.view) == fingerprint(python)
    assert from_json(to_json(python)) == python


@pytest.mark.parametrize(
    ("change", "place", "words"),
    [
        (("type: float8", "type: floot"), "6:29", "no type of a feature"),
        (("unit: rpm", "units: rpm"), "6:37", "`units` is not known here"),
        (("timestamp: feature_end", "ttl: 1 fortnight\n    timestamp: feature_end"), "4:10", "no length of time"),
        (("    timestamp: feature_end\n", ""), "2:5", "`timestamp` is missing"),
        (("name: speed", "name: tenant_id"), "2:5", "named twice"),
        (("unit: rpm", "rules: [{rule: range}]"), "6:45", "needs `max` or `min`"),
        (("unit: rpm", "rules: [{rule: range, min: 3, max: 1}]"), "6:45", "greater than"),
        (("unit: rpm", "rules: [{rule: between}]"), "6:52", "'range'"),
        (("name: pumps", "name: pumps\n    name: other"), "3:5", "given twice"),
        (("- name: pumps", "- name: pumps\n  name: x"), "3:3", "no YAML"),
        (("feature_views:", "views:"), "1:1", "no `feature_views`"),
    ],
)
def test_what_is_wrong_is_told_with_file_line_and_column(change: tuple[str, str], place: str, words: str) -> None:
    assert change[0] in VIEW
    with pytest.raises(InvalidInputError) as told:
        read_text(VIEW.replace(*change, 1), "p/features.yaml")
    assert told.value.where == f"p/features.yaml:{place}"
    assert words in told.value.what


def test_a_window_that_closes_needs_its_watermark() -> None:
    with pytest.raises(ValueError, match="watermark"):
        Offline("plant", "SELECT 1", emit="window_close")
    with pytest.raises(ValueError, match="watermark"):
        Offline("plant", "SELECT 1", watermark=timedelta(seconds=5))


@pytest.mark.parametrize(
    "text", ["10 seconds", "1 second", "90 minutes", "1 hour", "36 hours", "1 day", "2 weeks", "1.5 seconds"]
)
def test_lengths_of_time_are_read_back(text: str) -> None:
    assert parse_duration(write_duration(parse_duration(text))) == parse_duration(text)


def test_a_circle_of_dependencies_is_an_error_that_shows_the_circle() -> None:
    views = [_view("a", depends_on=("b",)), _view("b", depends_on=("c",)), _view("c", depends_on=("a",))]
    with pytest.raises(InvalidInputError, match=r"in a circle: (a -> b -> c -> a|b -> c -> a -> b|c -> a -> b -> c)"):
        must_pass([Declared(view, "f:1:1") for view in views])


def test_a_circle_through_registered_views_is_found() -> None:
    known = {"b": _view("b", depends_on=("a",))}
    assert [f.level for f in lint([Declared(_view("a", depends_on=("b",)))], known)] == ["error"]


def test_unknown_dependencies_and_inputs_are_errors() -> None:
    feature = Feature("y", "bigint", inputs=("a.nope", "c.x", "amount"))
    view = FeatureView("b", ("id",), "at", (feature,), depends_on=("a", "gone"))
    told = [finding.message for finding in lint([Declared(_view("a")), Declared(view)])]
    assert [m for m in told if "nobody declares" in m and "`gone`" in m]
    assert [m for m in told if "`a` has no such feature" in m]
    assert [m for m in told if "does not name `c`" in m]
    assert len(told) == 3


def test_values_that_expire_before_the_next_come_are_warned_of() -> None:
    fast, slow = timedelta(hours=1), timedelta(days=2)
    own = lint([Declared(_view("a", ttl=fast, frequency=slow))])
    other = lint(
        [Declared(_view("a", ttl=fast, frequency=fast, depends_on=("b",))), Declared(_view("b", ttl=slow, frequency=slow))]
    )
    slower = lint([Declared(_view("a", frequency=fast, depends_on=("b",))), Declared(_view("b"))])
    assert [(f.level, f.view) for f in own + other + slower] == [("warning", "a")] * 3
    assert ["in between" in own[0].message, "expires after" in other[0].message, "to change every" in slower[0].message] == [
        True
    ] * 3


def test_a_view_comes_after_what_it_depends_on() -> None:
    views = {name: _view(name, depends_on=after) for name, after in {"a": ("c",), "b": (), "c": ("b",)}.items()}
    assert [view.name for view in in_order(views)] == ["b", "c", "a"]


def test_rules_know_what_they_need() -> None:
    assert Rule("range", min=0).on_failure == "warn"
    with pytest.raises(ValueError, match="regular expression"):
        Rule("matches", pattern="(")
    with pytest.raises(ValueError, match="has no `min`"):
        Rule("not_null", min=1)


def test_every_pipeline_of_ours_with_features_declares_them() -> None:
    declared = [each for name in folder.built_in_names() for each in read_folder(folder.BUILT_IN / name)]
    assert {each.view.name for each in declared} == {
        "interactions", "interactions_local_time", "online", "plant", "recordings", "replay", "telemetry", "vision",
    }  # fmt: skip
    assert must_pass(declared) == []


@pytest.mark.parametrize("name", ["plant", "telemetry", "replay", "recordings", "online"])
def test_declared_columns_are_those_of_the_view_in_order(name: str) -> None:
    (declared,) = read_folder(folder.BUILT_IN / name)
    sql = next((folder.BUILT_IN / name).glob("*_features.sql")).read_text(encoding="utf-8")
    query = query_of(sql[sql.index("CREATE") :].rstrip().removesuffix(";"))
    assert query is not None
    columns = [column for column in _output_names(query) if column != "feature_start"]
    view = declared.view
    assert columns == [*view.entity, view.timestamp, *(feature.name for feature in view.features)]


def _output_names(query: str) -> list[str]:
    from sqlglot import parse_one

    return list(parse_one(query.split("EMIT ON")[0], read="risingwave").named_selects)


def test_a_folder_without_declarations_declares_nothing(tmp_path: Path) -> None:
    assert read_folder(tmp_path) == []
