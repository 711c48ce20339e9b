"""Train the models of the three pipelines to ONNX, on data that the streams never show, and register them.

    model               version 1            version 2        endpoint            trained on
    plant_health        gradient boosting    echo state       plant.health        fleets of other names and seeds
    telemetry_anomaly   gradient boosting    echo state       telemetry.anomaly   28 % of the rows, kept from the stream
    vision_digit        convolution          random forest    vision.digit        897 of the images, kept from the stream

The metrics are measured on a validation part, which neither trained the model nor is streamed.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from threadpoolctl import threadpool_limits

from core.clock import Clock, SystemClock
from learning import plant, plant_features, telemetry, vision
from learning.background import with_background
from learning.labelled import LabelledRows, baselines
from learning.models.convolution import fit_convolution
from learning.models.echo_state import fit_echo_state
from learning.models.kind import FittedModel
from learning.models.trees import fit_gradient_boosting, fit_random_forest
from learning.promotion.evaluation import MAX_ROWS, write_evaluation
from pipelines.feature_versions import in_folders

PLANT_SOURCE = "learning.plant.simulate_plant"
TELEMETRY_SOURCE = "river.datasets.Shuttle"
VISION_SOURCE = "sklearn.datasets.load_digits"

_TRAINING_DAY = datetime(2025, 1, 1, tzinfo=UTC)
_BACKGROUND_SEED = 0


@dataclass(frozen=True)
class TrainedModel:
    """A model ready to be registered.

    Attributes:
        fitted: the Python source, for parity checks.
        metrics: accuracy and both baselines, on the validation part.
        training_data: what names the training data for good.
        tags: besides those that every model has, e.g. the hash of its transformations.
        evaluation: the validation part, to be sealed with the version.
    """

    name: str
    fitted: FittedModel
    artifact: bytes
    feature_names: tuple[str, ...]
    metrics: Mapping[str, float]
    training_data: Mapping[str, Any]
    duration: timedelta
    tags: Mapping[str, str] = field(default_factory=dict)
    evaluation: bytes | None = None


class RegisteredVersion(Protocol):
    """What is needed of `iceberg.registry.ModelVersion`."""

    @property
    def version(self) -> int: ...

    @property
    def artifact_sha256(self) -> str: ...


class Registry(Protocol):
    """What is needed of `iceberg.registry.Registry`."""

    def list(self, name: str | None = None) -> Any: ...  # Any: a sequence of RegisteredVersion

    def register(self, name: str, artifact: bytes, **properties: Any) -> Any: ...  # Any: as declared there


def train_plant(seed: int = 0, *, clock: Clock | None = None, kinds: Container[str] | None = None) -> list[TrainedModel]:
    """Train both plant models (or those of `kinds`) on three simulated fleets, measured on a fourth."""
    train = _plant_rows(seed, ("training-a", "training-b", "training-c"))
    validate = _plant_rows(seed + 1, ("validation",))
    told = {"source": PLANT_SOURCE, "seed": seed, "rows": len(train.labels)}
    features, labels, classes = train.features, train.labels, plant.CLASSES
    fits: dict[str, Callable[[], FittedModel]] = {
        "gradient_boosting": lambda: fit_gradient_boosting(features, labels, classes, positive="faulty", seed=seed),
        "echo_state": lambda: fit_echo_state(features, labels, classes, positive="faulty", seed=seed),
    }
    return _train("plant_health", fits, train, validate, plant_features.FEATURES, told, "plant", clock, kinds)


def train_telemetry(seed: int = 0, *, clock: Clock | None = None, kinds: Container[str] | None = None) -> list[TrainedModel]:
    """Train both telemetry models (or those of `kinds`) on the rows that are kept from the stream."""
    rows = telemetry.load_telemetry()
    train, validate = telemetry.telemetry_rows(rows.train), telemetry.telemetry_rows(rows.validate)
    told = {"source": TELEMETRY_SOURCE, "split_seed": telemetry.SPLIT_SEED, "seed": seed, "rows": len(train.labels)}
    features, labels, classes = train.features, train.labels, telemetry.CLASSES
    fits: dict[str, Callable[[], FittedModel]] = {
        "gradient_boosting": lambda: fit_gradient_boosting(features, labels, classes, positive="anomaly", seed=seed),
        "echo_state": lambda: fit_echo_state(features, labels, classes, positive="anomaly", seed=seed),
    }
    return _train("telemetry_anomaly", fits, train, validate, telemetry.FEATURES, told, "telemetry", clock, kinds)


def train_vision(seed: int = 0, *, clock: Clock | None = None, kinds: Container[str] | None = None) -> list[TrainedModel]:
    """Train both vision models (or those of `kinds`) on the images that are kept from the stream."""
    images = vision.load_vision()
    train, validate = vision.vision_rows(images.train), vision.vision_rows(images.validate)
    told = {"source": VISION_SOURCE, "split_seed": vision.SPLIT_SEED, "seed": seed, "rows": len(train.labels)}
    features, labels, classes = train.features, train.labels, vision.CLASSES
    fits: dict[str, Callable[[], FittedModel]] = {
        "convolution": lambda: fit_convolution(features, labels, classes, seed=seed),
        "random_forest": lambda: fit_random_forest(features, labels, classes, positive=None, seed=seed),
    }
    return _train("vision_digit", fits, train, validate, vision.FEATURES, told, "vision", clock, kinds)


def register_all(registry: Registry, *, seed: int = 0, clock: Clock | None = None) -> dict[str, list[int]]:
    """Train and register the models of all three pipelines.

    Returns:
        the versions by model name, in the order of the table above; on a fresh registry `[1, 2]` each. A model that is
        registered already, with the same bytes, keeps its version.
    """
    trained = [*train_plant(seed, clock=clock), *train_telemetry(seed, clock=clock), *train_vision(seed, clock=clock)]
    return register(registry, trained)


def register(registry: Registry, models: Iterable[TrainedModel]) -> dict[str, list[int]]:
    """Register models in their order, each once; see `register_all`."""
    versions: dict[str, list[int]] = {}
    code = code_hash()
    for model in models:
        digest = hashlib.sha256(model.artifact).hexdigest()
        known: dict[str, int] = {found.artifact_sha256: found.version for found in registry.list(model.name)}
        version = known.get(digest)
        if version is None:
            version = registry.register(
                model.name,
                model.artifact,
                kind=model.fitted.kind,
                feature_names=model.feature_names,
                labels=model.fitted.classes,
                metrics=model.metrics,
                tags={"environment": json.dumps(environment(), sort_keys=True), **model.tags},
                training_data=model.training_data,
                code_hash=code,
                duration=model.duration,
                evaluation=model.evaluation,
            ).version
        versions.setdefault(model.name, []).append(version)
    return versions


def code_hash() -> str:
    """SHA-256 over the sources that train: the modules of this package, its models and transformations, hexadecimal."""
    digest = hashlib.sha256()
    here = Path(__file__).parent
    for path in sorted([*here.glob("*.py"), *here.glob("models/*.py"), *here.glob("transforms/**/*.py")]):
        digest.update(path.relative_to(here).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def environment() -> dict[str, str]:
    """What else can change a trained model's bytes: the interpreter, the machine, and the libraries that compute."""
    libraries = ("numpy", "scikit-learn", "scipy", "skl2onnx", "onnx")
    return {
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        **{name: metadata.version(name) for name in libraries},
    }


