"""A model behind its transformations, from a file of rows to `predict` in SQL: the same numbers as in Python, whatever the row."""

from __future__ import annotations

import csv
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from core.clock import SystemClock
from iceberg.registry import Registry
from learning.models.kind import FittedModel, Float32
from learning.models.linear import fit_linear
from learning.tabular import load_tabular, train_tabular
from learning.train import TrainedModel, register
from learning.transforms.declaration import Declaration
from learning.transforms.embedding import text_code, text_code_sql
from learning.transforms.model import Transformed, fit_behind, read_transforms
from tests.chaos.engine.processes import EngineProcess, query
from tests.chaos.udfs.processes import UdfProcess, open_registry, route_of
from udfs.artifact import read_background, read_signature
from udfs.explanations.trees import read_trees
from udfs.route import ModelKey
from udfs.sessions import load_model

pytestmark = pytest.mark.timeout(280)

NAMES = ("count_24h", "sum_value_24h", "hour_of_day", "is_weekend", "item_code")
DECLARED = Declaration.model_validate(
    yaml.safe_load("""
transforms:
  - {kind: log, of: [count_24h]}
  - {kind: normalize, of: [log_count_24h, sum_value_24h], method: z_score}
  - {kind: binning, of: [hour_of_day], method: edges, edges: [6, 9, 18, 22], one_hot: true}
  - {kind: embedding, of: [item_code], dim: 8, buckets: 64}
  - {kind: interaction, of: [z_sum_value_24h, is_weekend]}
""")
)
CLASSES = ("leaves", "stays")
PARITY = 1e-5


def _rows(count: int, seed: int) -> tuple[Float32, Any, list[str]]:
    drawn = np.random.default_rng(seed)
    items = [f"item_{number}" for number in drawn.integers(0, 200, count)]
    features = np.column_stack(
        [
            drawn.poisson(8, count), np.round(drawn.normal(3, 4, count), 3), drawn.integers(0, 24, count),
            drawn.integers(0, 2, count), [text_code(item) for item in items],
        ]
    ).astype(np.float32)  # fmt: skip
    liking = 0.3 * features[:, 1] * (1 + features[:, 3]) + np.log1p(features[:, 0]) - 3 + drawn.normal(0, 1, count)
    return features, (liking > 0).astype(np.int64), items


class OneModel:
    def __init__(self, artifact: bytes) -> None:
        self.artifact = artifact

    def load_artifact(self, name: str, version: int) -> bytes:
        return self.artifact


def _forest(folder: Path) -> TrainedModel:
    features, labels, _ = _rows(600, 1)
    file = folder / "rows.csv"
    with file.open("w", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow([*NAMES, "label"])
        writer.writerows([*map(repr, row), CLASSES[label]] for row, label in zip(features.tolist(), labels, strict=True))
    data = load_tabular(file)
    return train_tabular(data, name="forest", source="rows.csv", clock=SystemClock(), trees=20, depth=6, transforms=DECLARED)


def _linear() -> TrainedModel:
    features, labels, _ = _rows(600, 2)

    def fit(columns: Float32) -> FittedModel:
        return fit_linear(columns, labels, CLASSES, positive="stays")

    model = fit_behind(DECLARED, features, NAMES, fit)
    tags = {"transforms_sha256": model.transforms.sha256}
    return TrainedModel("linear", model, model.to_onnx(), NAMES, {"accuracy": 0.0}, {"source": "test"}, timedelta(), tags)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, TrainedModel]:
    return {model.name: model for model in (_forest(tmp_path_factory.mktemp("rows")), _linear())}


@pytest.mark.parametrize("name", ["forest", "linear"])
def test_one_graph_from_raw_features_to_probabilities(models: dict[str, TrainedModel], name: str) -> None:
    model = models[name]
    rows, _, _ = _rows(2000, 99)
    served = load_model(ModelKey(name, 1), OneModel(model.artifact))
    answer, wanted = served.probabilities(rows), model.fitted.probabilities(rows)
    assert np.abs(answer - wanted).max() < PARITY
    assert served.signature.n_features == len(NAMES)
    for size in (1, 7, 500):
        np.testing.assert_array_equal(served.probabilities(rows[:size]), answer[:size])
    assert isinstance(model.fitted, Transformed)
    assert read_transforms(model.artifact) == model.fitted.transforms
    assert model.fitted.to_onnx() == type(model.fitted)(model.fitted.transforms, model.fitted.inner).to_onnx()
    assert model.tags["transforms_sha256"] == model.fitted.transforms.sha256


