"""Queries of any size: long chains work, deep nesting is refused with 54001, and never an internal exception."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from engine.sql.errors import SqlError
from tests.property.engine.harness import EngineBox


@pytest.fixture(scope="module")
def box() -> Iterator[EngineBox]:
    made = EngineBox()
    yield made
    made.close()


@pytest.mark.parametrize("word", ["AND", "OR"])
def test_long_conditions_work(box: EngineBox, word: str) -> None:
    condition = f" {word} ".join(f"x <> {i}" for i in range(2000))
    assert box.rows(f"SELECT count(*) FROM (VALUES (3000), (1)) AS t (x) WHERE {condition}") == [(1 if word == "AND" else 2,)]


@pytest.mark.parametrize(
    "expression",
    [
        "(" * 4000 + "1" + ")" * 4000,
        "+".join(["1"] * 4000),
        "not " * 4000 + "true",
        "- " * 4000 + "1",
        "||".join(["'a'"] * 4000),
    ],
)
def test_deep_expressions_are_refused(box: EngineBox, expression: str) -> None:
    with pytest.raises(SqlError) as caught:
        box.run(f"SELECT {expression}")
    assert caught.value.sqlstate == "54001"


def test_deep_subqueries_are_refused(box: EngineBox) -> None:
    query = "SELECT 1 AS x"
    for _ in range(80):
        query = f"SELECT x FROM ({query}) AS t"
    with pytest.raises(SqlError) as caught:
        box.run(query)
    assert caught.value.sqlstate == "54001"
