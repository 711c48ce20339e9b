"""Explanations against the `shap` library, against all coalitions, and against their own bounds."""

from __future__ import annotations

import numpy as np
import onnx
import pyarrow as pa
import pytest

from core.clock import SystemClock
from learning import vision
from learning.background import with_background
from learning.models.convolution import fit_convolution
from learning.models.linear import fit_linear
from learning.models.trees import Trees, fit_gradient_boosting, fit_random_forest
from udfs.artifact import read_background, read_signature
from udfs.explanations.explainer import Explainers, Explanation
from udfs.explanations.functions import ExplainFunction, SaliencyFunction
from udfs.explanations.occlusion import occlusion
from udfs.explanations.sampled_shap import Budget, sampled_shap
from udfs.explanations.tree_shap import tree_shap
from udfs.explanations.trees import TreeEnsemble, read_trees
from udfs.route import ModelKey, RowError
from udfs.sessions import ModelSessions

SEEDS = range(40)


class StoppedClock(SystemClock):
    """Time that passes only when told."""

    def __init__(self, step: float = 0.0) -> None:
        self.step, self.time = step, 0.0

    def monotonic_seconds(self) -> float:
        self.time += self.step
        return self.time


def _rows(n: int, seed: int = 0, width: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, width)).astype(np.float32)


FEATURES = _rows(1500)
LABELS = (FEATURES[:, 0] + FEATURES[:, 1] ** 2 * FEATURES[:, 3] > 0.5).astype(np.int64)
THREE = np.digitize(FEATURES[:, 0] * FEATURES[:, 2], [-0.3, 0.3]).astype(np.int64)
FITS = {
    "boosting": lambda: fit_gradient_boosting(FEATURES, LABELS, ("no", "yes"), positive="yes", seed=0),
    "forest": lambda: fit_random_forest(FEATURES, LABELS, ("no", "yes"), positive="yes", seed=0, trees=100),
    "forest of three classes": lambda: fit_random_forest(FEATURES, THREE, ("a", "b", "c"), positive=None, seed=0),
}


def _ensemble(model: Trees) -> TreeEnsemble:
    found = read_trees(onnx.load_model_from_string(model.to_onnx()))
    assert found is not None
    return found


@pytest.mark.parametrize("kind", FITS)
def test_tree_shap_equals_the_shap_library_to_a_millionth(kind: str) -> None:
    import shap

    model, unseen = FITS[kind](), _rows(60, seed=1)
    ensemble = _ensemble(model)
    theirs = shap.TreeExplainer(model.estimator)
    expected = np.asarray(theirs.shap_values(unseen))
    ours = tree_shap(ensemble, unseen)
    if expected.ndim == 2:  # boosting of two classes: the log odds of the second one
        assert np.abs(ours[:, :, 0] + expected).max() < 1e-6
        ours = ours[:, :, 1]
    assert np.abs(ours - expected).max() < 1e-6
    assert np.abs(ensemble.base[-len(np.atleast_1d(theirs.expected_value)) :] - theirs.expected_value).max() < 1e-6


@pytest.mark.parametrize("kind", FITS)
def test_base_and_contributions_of_trees_sum_to_the_score(kind: str) -> None:
    model, unseen = FITS[kind](), _rows(60, seed=2)
    ensemble = _ensemble(model)
    score = ensemble.base + tree_shap(ensemble, unseen).sum(axis=1)
    p = model.probabilities(unseen)
    expected = np.log(p / (1 - p)) if ensemble.unit == "log_odds" else p
    assert score == pytest.approx(expected, abs=1e-5)


def test_trees_without_visits_are_not_explained_by_paths() -> None:
    model = onnx.load_model_from_string(FITS["boosting"]().to_onnx())
    (visits,) = (a for node in model.graph.node for a in node.attribute if a.name == "nodes_hitrates")
    visits.floats[:] = [1.0] * len(visits.floats)
    assert read_trees(model) is None


def _score(rows: np.ndarray) -> np.ndarray:
    """Not additive, not monotone, in [0, 1]."""
    z = rows[:, 0] * rows[:, 1] + np.sin(3 * rows[:, 2]) + 0.5 * rows[:, 3] - (rows[:, 4] > 1.0) * rows[:, 5]
    return (1 / (1 + np.exp(-z.astype(np.float64)))).astype(np.float64)


def _exact(row: np.ndarray, background: np.ndarray) -> np.ndarray:
    found = sampled_shap(_score, row, background, budget=Budget(evaluations=1 << 20), seed=0, clock=StoppedClock())
    assert found.method == "exact"
    assert (found.half_widths == 0).all()
    return found.contributions


