"""Explains rows of any model version: trees by their paths, all others by asking them; the same row is explained once.

An explanation is a function of the model version and the features (orders are drawn from their hash), so what is remembered
is what would be computed again.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import numpy.typing as npt
import onnx

from core.clock import Clock, SystemClock
from udfs.artifact import read_background
from udfs.explanations.occlusion import occlusion
from udfs.explanations.sampled_shap import Budget, sampled_shap
from udfs.explanations.tree_shap import tree_shap
from udfs.explanations.trees import TreeEnsemble, read_trees
from udfs.route import ModelKey, RowError
from udfs.sessions import ArtifactSource, LoadedModel, ModelSessions

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Explanation:
    """Why one row got its score.

    Attributes:
        label: the class whose score is explained: the positive one, or the most probable one of several.
        unit: of base and contributions, `probability` or `log_odds`.
        method: `tree` and `exact` are exact, `permutation` is sampled.
        contributions: float64[n]; with the base they sum to the score.
        half_widths: float64[n], 95 % each; 0 where exact.
        bound: 95 % for all features at once.
    """

    label: str
    unit: str
    method: str
    base: float
    contributions: Float64
    half_widths: Float64
    bound: float


@dataclass(frozen=True)
class Saliency:
    """How much each pixel speaks for the class; `values` is float64[pixels]."""

    label: str
    score: float
    values: Float64


@dataclass(frozen=True)
class _Readied:
    """A model and what explains it."""

    model: LoadedModel
    trees: TreeEnsemble | None
    background: Float32 | None


class Explainers:
    """Explanations of one process.

    Args:
        source: where the artifacts come from.
        sessions: run the models, within the thread budget.
        budget: of one sampled row.
        remembered: how many explanations are kept.
        models: how many models are kept readied.
        clock: guards the budget's seconds.
    """

    def __init__(
        self,
        source: ArtifactSource,
        sessions: ModelSessions,
        *,
        budget: Budget | None = None,
        remembered: int = 10_000,
        models: int = 16,
        clock: Clock | None = None,
    ) -> None:
        self._source, self._sessions = source, sessions
        self._budget = budget or Budget()
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._readied: OrderedDict[ModelKey, _Readied] = OrderedDict()
        self._models = models
        self._known: OrderedDict[tuple[ModelKey, bytes], Explanation] = OrderedDict()
        self._remembered = remembered
        self.hits = 0
        self.misses = 0

    def explain(self, key: ModelKey, features: Float32) -> list[Explanation | RowError]:
        """Explain each row.

        Args:
            features: float32[rows, n], finite.

        Raises:
            UnavailableError: the registry does not answer.
        """
        ready = self._get(key)
        if isinstance(ready, RowError):
            return [ready] * len(features)
        width = ready.model.signature.n_features
        if features.shape[1] != width:
            error = RowError("wrong_length", f"Model `{key}` takes {width} features, the row has {features.shape[1]}.")
            return [error] * len(features)
        hashes = [blake2b(row.tobytes(), digest_size=16).digest() for row in features]
        found: list[Explanation | RowError | None] = [self._recall(key, each) for each in hashes]
        missing = [i for i, each in enumerate(found) if each is None]
        if missing:
            fresh: Sequence[Explanation | RowError] = self._explain_all(
                ready, np.ascontiguousarray(features[missing]), [hashes[i] for i in missing]
            )
            for i, explanation in zip(missing, fresh, strict=True):
                found[i] = explanation
                if isinstance(explanation, Explanation):
                    self._remember(key, hashes[i], explanation)
        return [each for each in found if each is not None]

    def saliency(self, key: ModelKey, image: Float32, *, width: int, patch: int) -> Saliency | RowError:
        """Cover the parts of one image, float32[pixels]; raises as `explain`."""
        ready = self._get(key)
        if isinstance(ready, RowError):
            return ready
        pixels = ready.model.signature.n_features
        if len(image) != pixels:
            return RowError("wrong_length", f"Model `{key}` takes {pixels} pixels, the image has {len(image)}.")
        if width < 1 or pixels % width or not 1 <= patch <= min(width, pixels // width):
            message = f"{pixels} pixels are no rows of {width} that hold a patch of {patch} x {patch}."
            return RowError("invalid_image", message)
        cover = np.zeros(pixels, np.float32) if ready.background is None else ready.background.mean(axis=0)
        label = _label(ready.model, self._sessions.run(ready.model, image[None]))[0]
        score, values = occlusion(lambda rows: self._scores(ready.model, rows, label), image, cover, width=width, patch=patch)
        return Saliency(ready.model.signature.classes[label], score, values)

    def _explain_all(self, ready: _Readied, features: Float32, hashes: Sequence[bytes]) -> list[Explanation] | list[RowError]:
        model = ready.model
        if ready.trees is None and ready.background is None:
            message = (
                f"Model `{model.key}` carries no background rows to compare with;"
                " export it with `learning.background.with_background`."
            )
            return [RowError("no_background", message)] * len(features)
        labels = _label(model, self._sessions.run(model, features))
        classes = model.signature.classes
        if ready.trees is not None:
            contributions = tree_shap(ready.trees, features)
            none = np.zeros(features.shape[1])
            return [
                Explanation(classes[c], ready.trees.unit, "tree", float(ready.trees.base[c]), each[:, c], none, 0.0)
                for c, each in zip(labels, contributions, strict=True)
            ]
        assert ready.background is not None, "checked above"
        found = []
        for row, label, digest in zip(features, labels, hashes, strict=True):
            estimate = sampled_shap(
                lambda rows, label=label: self._scores(model, rows, label),  # type: ignore[misc]  # bound at once
                row,
                ready.background,
                budget=self._budget,
                seed=int.from_bytes(digest, "big"),
                clock=self._clock,
            )
            found.append(
                Explanation(
                    classes[label],
                    "probability",
                    estimate.method,
                    estimate.base,
                    estimate.contributions,
                    estimate.half_widths,
                    estimate.bound,
                )
            )
        return found

    def _scores(self, model: LoadedModel, rows: Float32, label: int) -> Float64:
        return self._sessions.run(model, rows)[:, label].astype(np.float64)

    def _get(self, key: ModelKey) -> _Readied | RowError:
        model = self._sessions.get(key)
        if isinstance(model, RowError):
            return model
        with self._lock:
            ready = self._readied.get(key)
            if ready is not None:
                self._readied.move_to_end(key)
                return ready
        artifact = self._source.load_artifact(key.model, key.version)
        trees = read_trees(onnx.load_model_from_string(artifact))
        ready = _Readied(model, trees, read_background(artifact, model.signature, name=str(key)))
        with self._lock:
            self._readied[key] = ready
            while len(self._readied) > self._models:
                self._readied.popitem(last=False)
        return ready

    def _recall(self, key: ModelKey, digest: bytes) -> Explanation | None:
        with self._lock:
            found = self._known.get((key, digest))
            if found is None:
                self.misses += 1
            else:
                self.hits += 1
                self._known.move_to_end((key, digest))
            return found

    def _remember(self, key: ModelKey, digest: bytes, explanation: Explanation) -> None:
        with self._lock:
            self._known[key, digest] = explanation
            while len(self._known) > self._remembered:
                self._known.popitem(last=False)


def _label(model: LoadedModel, probabilities: Float32) -> list[int]:
    """The explained class of each row."""
    positive = model.signature.positive_index
    if positive is not None:
        return [positive] * len(probabilities)
    return [int(i) for i in probabilities.argmax(axis=1)]
