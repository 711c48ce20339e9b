"""Fitted transformations: the same numbers in Python, in the graph and in SQL, on random rows and on every edge."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnxruntime
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx import TensorProto, helper, numpy_helper
from sklearn.preprocessing import KBinsDiscretizer, MinMaxScaler, PolynomialFeatures, StandardScaler

from core.errors import InvalidInputError
from learning.models.kind import IR_VERSION, OPSET
from learning.transforms.declaration import Declaration, read_declaration
from learning.transforms.embedding import CODES, text_code, text_code_sql
from learning.transforms.fitted import FittedTransforms, fit_transforms
from tests.property.engine.harness import EngineBox

NAMES = ("amount", "level", "constant", "code", "other")
EVERYTHING = """
transforms:
  - {kind: log, of: [amount, constant]}
  - {kind: normalize, of: [log_amount, level, constant], method: z_score}
  - {kind: normalize, of: [level], method: min_max, clip: true}
  - {kind: binning, of: [level], method: equal_width, bins: 4}
  - {kind: binning, of: [amount], method: quantile, bins: 5, one_hot: true}
  - {kind: binning, of: [other], method: edges, edges: [-1, 0, 2.5]}
  - {kind: embedding, of: [code]}
  - {kind: embedding, of: [other], method: lookup, dim: 3, vectors: {1: [1, 2, 3], 4: [0.5, 0.25, 0.125]}}
  - {kind: polynomial, of: [level, other], degree: 3}
  - {kind: interaction, of: [amount, level, constant]}