def test_all_coalitions_equal_the_shap_librarys_exact_explainer() -> None:
    import shap

    background, row = _rows(16, seed=3), _rows(1, seed=4)[0]
    theirs = shap.explainers.Exact(_score, shap.maskers.Independent(background, max_samples=100))(row[None])
    assert _exact(row, background) == pytest.approx(theirs.values[0], abs=1e-6)  # it averages in float32


def test_sampled_values_stay_within_their_stated_bounds_as_often_as_stated() -> None:
    background = _rows(16, seed=5)
    within, within_bound, widths, bounds = [], [], [], []
    for seed in SEEDS:
        row = _rows(1, seed=100 + seed)[0]
        exact = _exact(row, background)
        found = sampled_shap(_score, row, background, budget=Budget(evaluations=2_048), seed=seed, clock=StoppedClock())
        assert found.method == "permutation"
        assert found.evaluations <= 2_048
        off = np.abs(found.contributions - exact)
        within += (off <= found.half_widths + 1e-9).tolist()
        within_bound.append(off.max() <= found.bound)
        widths.append(found.half_widths.max())
        bounds.append(found.bound)
    # 320 intervals of 95 %: fewer than 290 inside would be a one in 10,000 event even if they just kept it.
    assert np.mean(within) >= 290 / 320
    assert all(within_bound)
    assert np.median(widths) < 0.05, "an interval that says nothing covers everything"
    assert max(bounds) < 0.5, "as above"


def test_more_samples_narrow_the_bounds_and_whole_rounds_sum_to_the_score() -> None:
    background, row = _rows(64, seed=6), _rows(1, seed=7)[0]
    few, many = (
        sampled_shap(_score, row, background, budget=Budget(evaluations=n), seed=0, clock=StoppedClock())
        for n in (2_000, 16_000)
    )
    assert few.half_widths.max() > 2 * many.half_widths.max()
    assert few.bound > many.bound
    for found in (few, many):
        assert found.base + found.contributions.sum() == pytest.approx(_score(row[None])[0], abs=1e-9)


def test_the_time_budget_ends_sampling_early_and_the_bounds_say_so() -> None:
    background, row = _rows(500, seed=8), _rows(1, seed=9)[0]
    free = sampled_shap(_score, row, background, budget=Budget(100_000, 1.0), seed=0, clock=StoppedClock())
    short = sampled_shap(_score, row, background, budget=Budget(100_000, 1.0), seed=0, clock=StoppedClock(step=0.6))
    assert short.evaluations < free.evaluations / 5
    assert short.bound > free.bound


class Stored:
    """Models in memory, version 1 each; counts what is fetched."""

    def __init__(self, **artifacts: bytes) -> None:
        self.artifacts = artifacts
        self.fetched = 0

    def load_artifact(self, name: str, version: int) -> bytes:
        self.fetched += 1
        return self.artifacts[name]


@pytest.fixture(scope="module")
def stored() -> Stored:
    linear = fit_linear(FEATURES, LABELS, ("no", "yes"), positive="yes").to_onnx()
    return Stored(
        boosting=with_background(FITS["boosting"]().to_onnx(), FEATURES, seed=0),
        linear=with_background(linear, FEATURES, seed=0),
        bare=linear,
    )


def _explainers(stored: Stored) -> Explainers:
    return Explainers(stored, ModelSessions(stored), clock=StoppedClock())


def _ask(function: ExplainFunction | SaliencyFunction, columns: list[object]) -> list[dict[str, object]]:
    arrays = [pa.array(column, field.type) for column, field in zip(columns, function._input_schema, strict=True)]
    (answer,) = function.eval_batch(pa.RecordBatch.from_arrays(arrays, schema=function._input_schema))
    return answer.column(0).to_pylist()


def test_explain_answers_each_row_and_a_bad_one_alone(stored: Stored) -> None:
    function, rows = ExplainFunction(_explainers(stored)), _rows(3, seed=10).tolist()
    names = ["boosting", "linear", "bare", "linear", "linear", None]
    vectors = [rows[0], rows[0], rows[0], [1.0], [float("nan")] * 8, rows[0]]
    answers = _ask(function, [names, [1] * len(names), vectors])
    assert [each["method"] for each in answers] == ["tree", "permutation", None, None, None, None]
    codes = [None if each["error"] is None else each["error"]["code"] for each in answers]  # type: ignore[index]
    assert codes == [None, None, "no_background", "wrong_length", "non_finite_feature", "null_argument"]
    assert [each["unit"] for each in answers[:2]] == ["log_odds", "probability"]
    linear = answers[1]
    score = fit_linear(FEATURES, LABELS, ("no", "yes"), positive="yes").probabilities(_rows(3, seed=10)[:1])[0, 1]
    assert linear["base"] + sum(linear["contributions"]) == pytest.approx(score, abs=linear["bound"])  # type: ignore[operator,arg-type]


