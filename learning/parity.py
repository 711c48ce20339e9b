"""How far an ONNX graph is from the Python model it came from, for every kind: `python -m learning.parity`.

    python -m learning.parity --page > docs/reference/models.md      writes the reference page

Each kind is trained on one simulated fleet, or on digits, and both sides answer rows that it never saw. What is compared are all
probabilities, as the UDF server computes them. The promise of a kind is the bound that a test holds on every machine; it leaves
room for other processors, which sum in another order.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
from threadpoolctl import threadpool_limits

from learning import plant, plant_sequences, vision
from learning.labelled import LabelledRows
from learning.models.convolution import fit_convolution
from learning.models.convolution_1d import fit_convolution_1d
from learning.models.echo_state import fit_echo_state
from learning.models.hybrid import fit_hybrid
from learning.models.isolation_forest import fit_isolation_forest
from learning.models.kind import FittedModel, Float32
from learning.models.level_band import fit_level_band, trailing_means
from learning.models.linear import fit_linear
from learning.models.principal_residual import fit_residual
from learning.models.recurrent import fit_recurrent
from learning.models.trees import fit_gradient_boosting, fit_random_forest
from udfs.route import ModelKey
from udfs.sessions import load_model

_DAY = datetime(2025, 1, 1, tzinfo=UTC)
_TABULAR = plant_sequences.LAYOUT.tabular
_POSITIVE = "faulty"


@dataclass(frozen=True)
class Data:
    """Rows that train, and rows that nothing was trained on: pumps, digits, and a process that drifts."""

    train: LabelledRows
    unseen: LabelledRows
    train_images: LabelledRows
    unseen_images: LabelledRows


@dataclass(frozen=True)
class Kind:
    """A kind of model: how it is trained, which rows it is asked, and what is promised.

    Attributes:
        source: what computes the Python side.
        promise: no probability differs by more.
    """

    name: str
    source: str
    promise: float
    fit: Callable[[Data], FittedModel]
    rows: Callable[[Data], Float32]


@dataclass(frozen=True)
class Parity:
    """What was measured for a kind."""

    kind: str
    source: str
    rows: int
    features: int
    classes: int
    largest_difference: float
    other_labels: int
    promise: float


def _all(data: Data) -> Float32:
    return data.unseen.features


def _tabular(data: Data) -> Float32:
    return np.ascontiguousarray(data.unseen.features[:, :_TABULAR])


def _images(data: Data) -> Float32:
    return data.unseen_images.features


def _labelled(fit: Callable[..., FittedModel], width: int | None = None, **more: object) -> Callable[[Data], FittedModel]:
    def trained(data: Data) -> FittedModel:
        rows = data.train
        return fit(rows.features[:, :width], rows.labels, rows.classes, positive=_POSITIVE, seed=0, **more)

    return trained


def _normal(data: Data) -> Float32:
    return data.train.features[data.train.labels == 0, :_TABULAR]


def _drifting(seed: int) -> Float32:
    """Four channels: quiet, drifting, jumping, constant."""
    random = np.random.default_rng(seed)
    quiet = 5 + random.normal(size=1000)
    drifting = 80 + np.cumsum(random.normal(scale=0.05, size=1000)) + random.normal(scale=0.1, size=1000)
    jumping = 32.0 + (random.random(1000) < 0.01)
    readings: Float32 = np.column_stack([quiet, drifting, jumping, np.zeros(1000)])
    return readings


def _band_rows(_data: Data) -> Float32:
    readings = _drifting(1)
    return np.column_stack([trailing_means(readings.astype(np.float64)), np.arange(1, len(readings) + 1)]).astype(np.float32)


_LAYOUT = plant_sequences.LAYOUT

KINDS: tuple[Kind, ...] = (
    Kind(
        "linear",
        "scikit-learn LogisticRegression",
        1e-5,
        lambda data: fit_linear(data.train.features, data.train.labels, data.train.classes, positive=_POSITIVE),
        _all,
    ),
    Kind("gradient_boosting", "scikit-learn GradientBoostingClassifier", 1e-5, _labelled(fit_gradient_boosting), _all),
    Kind("random_forest", "scikit-learn RandomForestClassifier", 1e-5, _labelled(fit_random_forest), _all),
    Kind(
        "isolation_forest",
        "scikit-learn IsolationForest",
        1e-5,
        lambda data: fit_isolation_forest(_normal(data), plant.CLASSES, positive=_POSITIVE, seed=0),
        _tabular,
    ),
    Kind("principal_residual", "NumPy (PCA)", 1e-5, lambda data: fit_residual(_normal(data)), _tabular),
    Kind("echo_state", "NumPy", 1e-5, _labelled(fit_echo_state, _TABULAR), _tabular),
    Kind("recurrent", "NumPy", 1e-5, _labelled(fit_recurrent, layout=_LAYOUT), _all),
    Kind("convolution_1d", "NumPy", 1e-5, _labelled(fit_convolution_1d, layout=_LAYOUT), _all),
    Kind(
        "convolution",
        "NumPy (2-D, images)",
        1e-5,
        lambda data: fit_convolution(data.train_images.features, data.train_images.labels, vision.CLASSES, seed=0),
        _images,
    ),
    Kind("hybrid", "NumPy", 1e-5, _labelled(fit_hybrid, layout=_LAYOUT), _all),
    Kind("level_band", "NumPy", 1e-5, lambda _data: fit_level_band(_drifting(0)[:400].astype(np.float64)), _band_rows),
)


def load_data() -> Data:
    """One simulated fleet to train on and one of another seed, and the digits."""
    images = vision.load_vision()
    return Data(
        _pumps(11, "training"), _pumps(12, "unseen"), vision.vision_rows(images.train), vision.vision_rows(images.stream)
    )


def measure(kinds: Sequence[Kind] = KINDS, data: Data | None = None) -> Iterator[Parity]:
    """Train each kind and compare both sides."""
    data = data or load_data()
    for kind in kinds:
        with threadpool_limits(1):
            model = kind.fit(data)
        rows = kind.rows(data)
        answer = load_model(ModelKey(kind.name, 1), _OneModel(model.to_onnx())).probabilities(rows)
        expected = model.probabilities(rows)
        yield Parity(
            kind.name,
            kind.source,
            len(rows),
            rows.shape[1],
            len(model.classes),
            float(np.abs(answer - expected).max()),
            int((answer.argmax(axis=1) != expected.argmax(axis=1)).sum()),
            kind.promise,
        )


def render(measured: Sequence[Parity]) -> str:
    """The reference page."""
    lines = [
        "# Model kinds, and how far ONNX is from Python",
        "",
        "Written by `python -m learning.parity --page > docs/reference/models.md`; a test holds every promise and every count.",
        "",
        "A model is trained in Python and served as ONNX. For each kind, both answer the same rows, none of which trained it; the",
        "largest difference is that of any probability of any row, as measured on x86-64. The promise is what the test holds on",
        "every machine. Preprocessing is inside the graph, so a row is what SQL gives.",
        "",
        "| kind | Python source | rows | features | classes | largest difference | other label | promise |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| `{each.kind}` | {each.source} | {each.rows:,} | {each.features} | {each.classes} | {each.largest_difference:.1e}"
        f" | {each.other_labels} | {each.promise:.0e} |"
        for each in measured
    ]
    return "\n".join(lines) + "\n"


class _OneModel:
    """A registry of one model."""

    def __init__(self, artifact: bytes) -> None:
        self._artifact = artifact

    def load_artifact(self, _name: str, _version: int) -> bytes:
        return self._artifact


def _pumps(seed: int, tenant: str) -> LabelledRows:
    return plant_sequences.sequence_rows(plant.simulate_plant(seed, _DAY, timedelta(minutes=40), tenants=(tenant,)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", action="store_true", help="print the reference page instead of JSON")
    measured = list(measure())
    told = render(measured) if parser.parse_args().page else json.dumps([asdict(each) for each in measured], indent=2) + "\n"
    sys.stdout.write(told)
    return int(any(each.largest_difference > each.promise for each in measured))


if __name__ == "__main__":
    sys.exit(main())