keep: [amount, other]
"""
IN_SQL = "\n".join(line for line in EVERYTHING.splitlines() if "embedding" not in line)

TOLERANCE = 1e-6  # relative; in the graph nothing but logarithms may differ at all
PINNED = [0.2136949598789215, 0.08798368275165558, 0.07711467146873474]


def declared(text: str) -> Declaration:
    return Declaration.model_validate(yaml.safe_load(text))


def training_rows(rows: int = 500) -> Any:
    drawn = np.random.default_rng(5)
    columns = [
        drawn.lognormal(1, 2, rows), drawn.normal(3, 10, rows), np.full(rows, 7.0), drawn.integers(0, 5000, rows),
        drawn.integers(-2, 6, rows),
    ]  # fmt: skip
    return np.column_stack(columns).astype(np.float32)


@pytest.fixture(scope="module")
def fitted() -> FittedTransforms:
    return fit_transforms(declared(EVERYTHING), training_rows(), NAMES)


class Graph:
    def __init__(self, transforms: FittedTransforms) -> None:
        nodes, weights = transforms.nodes()
        graph = helper.make_graph(
            nodes,
            "alone",
            [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", len(transforms.features)])],
            [helper.make_tensor_value_info("transformed", TensorProto.FLOAT, ["batch", len(transforms.outputs)])],
            [numpy_helper.from_array(array, name) for name, array in weights.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
        self._session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])

    def run(self, features: Any) -> Any:
        return self._session.run(None, {"features": features})[0]


@pytest.fixture(scope="module")
def graph(fitted: FittedTransforms) -> Graph:
    return Graph(fitted)


def edges() -> Any:
    """Rows of NaN, infinities, zeros of both signs, the largest floats, edges of bins, categories nobody saw."""
    special = [
        np.nan, np.inf, -np.inf, 0.0, -0.0, -1.0, -0.5, 1e-30, 3.4e38, -3.4e38, 2.5, 4.0, 1.0, 7.0, CODES - 1, CODES, 4999.0, 12.5,
    ]  # fmt: skip
    rows = [[value] * len(NAMES) for value in special]
    rows += [[*row[:i], np.nan, *row[i + 1 :]] for row in training_rows(8).tolist() for i in range(len(NAMES))]
    return np.array(rows, np.float32)


def agree(one: Any, other: Any) -> None:
    np.testing.assert_allclose(one, other, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True)


@pytest.mark.parametrize("rows", [edges(), training_rows(1000)], ids=["edges", "rows"])
def test_the_graph_says_what_python_says(fitted: FittedTransforms, graph: Graph, rows: Any) -> None:
    agree(graph.run(rows), fitted.apply(rows))


@settings(max_examples=60, deadline=None)
@given(rows=arrays.arrays(np.float32, st.tuples(st.integers(0, 5), st.just(len(NAMES))), elements=st.floats(width=32)))
def test_the_graph_says_what_python_says_of_any_floats(fitted: FittedTransforms, graph: Graph, rows: Any) -> None:
    agree(graph.run(rows), fitted.apply(rows))


def test_no_row_one_row_and_a_row_among_others(fitted: FittedTransforms, graph: Graph) -> None:
    rows = np.vstack([training_rows(50), edges()])
    whole, in_graph = fitted.apply(rows), graph.run(rows)
    assert fitted.apply(rows[:0]).shape == graph.run(rows[:0]).shape == (0, len(fitted.outputs))
    for i in range(len(rows)):
        np.testing.assert_array_equal(fitted.apply(rows[i : i + 1]), whole[i : i + 1])
        np.testing.assert_array_equal(graph.run(rows[i : i + 1]), in_graph[i : i + 1])


def test_a_single_request_is_normalized_by_the_training_rows() -> None:
    """Document 004 fitted on the request: one row gave NaN."""
    z = fit_transforms(declared("transforms: [{kind: normalize, of: [a]}]"), np.array([[1], [3]], np.float32), ["a"])
    assert z.apply(np.array([[5]], np.float32)).tolist() == [[3.0]]


def test_scikit_learn_says_the_same() -> None:
    rows = training_rows()
    wide = rows.astype(np.float64)

    def of(text: str, columns: tuple[str, ...]) -> Any:
        chosen = [NAMES.index(name) for name in columns]
        return fit_transforms(declared(f"transforms: [{text}]"), rows[:, chosen], columns).apply(rows[:, chosen]), wide[
            :, chosen
        ]

    ours, x = of("{kind: normalize, of: [amount, level, constant]}", NAMES[:3])
    np.testing.assert_allclose(ours, StandardScaler().fit_transform(x), rtol=1e-4, atol=1e-6)
    ours, x = of("{kind: normalize, of: [amount, level, constant], method: min_max}", NAMES[:3])
    np.testing.assert_allclose(ours, MinMaxScaler().fit_transform(x), rtol=1e-4, atol=1e-6)
    ours, x = of("{kind: binning, of: [level], bins: 7}", ("level",))
    np.testing.assert_array_equal(
        ours, KBinsDiscretizer(7, encode="ordinal", strategy="uniform", subsample=None).fit_transform(x)
    )
    ours, x = of("{kind: polynomial, of: [level, other], degree: 3}", ("level", "other"))
    np.testing.assert_allclose(ours, PolynomialFeatures(3, include_bias=False).fit_transform(x)[:, 2:], rtol=1e-5)
    ours, x = of("{kind: interaction, of: [amount, level, other], degree: 3}", ("amount", "level", "other"))
    np.testing.assert_allclose(
        ours, PolynomialFeatures(3, interaction_only=True, include_bias=False).fit_transform(x)[:, 3:], rtol=1e-5
    )
    ours, x = of("{kind: log, of: [amount]}", ("amount",))
    np.testing.assert_allclose(ours, np.log1p(x), rtol=1e-5, atol=1e-7)


@pytest.fixture(scope="module")
def box() -> Iterator[EngineBox]:
    made = EngineBox()
    yield made
    made.close()


def test_sql_says_what_python_says(box: EngineBox) -> None:
    fitted = fit_transforms(declared(IN_SQL), training_rows(), NAMES)
    rows = np.vstack([training_rows(40), edges()])
    rows = rows[~(np.abs(rows) > 1e12).any(axis=1)]
    box.run(f"CREATE TABLE raw (n INT, {', '.join(f'{name} DOUBLE PRECISION' for name in NAMES)}) APPEND ONLY")
    box.run(fitted.view_sql("cooked", "raw", ["n"]))
    listed = ", ".join(
        f"({i}, {', '.join('NULL' if np.isnan(v) else repr(float(v)) for v in row)})" for i, row in enumerate(rows)
    )
    box.run(f"INSERT INTO raw VALUES {listed}; FLUSH")
    found = box.rows(f"SELECT {', '.join(fitted.outputs)} FROM cooked ORDER BY n")
    in_sql = np.array([[np.nan if value is None else value for value in row] for row in found])
    assert len(in_sql) > 60
    agree(in_sql, fitted.apply(rows))


def test_an_embedding_in_sql_is_refused(fitted: FittedTransforms) -> None:
    with pytest.raises(InvalidInputError, match="is no SQL"):
        fitted.sql()


def test_the_code_of_a_text_is_the_same_in_sql(box: EngineBox) -> None:
    texts = ["", "item_50", "schön", "💧", "x" * 1000]
    box.run("CREATE TABLE texts (n INT, t VARCHAR) APPEND ONLY")
    box.run(f"INSERT INTO texts VALUES {', '.join(f'({i}, {text!r})' for i, text in enumerate(texts))}, (9, NULL); FLUSH")
    found = [code for (code,) in box.rows(f"SELECT {text_code_sql('t')} FROM texts ORDER BY n")]
    assert found == [*map(text_code, texts), None]
    assert all(0 <= code < CODES for code in found[:-1])


def test_vectors_are_the_same_for_ever() -> None:
    rows = np.array([[3], [3 + 1024], [4], [np.nan], [-1], [0.5], [CODES]], np.float32)
    hashed = fit_transforms(declared("transforms: [{kind: embedding, of: [c]}]"), rows[:1], ["c"]).apply(rows)
    assert hashed.shape == (7, 50)
    np.testing.assert_array_equal(hashed[0], hashed[1])  # one bucket
    assert not np.array_equal(hashed[0], hashed[2])
    assert not hashed[3:].any(), "what is no category is unknown"
    assert hashed[0, :3].tolist() == PINNED
    assert 0.7 < np.linalg.norm(hashed[0]) < 1.3


def test_a_category_that_training_never_saw_is_unknown_to_a_lookup() -> None:
    declared_ = declared("transforms: [{kind: embedding, of: [c], method: lookup, dim: 4}]")
    lookup = fit_transforms(declared_, np.array([[5], [2], [5]], np.float32), ["c"])
    answer = lookup.apply(np.array([[2], [5], [3], [9], [np.nan]], np.float32))
    assert answer[:2].all()
    assert not answer[2:].any()


def test_equal_fits_have_equal_texts_and_come_back_from_them(fitted: FittedTransforms) -> None:
    again = fit_transforms(declared(EVERYTHING), training_rows(), NAMES)
    other = fit_transforms(declared(EVERYTHING), training_rows(400), NAMES)
    back = FittedTransforms.from_json(fitted.to_json())
    assert again.sha256 == fitted.sha256 == back.sha256 != other.sha256
    np.testing.assert_array_equal(back.apply(edges()), fitted.apply(edges()))
    with pytest.raises(InvalidInputError, match="format 0"):
        FittedTransforms.from_json(json.dumps({**json.loads(fitted.to_json()), "format": 0}))


WRONG = {
    "embedding that is random": ("{kind: embedding, of: [a], method: random}", "method"),
    "no such column": ("{kind: log, of: [b]}", "no column `b`"),
    "logarithm of what training has none for": ("{kind: log, of: [a], offset: 0}", "no value there"),
    "twice": ("{kind: log, of: [a]}, {kind: log, of: [a]}", "there already"),
    "edges that do not ascend": ("{kind: binning, of: [a], method: edges, edges: [2, 1]}", "do not ascend"),
    "two columns into bins": ("{kind: binning, of: [a, a]}", "one column"),
    "a vector of another length": ("{kind: embedding, of: [a], method: lookup, dim: 2, vectors: {1: [1]}}", "has not 2"),
    "no product": ("{kind: interaction, of: [a]}", "0 products"),
    "an unknown key": ("{kind: log, of: [a], base: 2}", "base"),
    "an unknown kind": ("{kind: sqrt, of: [a]}", "kind"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said(name: str, tmp_path: Any) -> None:
    text, told = WRONG[name]
    file = tmp_path / "transforms.yaml"
    file.write_text(f"transforms: [{text}]")
    with pytest.raises(InvalidInputError, match=told):
        fit_transforms(read_declaration(file), np.array([[0], [1]], np.float32), ["a"])


def test_training_rows_must_be_there_and_finite() -> None:
    for rows in (np.empty((0, 1)), np.array([[np.inf]])):
        with pytest.raises(InvalidInputError, match="training rows"):
            fit_transforms(declared("transforms: [{kind: log, of: [a]}]"), rows.astype(np.float32), ["a"])
