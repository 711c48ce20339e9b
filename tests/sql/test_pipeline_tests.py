"""The tests that the built-in pipelines come with; they double as examples of the format."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from headrace.sqltest.model import Case
from headrace.sqltest.reading import find, read
from headrace.sqltest.report import headline
from headrace.sqltest.run import Where, check, run

PIPELINES = Path(__file__).parents[2] / "pipelines"
CASES = [case for file in find([PIPELINES]) for case in read(file).cases]


def test_every_pipeline_has_a_test() -> None:
    folders = {path.parent.name for path in PIPELINES.glob("*/[0-9][0-9]_*.sql")}
    assert {case.place.file.parent.parent.name for case in CASES} == folders


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.place.file.parent.parent.name}: {case.name}")
def test_the_sql_of_a_pipeline_does_what_its_tests_say(case: Case) -> None:
    check(case, Where())
    outcome = run(case, Where())
    assert outcome.passed, "\n".join(headline(problem) for problem in outcome.problems)
    assert outcome.expectations > 0


# File, what stands there, what is planted, and the test file that must notice.
PLANTED = [
    ("plant/20_features.sql", "max(vibration) ", "min(vibration) ", "plant/tests/features.test.yaml"),
    ("plant/20_features.sql", "INTERVAL '10 seconds'", "INTERVAL '15 seconds'", "plant/tests/features.test.yaml"),
    ("plant/20_features.sql", "\nEMIT ON WINDOW CLOSE", "", "plant/tests/features.test.yaml"),
    ("plant/10_source.sql", "- INTERVAL '5 seconds'", "- INTERVAL '1 hour'", "plant/tests/quarantine.test.yaml"),
    ("plant/pipeline.yaml", "max_future_skew: 5 minutes", "max_future_skew: 5 hours", "plant/tests/quarantine.test.yaml"),
    ("plant/40_anomalies.sql", "score > 0.8", "score > 0.95", "plant/tests/predictions.test.yaml"),
    ("00_shared/30_feedback.sql", "labelled_at DESC", "labelled_at", "00_shared/tests/labels.test.yaml"),
    ("00_shared/10_routing.sql", "max(r.epoch)", "min(r.epoch)", "00_shared/tests/routing.test.yaml"),
    ("00_shared/15_route_changes.sql", ") ON CONFLICT DO NOTHING", ")", "00_shared/tests/route_changes.test.yaml"),
    ("99_scores/20_answers.sql", "LEFT JOIN labels", "JOIN labels", "99_scores/tests/scores.test.yaml"),
    ("99_scores/30_scores.sql", "WHERE label = answer", "WHERE label <> answer", "99_scores/tests/scores.test.yaml"),
    ("interactions/15_interactions.sql", "coalesce(revision, 0) DESC", "revision", "interactions/tests/windows.test.yaml"),
    ("interactions/20_features.sql", "leaves_at > (", "leaves_at >= (", "interactions/tests/windows.test.yaml"),
    ("interactions/20_features.sql", "INTERVAL '168 hours'", "INTERVAL '7 hours'", "interactions/tests/windows.test.yaml"),
    ("interactions/25_local_time.sql", "BETWEEN 9 AND 17", "BETWEEN 9 AND 16", "interactions/tests/local_time.test.yaml"),
    ("interactions/40_rules.sql", "sum_value_1h > 1000", "sum_value_1h > 10000", "interactions/tests/rules.test.yaml"),
    ("replay/20_features.sql", "coalesce(avg(v8), 0.0)", "avg(v8)", "replay/tests/replay.test.yaml"),
    ("telemetry/10_source.sql", "- INTERVAL '5 seconds'", "- INTERVAL '1 second'", "telemetry/tests/telemetry.test.yaml"),
    ("vision/20_features.sql", "get_byte(image, 63)", "get_byte(image, 62)", "vision/tests/vision.test.yaml"),
]


@pytest.mark.parametrize(("file", "before", "after", "tests"), PLANTED, ids=lambda text: text.strip().replace("/", "."))
def test_a_bug_planted_into_the_sql_is_found(file: str, before: str, after: str, tests: str, tmp_path: Path) -> None:
    shutil.copytree(PIPELINES, tmp_path / "pipelines")
    planted = tmp_path / "pipelines" / file
    text = planted.read_text(encoding="utf-8")
    assert before in text
    planted.write_text(text.replace(before, after), encoding="utf-8")
    outcomes = [run(case, Where()) for case in read(tmp_path / "pipelines" / tests).cases]
    problems = [problem for outcome in outcomes for problem in outcome.problems]
    assert problems
    assert all(problem.kind in ("rows", "changes") for problem in problems), [headline(problem) for problem in problems]
