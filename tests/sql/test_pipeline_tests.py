"""The tests that the built-in pipelines come with; they double as examples of the format."""

from __future__ import annotations

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