def test_trees_behind_transformations_are_explained_by_asking_them(models: dict[str, TrainedModel]) -> None:
    import onnx

    artifact = models["forest"].artifact
    assert read_trees(onnx.load_model_from_string(artifact)) is None, "its trees do not ask the row's own features"
    background = read_background(artifact, read_signature(artifact, name="forest"), name="forest")
    assert background is not None
    assert background.shape[1] == len(NAMES)


def test_transformations_are_fitted_on_training_rows_only(tmp_path: Path) -> None:
    """The rows that are kept to measure on change nothing of what was fitted."""
    features, labels, _ = _rows(200, 3)
    from learning.labelled import LabelledRows
    from learning.tabular import TabularData, _divide

    data = TabularData(features, labels, CLASSES, NAMES, "x")
    model = train_tabular(data, name="m", source="s", clock=SystemClock(), trees=2, depth=2, transforms=DECLARED)
    train, kept = _divide(LabelledRows(features, labels, CLASSES), 0)
    assert kept is not None
    z = json.loads(model.fitted.transforms.to_json())["steps"][1]["parameters"]  # type: ignore[attr-defined]  # Transformed
    assert z["shift"][1] == pytest.approx(float(train.features[:, 1].mean()), rel=1e-5)
    assert z["shift"][1] != pytest.approx(float(features[:, 1].mean()), rel=1e-5)


VIEW = """
CREATE MATERIALIZED VIEW predicted_{name} AS
SELECT id, (p).label AS label, (p).score AS score, (p).error ->> 'code' AS code
FROM (
    SELECT id, predict('{route}'::JSONB, id::VARCHAR, ARRAY[count_24h, sum_value_24h, hour_of_day, is_weekend, item_code]) AS p
    FROM (
        SELECT id, count_24h, sum_value_24h, hour_of_day, is_weekend, {code}::DOUBLE PRECISION AS item_code FROM shop
    ) AS vectors
) AS answers
"""


def test_predict_in_sql_gives_what_python_gives(models: dict[str, TrainedModel], tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    registry: Registry = open_registry(tmp_path / "data")
    versions = register(registry, models.values())  # type: ignore[arg-type]  # learning asks for **properties
    for name, (version,) in versions.items():
        assert registry.must_get(name, version).tags["transforms_sha256"] == models[name].tags["transforms_sha256"]
    rows, _, items = _rows(300, 4)
    items[0] = "item_never_seen"
    rows[0, 4] = text_code(items[0])
    udf, engine = UdfProcess(tmp_path / "data"), EngineProcess(tmp_path / "engine")
    engine.start()
    udf.start()
    assert engine.await_port()
    try:
        with engine.connect() as connection:

            def run(sql: str) -> None:
                connection.execute(sql)  # type: ignore[call-overload]  # psycopg wants a literal

            run(
                "CREATE FUNCTION predict(route JSONB, key VARCHAR, features DOUBLE PRECISION[])"
                " RETURNS STRUCT<label VARCHAR, score DOUBLE PRECISION, members JSONB, error JSONB>"
                f" AS predict USING LINK '{udf.url}'"
            )
            columns = ", ".join(f"{name} DOUBLE PRECISION" for name in NAMES[:4])
            run(f"CREATE TABLE shop (id INT PRIMARY KEY, {columns}, item VARCHAR)")
            for name, (version,) in versions.items():
                run(VIEW.format(name=name, route=route_of(name, version), code=text_code_sql("item")))
            listed = ", ".join(
                f"({i}, {', '.join(repr(float(v)) for v in row[:4])}, '{item}')"
                for i, (row, item) in enumerate(zip(rows, items, strict=True))
            )
            run(f"INSERT INTO shop VALUES {listed}, (999, NULL, 1, 1, 1, 'item_1')")
            run("FLUSH")
            for name in versions:
                found = query(connection, f"SELECT id, label, score, code FROM predicted_{name} ORDER BY id")
                assert found[-1] == (999, None, None, "null_feature")
                wanted = models[name].fitted.probabilities(rows)[:, 1]
                scores = np.array([score for _, _, score, _ in found[:-1]], np.float64)
                assert np.abs(scores - wanted).max() < PARITY
                assert [label for _, label, _, _ in found[:-1]] == [CLASSES[int(p > 0.5)] for p in wanted]
    finally:
        engine.stop()
        udf.stop()
