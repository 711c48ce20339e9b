"""A model version's training data names a table and a snapshot of the lake, or comes from elsewhere."""

from __future__ import annotations

from typing import Any

import pytest

from iceberg.training_data import Source, source_of


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"table": "lake.features_plant", "snapshot": 7}, Source("lake.features_plant", 7)),
        ({"table": "features_plant", "snapshot": "7"}, Source("lake.features_plant", 7)),
        ({"table": "features_plant", "snapshot_id": 7}, Source("lake.features_plant", 7)),
        ({"table": "features_plant"}, Source("lake.features_plant", None)),
        ({"table": "features_plant", "snapshot": "the latest"}, Source("lake.features_plant", None)),
        ({"source": "river.datasets.CreditCard", "snapshot": 7}, None),
        ({}, None),
    ],
)
def test_a_version_says_what_it_was_trained_on(said: dict[str, Any], expected: Source | None) -> None:
    assert source_of(said) == expected
