"""The SQL files: placeholders, places, statements, what a folder may hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.errors import InvalidInputError, NotFoundError
from pipelines import folder
from pipelines.statements import SqlStatement, split
from pipelines.template import VARIABLES, Rendered, render
from pipelines.unions import union_views

VALUES = {name: f"<{name}>" for name in VARIABLES}
EXAMPLES = Path(__file__).parents[4] / "shared" / "example"


def statements(text: str) -> list[SqlStatement]:
    return split(render("a.sql", text, VALUES))


def fingerprints(pipeline: folder.Pipeline) -> dict[str, str]:
    return {s.name: s.fingerprint for path, text in pipeline.files for s in split(render(path, text, VALUES))}


def test_an_unknown_placeholder_is_an_error_with_its_place_and_the_nearest_name() -> None:
    with pytest.raises(InvalidInputError, match=r"`\$\{KAFKA_BOOTSRAP\}` \(at a.sql:2:4\).*`\$\{KAFKA_BOOTSTRAP\}`"):
        render("a.sql", "SELECT\n '${KAFKA_BOOTSRAP}'".replace("\n '", "\n  '"), VALUES)


def test_a_placeholder_in_a_comment_is_left_alone() -> None:
    text = "-- filled in are ${...}\nSELECT '--${UDF_URL}' /* ${x} */"
    assert render("a.sql", text, VALUES).text == "-- filled in are ${...}\nSELECT '--<UDF_URL>' /* ${x} */"


def test_a_value_cannot_leave_its_literal() -> None:
    assert render("a.sql", "SELECT '${UDF_URL}'", {"UDF_URL": "x' OR '1"}).text == "SELECT 'x'' OR ''1'"


def test_places_are_those_of_the_file_and_not_of_the_filled_in_text() -> None:
    rendered = render("a.sql", "SELECT '${WAREHOUSE}',\n  '${UDF_URL}' + oops", {"WAREHOUSE": "a" * 50, "UDF_URL": ""})
    assert rendered.place(rendered.text.index("oops")) == "a.sql:2:18"
    assert rendered.place(rendered.text.index("aaa") + 20) == "a.sql:1:9"


def test_statements_end_at_semicolons_outside_literals_comments_and_dollar_quotes() -> None:
    found = statements(
        "CREATE VIEW a AS SELECT ';'; -- ;\n/* ; */ CREATE FUNCTION f() RETURNS INT LANGUAGE sql AS $$ SELECT 1; $$;"
    )
    assert [(s.kind, s.name, s.place()) for s in found] == [("VIEW", "a", "a.sql:1:1"), ("FUNCTION", "f", "a.sql:2:9")]


def test_names_are_folded_as_postgresql_folds_them() -> None:
    assert [
        s.name
        for s in statements('CREATE TABLE Abc (x INT); CREATE TABLE IF NOT EXISTS "Abc" (x INT); CREATE VIEW S.V AS SELECT 1')
    ] == [
        "abc",
        "Abc",
        "s.v",
    ]


def test_layout_and_comments_are_no_change_but_a_word_is() -> None:
    one, same, other = statements("CREATE VIEW a AS SELECT 1;  CREATE  VIEW a AS -- why\n SELECT 1; CREATE VIEW a AS SELECT 2")
    assert one.fingerprint == same.fingerprint != other.fingerprint


def test_what_describes_no_object_is_refused_with_its_place() -> None:
    with pytest.raises(InvalidInputError, match=r"`DROP`.*a.sql:2:1"):
        statements("SELECT 1;\nDROP TABLE a")


def test_a_folder_that_is_missing_or_empty_says_so(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no folder"):
        folder.load(tmp_path / "absent")
    with pytest.raises(NotFoundError, match="no SQL file"):
        folder.load(tmp_path)


def test_a_wrong_key_in_pipeline_yaml_is_named(tmp_path: Path) -> None:
    own = tmp_path / "mine"
    own.mkdir()
    (own / "10_a.sql").write_text("SELECT 1")
    (own / "pipeline.yaml").write_text("sources: {a_events: {max_skew: 1}}")
    with pytest.raises(InvalidInputError, match=r"`sources.a_events.max_skew`.*pipeline.yaml"):
        folder.load(own)


FEATURES_ONLY = {"interactions"}  # nothing predicts from them yet


@pytest.mark.parametrize(
    "name", [name for name in folder.built_in_names() if name not in ("functions", "operations")]
)  # which have no stream
def test_every_built_in_pipeline_owns_the_promised_objects(name: str) -> None:
    (pipeline,) = folder.find([name])
    owned = fingerprints(pipeline)
    promised = {f"{name}_events", f"features_{name}"}
    if name not in FEATURES_ONLY:
        promised |= {f"predictions_{name}", f"anomalies_{name}", f"labelled_{name}", f"model_scores_{name}"}
    assert promised <= owned.keys()
    assert all(name in each for each in owned), "a pipeline's objects carry its name"
    assert pipeline.data.sources.keys() == {f"{name}_events"}


def test_the_shared_folder_holds_the_example_that_risingwave_accepts_unchanged() -> None:
    if not EXAMPLES.is_dir():
        pytest.skip("the example that RisingWave's parser was run on is not beside this checkout")
    example = {s.name: s.fingerprint for s in split(render("x", (EXAMPLES / "00_shared.sql").read_text(), VALUES))}
    ours = fingerprints(folder.shared())
    assert {name: ours[name] for name in example} == example


def test_the_plant_pipeline_is_the_example_but_for_the_column_that_names_it() -> None:
    if not EXAMPLES.is_dir():
        pytest.skip("the example that RisingWave's parser was run on is not beside this checkout")
    example = {s.name: s for s in split(render("x", (EXAMPLES / "plant.sql").read_text(), VALUES)) if s.kind}
    text = example["predictions_plant"].text.replace("AS prediction_id,", "AS prediction_id, 'plant' AS pipeline,")
    wanted = {name: s.fingerprint for name, s in example.items()} | {
        "predictions_plant": split(Rendered("x", text, text))[0].fingerprint
    }
    ours = fingerprints(folder.find(["plant"])[0])
    assert {name: ours[name] for name in wanted} == wanted


def test_views_over_all_pipelines_take_those_that_are_there() -> None:
    views = {
        view.name: view for view in union_views(["predictions_a", "anomalies_a", "predictions_b", "predictions", "labels"])
    }
    assert views.keys() == {"predictions", "anomalies"}
    assert "'a' AS pipeline" in views["predictions"].sql
    assert "predictions_b" in views["predictions"].sql
    assert views["anomalies"].sql.count("UNION ALL") == 0
    assert views["predictions"].subscription == "predictions_changes"
