"""Two versions on the same logged traffic, and what is said about them."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.io.pyarrow import schema_to_pyarrow
from scipy.stats import binomtest

from core.errors import InvalidInputError
from iceberg.registry import ModelVersion
from iceberg.tables import FEEDBACK, PREDICTIONS, TableDefinition, ensure_tables
from learning.promotion.comparison import compare
from learning.promotion.lifecycle import Lifecycle
from learning.promotion.paired import paired_test
from tests.unit.learning.promotion.conftest import CLASSES, rows

add_type = Callable[..., ModelVersion]
START = datetime(2026, 1, 1, tzinfo=UTC)


def append(catalog: Catalog, definition: TableDefinition, records: list[dict[str, Any]]) -> None:
    ensure_tables(catalog, (definition,))
    table = catalog.load_table(definition.identifier)
    table.append(pa.Table.from_pylist(records, schema=schema_to_pyarrow(table.schema(), include_field_ids=False)))


def log_traffic(catalog: Catalog, *, n: int = 600, model: str = "pump", labelled: int = 400, entities: int = 20) -> None:
    """Rows as the pipelines write them; some labels are corrected later, one row failed."""
    asked = rows(seed=99, n=n)
    members = json.dumps([{"model": model, "version": 1, "weight": 1.0, "value": 0.5}])
    predictions = [
        {
            "prediction_id": f"p{i}",
            "pipeline": "pump",
            "tenant_id": "acme",
            "endpoint": "pump.health",
            "entity_id": f"e{i % entities}",
            "feature_end": START + timedelta(seconds=i),
            "features": asked.features[i].astype(float).tolist(),
            "members": members,
            "error": None,
        }
        for i in range(n)
    ]
    predictions.append({**predictions[0], "prediction_id": "failed", "error": "{}"})
    truth = [CLASSES[label] for label in asked.labels]
    first = [
        {
            "tenant_id": "acme",
            "prediction_id": f"p{i}",
            "label": "healthy" if i % 10 == 0 else truth[i],
            "labelled_at": START + timedelta(hours=1, seconds=i),
            "kafka_offset": str(i),
        }
        for i in range(labelled)
    ]
    corrected = [
        {**each, "label": truth[i], "labelled_at": START + timedelta(hours=2), "kafka_offset": str(labelled + i)}
        for i, each in enumerate(first)
        if i % 10 == 0
    ]
    append(catalog, PREDICTIONS, predictions)
    append(catalog, FEEDBACK, first + corrected)


def test_the_better_one_is_preferred_on_the_same_rows_with_the_last_labels(lifecycle: Lifecycle, add: add_type) -> None:
    add(rounds=1)
    add(rounds=60)
    log_traffic(lifecycle.catalog)
    report = compare(lifecycle.registry, lifecycle.catalog, "pump", 1, 2)
    replay = report["replay"]
    assert (replay["rows"], replay["labelled"], replay["source"]) == (600, 400, "logged traffic")
    assert replay["snapshot_id"]
    test = replay["paired_test"]
    assert test["entities"] == 20
    assert test["accuracy_b"] > 0.9 > test["accuracy_a"], "by the corrected labels"
    assert test["only_b"] - test["only_a"] == round(400 * (test["accuracy_b"] - test["accuracy_a"]))
    assert report["recommendation"]["verdict"] == "prefer_b"
    assert report["metrics"]["accuracy"]["difference"] > 0
    assert report["artifact"]["identical"] is False
    assert set(report["latency"]) == {"a", "b"}
    swapped = compare(lifecycle.registry, lifecycle.catalog, "pump", 2, 1)
    assert swapped["recommendation"]["verdict"] == "prefer_a"
    json.dumps(report)


def test_two_of_a_kind_show_no_difference(lifecycle: Lifecycle, add: add_type) -> None:
    add(seed=1)
    add(seed=1, metrics={"accuracy": 0.5})
    log_traffic(lifecycle.catalog)
    report = compare(lifecycle.registry, lifecycle.catalog, "pump", 1, 2)
    assert report["artifact"]["identical"] is True
    assert report["replay"]["agreement"] == 1.0
    assert report["replay"]["paired_test"]["p_value"] == 1.0
    assert report["recommendation"]["verdict"] == "no_difference_shown"


def test_without_labels_nobody_is_preferred(lifecycle: Lifecycle, add: add_type) -> None:
    add(rounds=1)
    add(rounds=60)
    log_traffic(lifecycle.catalog, labelled=0)
    report = compare(lifecycle.registry, lifecycle.catalog, "pump", 1, 2)
    assert report["recommendation"]["verdict"] == "undecided"
    assert 0 < report["replay"]["agreement"] < 1
    assert len(report["replay"]["disagreements"]) == 10


def test_traffic_of_other_models_is_not_replayed_and_sealed_rows_stand_in(lifecycle: Lifecycle, add: add_type) -> None:
    add(seed=1)
    add(seed=2)
    log_traffic(lifecycle.catalog, model="valve")
    assert compare(lifecycle.registry, lifecycle.catalog, "pump", 1, 2)["replay"]["source"].startswith("sealed")
    asked = compare(lifecycle.registry, lifecycle.catalog, "pump", 1, 2, endpoint="pump.health")
    assert asked["replay"]["rows"] == 600, "an endpoint's traffic, whoever answered"


def test_versions_that_take_other_features_are_not_compared_by_answers(lifecycle: Lifecycle, add: add_type) -> None:
    add()
    add(feature_names=("b", "a", "c"))
    report = compare(lifecycle.registry, lifecycle.catalog, "pump", 1, 2)
    assert report["recommendation"]["verdict"] == "incompatible"
    assert report["replay"] is None
    with pytest.raises(InvalidInputError, match="with itself"):
        compare(lifecycle.registry, lifecycle.catalog, "pump", 1, 1)


def test_the_exact_test_is_that_of_scipy_and_the_interval_covers_the_truth() -> None:
    random = np.random.default_rng(5)
    covered = 0
    for seed in range(40):
        entities = [f"e{i}" for i in random.integers(0, 50, 500)]
        a = random.random(500) < 0.8
        b = np.where(random.random(500) < 0.5, a, random.random(500) < 0.9)
        found = paired_test(a, b, entities, seed=seed)
        assert found.p_value == binomtest(found.only_b, found.only_a + found.only_b).pvalue
        covered += found.interval_95[0] <= 0.05 <= found.interval_95[1]  # 0.5 * 0.9 + 0.5 * 0.8 - 0.8
    assert covered >= 34, "of 40 intervals, 38 are expected to cover"


def test_rows_of_few_entities_widen_the_interval() -> None:
    random = np.random.default_rng(1)
    of_entity = random.random(10) < 0.5  # an entity is right with one model or the other, all its rows alike
    group = np.repeat(np.arange(10), 100)
    a, b = ~of_entity[group], of_entity[group]
    clustered = paired_test(a, b, [str(each) for each in group])
    alone = paired_test(a, b, [str(i) for i in range(1000)])
    width = [high - low for low, high in (clustered.interval_95, alone.interval_95)]
    assert width[0] > 5 * width[1]
