"""Trains the model of endpoint `default` from a file of labelled rows: a forest of 100 trees of depth 10.

The file is CSV with a header, one column of labels and only numbers besides, or JSON `{"features": [[...]], "labels": [...]}`.
Labels become class names as they are written. A seeded fifth of the rows is kept from training to measure on; with fewer than
`MEASURED_ROWS` rows nothing is kept and nothing is claimed.
"""

from __future__ import annotations

import csv
import hashlib
import json
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from core.clock import Clock
from core.errors import InvalidInputError, NotFoundError
from learning.background import with_background
from learning.labelled import LabelledRows, baselines
from learning.models.kind import FittedModel, Float32, Int64
from learning.models.trees import fit_random_forest
from learning.train import TrainedModel, accuracy, evaluation_of
from learning.transforms.declaration import Declaration
from learning.transforms.fitted import FittedTransforms, fit_transforms
from learning.transforms.model import Transformed

TREES = 100
DEPTH = 10
MEASURED_ROWS = 50
_KEPT_SHARE = 0.2


@dataclass(frozen=True)
class TabularData:
    """`features` float32[rows, n], `labels` int64[rows] as positions in `classes`."""

    features: Float32
    labels: Int64
    classes: tuple[str, ...]
    names: tuple[str, ...]
    sha256: str


def load_tabular(path: Path, *, label: str = "label") -> TabularData:
    """Read a file of labelled rows.

    Args:
        path: ends with `.csv` or `.json`.
        label: the CSV's column of labels.

    Raises:
        NotFoundError: there is no such file.
        InvalidInputError: it is not as described above; the place is its line.
    """
    if not path.is_file():
        raise NotFoundError(f"there is no file `{path}`", fix="Name a CSV or JSON file of labelled rows.")
    content = path.read_bytes()
    read = _read_json if path.suffix == ".json" else _read_csv
    rows, labels, names = read(content.decode("utf-8"), str(path), label)
    classes = _in_order(set(labels))
    if len(classes) < 2:
        raise InvalidInputError(
            f"there {'is one class' if classes else 'are no rows'}, {len(rows)} rows", where=str(path), fix="Label two or more."
        )
    features = np.array(rows, np.float32)
    if not np.isfinite(features).all():
        first = int(np.flatnonzero(~np.isfinite(features).all(axis=1))[0])
        raise InvalidInputError(f"row {first} holds what is no finite number", where=str(path), fix="Mend or remove the row.")
    positions = np.array([classes.index(each) for each in labels], np.int64)
    return TabularData(features, positions, classes, names, hashlib.sha256(content).hexdigest())


def train_tabular(
    data: TabularData,
    *,
    name: str,
    source: str,
    clock: Clock,
    seed: int = 0,
    trees: int = TREES,
    depth: int = DEPTH,
    transforms: Declaration | None = None,
) -> TrainedModel:
    """Train a forest; with two classes the later one in order is the positive one, as with labels 0 and 1.

    Args:
        data: at least one row of each class.
        name: the model's name in the registry.
        source: what names the data for people, e.g. the file.
        clock: measures how long it took.
        seed: of the forest, and of the rows that are kept from it.
        transforms: what is done to the columns first; fitted on the training rows, not on those that are kept.
    """
    begun = clock.monotonic_seconds()
    rows = LabelledRows(data.features, data.labels, data.classes)
    train, kept = _divide(rows, seed)
    positive = data.classes[1] if len(data.classes) == 2 else None
    before = fit_transforms(transforms, train.features, data.names) if transforms is not None else None
    columns = train.features if before is None else before.apply(train.features)
    with threadpool_limits(1):
        forest = fit_random_forest(columns, train.labels, data.classes, positive=positive, seed=seed, trees=trees, depth=depth)
    fitted = forest if before is None else Transformed(before, forest)
    artifact = fitted.to_onnx()
    if before is not None:  # trees behind transformations are explained by asking them
        artifact = with_background(artifact, train.features if before.runs == "graph" else columns, seed=seed)
    metrics = {"training_rows": float(len(train.labels)), "validation_rows": 0.0}
    if kept is not None:
        metrics |= {
            "accuracy": accuracy(fitted, kept),
            "baseline_majority_class": baselines(kept.labels, kept.series).majority_class,
            "validation_rows": float(len(kept.labels)),
        }
    tags = {} if before is None else {"transforms_sha256": before.sha256, "transforms_run": before.runs}
    told = {"source": source, "rows": len(data.labels), "sha256": data.sha256, "seed": seed, "trees": trees, "depth": depth}
    duration = timedelta(seconds=clock.monotonic_seconds() - begun)
    names = data.names if before is None else before.served_names
    return TrainedModel(name, fitted, artifact, names, metrics, told, duration, tags, _evaluation(forest, before, fitted, kept))