def accuracy(model: FittedModel, rows: LabelledRows) -> float:
    """Share of rows whose most probable class is the right one."""
    return float((model.probabilities(rows.features).argmax(axis=1) == rows.labels).mean())


def _train(
    name: str,
    fits: Mapping[str, Callable[[], FittedModel]],
    train: LabelledRows,
    validate: LabelledRows,
    feature_names: tuple[str, ...],
    told: Mapping[str, Any],
    pipeline: str,
    clock: Clock | None,
    kinds: Container[str] | None,
) -> list[TrainedModel]:
    clock = clock or SystemClock()
    without = baselines(validate.labels, validate.series)
    data_hash = hashlib.sha256(train.features.tobytes() + train.labels.tobytes()).hexdigest()
    told = {**told, "sha256": data_hash, "features": in_folders([pipeline])}
    trained = []
    for fit in (fit for kind, fit in fits.items() if kinds is None or kind in kinds):
        begun = clock.monotonic_seconds()
        with threadpool_limits(1):  # sums have one order, and nobody spins while the platform runs beside
            model = fit()
        artifact = with_background(model.to_onnx(), train.features, seed=_BACKGROUND_SEED)
        metrics = {
            "accuracy": accuracy(model, validate),
            "baseline_majority_class": without.majority_class,
            "baseline_last_value": without.last_value,
            "validation_rows": float(len(validate.labels)),
        }
        duration = timedelta(seconds=clock.monotonic_seconds() - begun)
        evaluation = evaluation_of(model, validate)
        trained.append(TrainedModel(name, model, artifact, feature_names, metrics, told, duration, evaluation=evaluation))
    return trained


def evaluation_of(model: FittedModel, rows: LabelledRows) -> bytes:
    """Rows that the model never saw, with its own answers, for the checks of a promotion."""
    labels = [rows.classes[position] for position in rows.labels]
    return write_evaluation(rows.features, labels, model.probabilities(rows.features[:MAX_ROWS]))


def _plant_rows(seed: int, tenants: tuple[str, ...]) -> LabelledRows:
    replay = plant.simulate_plant(seed, _TRAINING_DAY, timedelta(hours=1), tenants=tenants)
    return plant_rows(plant_features.labelled_features(replay.events, replay.truth))


def plant_rows(table: pa.Table) -> LabelledRows:
    """Rows of `labelled_features` as arrays, without those that have a NULL feature (a lost sensor): nothing predicts them."""
    columns = [table[name].to_numpy(zero_copy_only=False) for name in plant_features.FEATURES]
    features = np.column_stack(columns).astype(np.float32)
    labels = pc.index_in(table["label"], pa.array(plant.CLASSES)).to_numpy().astype(np.int64)
    names = pc.binary_join_element_wise(table["tenant_id"], table["entity_id"], "/").combine_chunks()
    series = names.dictionary_encode().indices.to_numpy().astype(np.int64)
    whole = np.isfinite(features).all(axis=1)
    return LabelledRows(features[whole], labels[whole], plant.CLASSES, series[whole])
