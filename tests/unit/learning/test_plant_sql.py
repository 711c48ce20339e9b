"""The features that models train on are those of the pipeline's SQL."""

from __future__ import annotations

import re
from pathlib import Path

import pipelines
from learning.plant_features import FEATURES, WINDOW_SQL

FOLDER = Path(pipelines.__file__).parent / "plant"


def _expressions(sql: str) -> dict[str, str]:
    """Output name to expression, for the `expression AS name` lines of a query."""
    return {
        name: re.sub(r"\s+", " ", expression.strip())
        for expression, name in re.findall(r"^\s+(\S.*?)\s+AS (\w+),?$", sql, flags=re.MULTILINE)
    }


def test_training_uses_the_expressions_of_the_pipeline():
    written = _expressions((FOLDER / "20_features.sql").read_text())
    trained = _expressions(WINDOW_SQL)
    assert {name: trained[name] for name in FEATURES} == {name: written[name] for name in FEATURES}


def test_the_pipeline_gives_the_features_in_the_order_of_training():
    sql = (FOLDER / "30_predictions.sql").read_text()
    arrays = [re.findall(r"f\.(\w+)", found) for found in re.findall(r"ARRAY\[(.*?)\]", sql, flags=re.DOTALL)]
    assert arrays
    assert all(tuple(array) == FEATURES for array in arrays), arrays
