"""The second opinion on scores equals the router's, and the recordings' model equals its graph."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pyarrow as pa
import pytest

from core.errors import InvalidInputError, NotFoundError
from headrace.demo.csv_files import read_file, read_folder
from headrace.demo.rescore import Answer, RouteMember, rescore
from learning.models.principal_residual import fit_residual
from udfs.predict import predict
from udfs.sessions import ModelSessions

RNG = np.random.default_rng(5)
NORMAL = RNG.normal(size=(300, 6)).astype(np.float32) @ RNG.normal(size=(6, 6)).astype(np.float32)


class Shelf:
    """Two models under one name."""

    def __init__(self) -> None:
        self._models = {1: fit_residual(NORMAL[:200]).to_onnx(), 2: fit_residual(NORMAL[100:] * 2).to_onnx()}

    def load_artifact(self, name: str, version: int) -> bytes:
        assert name == "m"
        return self._models[version]


def test_the_second_opinion_equals_the_router() -> None:
    rows: list[list[float | None]] = [[float(value) for value in row] for row in NORMAL[:50] * 3]
    rows[7][2] = None
    members = [RouteMember("m", 1, 0.7), RouteMember("m", 2, 0.9)]
    route = {
        "strategy": "ensemble_mean",
        "members": [
            {"model": m.model, "version": m.version, "role": "champion", "weight": m.weight, "fraction": None} for m in members
        ],
    }
    served = predict(
        pa.array([json.dumps(route)] * 50), pa.array(["k"] * 50), pa.array(rows, pa.list_(pa.float64())), ModelSessions(Shelf())
    ).to_pylist()
    second = rescore(rows, members, Shelf())
    assert second[7] == Answer(None, None)
    assert served[7]["score"] is None
    assert {answer.label for answer in second} == {"normal", "anomaly", None}
    for ours, theirs in zip(second, served, strict=True):
        assert ours.label == theirs["label"]
        assert ours.score == pytest.approx(theirs["score"], abs=1e-6)


def test_the_residual_model_computes_as_its_graph_does() -> None:
    model = fit_residual(NORMAL)
    rows = NORMAL * np.float32(2.5)
    (answered,) = ort.InferenceSession(model.to_onnx()).run(["probabilities"], {"features": rows})
    np.testing.assert_allclose(answered, model.probabilities(rows), atol=2e-6)
    assert (model.probabilities(NORMAL)[:, 1] > 0.5).mean() < 0.02
    assert (model.probabilities(NORMAL + 30)[:, 1] > 0.5).all()


def test_both_shapes_of_recordings_are_read(tmp_path: Path) -> None:
    skab = ["datetime;a;b;anomaly;changepoint"] + [f"2026-01-01 00:00:{i % 60:02};1.5;;{i % 2}.0;0.0" for i in range(100)]
    nab = ["timestamp,value"] + [f"2026-01-01 {i % 24:02}:00:00,{i}" for i in range(100)]
    (tmp_path / "a.csv").write_text("\n".join(skab))
    (tmp_path / "b.csv").write_text("\n".join(nab))
    (tmp_path / "windows.json").write_text('{"b.csv": [["2026-01-01 03:00:00", "2026-01-01 04:00:00"]]}')
    first, second = read_folder(tmp_path)
    assert (first.tenant, first.channels, first.cells[0], first.train_rows) == ("a", ("a", "b"), ("1.5", ""), 35)
    assert first.anomalous is not None
    assert first.anomalous[:3] == [False, True, False]
    assert (second.channels, second.train_rows) == (("value",), 20)
    assert second.anomalous is not None
    assert second.anomalous[2:6] == [False, True, True, False]


def test_a_file_of_another_shape_is_refused_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    with pytest.raises(InvalidInputError, match=r"`x,y` is not recognised \(at .*a.csv:1\)"):
        read_folder(tmp_path)
    rows = "\n".join(["timestamp,value", "2026-01-01,1,2"])
    (tmp_path / "a.csv").write_text(rows)
    with pytest.raises(InvalidInputError, match=r"3 cells.*a.csv:2"):
        read_file(tmp_path / "a.csv")
    with pytest.raises(NotFoundError):
        read_folder(tmp_path / "absent")