def _evaluation(
    forest: FittedModel, before: FittedTransforms | None, fitted: FittedModel, kept: LabelledRows | None
) -> bytes | None:
    """The rows that were kept, as the graph takes them: transformed where SQL transforms them."""
    if kept is None:
        return None
    if before is None or before.runs == "graph":
        return evaluation_of(fitted, kept)
    return evaluation_of(forest, LabelledRows(before.apply(kept.features), kept.labels, kept.classes))


def _divide(rows: LabelledRows, seed: int) -> tuple[LabelledRows, LabelledRows | None]:
    """A seeded part to measure on; the first row of each class always trains."""
    if len(rows.labels) < MEASURED_ROWS:
        return rows, None
    order = np.random.default_rng(seed).permutation(len(rows.labels))
    kept = np.zeros(len(order), np.bool_)
    kept[order[: round(_KEPT_SHARE * len(order))]] = True
    _, firsts = np.unique(rows.labels, return_index=True)
    kept[firsts] = False
    return (
        LabelledRows(rows.features[~kept], rows.labels[~kept], rows.classes),
        LabelledRows(rows.features[kept], rows.labels[kept], rows.classes),
    )


def _read_csv(text: str, where: str, label: str) -> tuple[list[list[float]], list[str], tuple[str, ...]]:
    reader = csv.reader(text.splitlines())
    header = next(reader, [])
    if label not in header:
        raise InvalidInputError(f"there is no column `{label}` in `{','.join(header)}`", where=where, fix="Name it: --label.")
    at = header.index(label)
    rows, labels = [], []
    for line, cells in enumerate(reader, start=2):
        try:
            rows.append([float(cell) for position, cell in enumerate(cells) if position != at])
            labels.append(cells[at].strip())
        except (ValueError, IndexError) as error:
            raise InvalidInputError(f"that is no row of numbers: {error}", where=f"{where}:{line}") from error
        if len(cells) != len(header):
            raise InvalidInputError(f"{len(cells)} cells, the header has {len(header)}", where=f"{where}:{line}")
    return rows, labels, tuple(name for position, name in enumerate(header) if position != at)


def _read_json(text: str, where: str, _label: str) -> tuple[list[list[float]], list[str], tuple[str, ...]]:
    try:
        document: Any = json.loads(text)  # Any: JSON from outside, checked here
        rows = [[float(value) for value in row] for row in document["features"]]
        labels = [_class_name(each) for each in document["labels"]]
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidInputError(
            f"that is no labelled data: {error!a}", where=where, fix='Write {"features": [[1.0, 2.0]], "labels": [0]}.'
        ) from error
    widths = {len(row) for row in rows}
    if len(rows) != len(labels) or len(widths) != 1 or widths == {0}:
        raise InvalidInputError(f"{len(rows)} rows of {sorted(widths)} numbers and {len(labels)} labels", where=where)
    return rows, labels, tuple(f"feature_{position}" for position in range(widths.pop()))


def _class_name(label: object) -> str:
    return label if isinstance(label, str) else json.dumps(label)


def _in_order(labels: set[str]) -> tuple[str, ...]:
    """Numbers by value, everything else as texts."""

    def place(label: str) -> tuple[int, float, str]:
        try:
            return 0, float(label), label
        except ValueError:
            return 1, 0.0, label

    return tuple(sorted(labels, key=place))