def test_a_row_is_explained_once_and_the_same_whoever_asks(stored: Stored) -> None:
    key, rows = ModelKey("linear", 1), _rows(3, seed=11)
    first = _explainers(stored)
    answers = first.explain(key, rows)
    again = first.explain(key, rows[::-1].copy())
    assert (first.hits, first.misses) == (3, 3)
    elsewhere = _explainers(stored).explain(key, rows[1:2])
    for one, other in ((answers[1], again[1]), (answers[1], elsewhere[0])):
        assert isinstance(one, Explanation)
        assert isinstance(other, Explanation)
        assert np.array_equal(one.contributions, other.contributions)


def test_a_background_that_is_no_array_of_rows_is_refused(stored: Stored) -> None:
    artifact = stored.artifacts["linear"]
    signature = read_signature(artifact, name="linear")
    kept = read_background(artifact, signature, name="linear")
    assert kept is not None
    assert kept.shape == (32, 8)
    assert all((row == FEATURES).all(axis=1).any() for row in kept), "they are rows of the training data"
    broken = onnx.load_model_from_string(artifact)
    next(entry for entry in broken.metadata_props if entry.key == "headrace.background").value = "AAAA"
    with pytest.raises(Exception, match="no base64 of float32 rows of 8"):
        read_background(broken.SerializeToString(), signature, name="linear")


def test_covering_finds_the_pixels_that_decide() -> None:
    image = np.zeros((5, 6), np.float32)
    image[1, 4] = 1.0
    base, values = occlusion(
        lambda rows: rows[:, 10].astype(np.float64), image.reshape(-1), np.zeros(30, np.float32), width=6, patch=1
    )
    assert base == 1.0
    assert values.reshape(5, 6).nonzero() == (np.array([1]), np.array([4]))
    _, smooth = occlusion(
        lambda rows: rows[:, 10].astype(np.float64), image.reshape(-1), np.zeros(30, np.float32), width=6, patch=2
    )
    assert smooth.max() == smooth[10]
    assert smooth.reshape(5, 6)[1, 4] == 1.0


def test_saliency_of_a_digit_lies_on_its_strokes() -> None:
    images = vision.load_vision()
    train, stream = vision.vision_rows(images.train), vision.vision_rows(images.stream)
    model = fit_convolution(train.features, train.labels, vision.CLASSES, seed=0)
    source = Stored(digits=with_background(model.to_onnx(), train.features, seed=0))
    pixels = stream.features.shape[1]
    width = int(pixels**0.5)
    function = SaliencyFunction(Explainers(source, ModelSessions(source)))
    n = 40
    answers = _ask(
        function,
        [
            ["digits"] * (n + 2),
            [1] * (n + 2),
            [*stream.features[:n].tolist(), [1.0], stream.features[0].tolist()],
            [width] * (n + 1) + [7],
            [2] * (n + 2),
        ],
    )
    assert [each["error"]["code"] for each in answers[n:]] == ["wrong_length", "invalid_image"]  # type: ignore[index]
    # The class's probability must fall more where the most salient quarter is covered than where the least salient is.
    falls = []
    for image, answer in zip(stream.features[:n], answers, strict=False):
        label = vision.CLASSES.index(str(answer["label"]))
        order = np.argsort(answer["saliency"])  # type: ignore[arg-type]
        covered = np.tile(image, (2, 1))
        for row, places in enumerate((order[-pixels // 4 :], order[: pixels // 4])):
            covered[row, places] = train.features.mean(axis=0)[places]
        p = model.probabilities(covered)[:, label]
        falls.append(p[1] - p[0])
    assert np.mean(falls) > 0.3


def test_what_cannot_be_loaded_is_a_typed_error(artifacts, make_route) -> None:  # type: ignore[no-untyped-def]
    explainers = Explainers(artifacts, ModelSessions(artifacts))
    (answer,) = explainers.explain(ModelKey("pickled", 1), np.zeros((1, 3), np.float32))
    assert isinstance(answer, RowError)
    assert answer.code == "model_rejected"
