"""Trains a version again from what was sealed with it, and shows the difference; says why where that cannot be done.

data     generated or read again from the sealed source and seed, and compared by hash: other data is no reproduction
code     its hash is compared: changed code may give another model, so it is told, and tried all the same
result   the artifact bit by bit; where it differs, metrics and probabilities on the sealed rows
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from core.clock import Clock
from core.errors import HeadraceError
from iceberg.registry import ModelVersion, Registry
from learning.promotion.evaluation import read_evaluation
from learning.promotion.rehearsal import OneArtifact
from learning.tabular import load_tabular, train_tabular
from learning.train import (
    PLANT_SOURCE,
    TELEMETRY_SOURCE,
    VISION_SOURCE,
    TrainedModel,
    code_hash,
    environment,
    train_plant,
    train_telemetry,
    train_vision,
)
from learning.transforms.declaration import read_declaration
from udfs.route import ModelKey
from udfs.sessions import Float32, load_model

type_recipe = Callable[..., list[TrainedModel]]

RECIPES: Mapping[str, type_recipe] = {
    PLANT_SOURCE: train_plant,
    TELEMETRY_SOURCE: train_telemetry,
    VISION_SOURCE: train_vision,
}
"""By the source that a version names; each takes the seed and the kinds."""


def reproduce(
    registry: Registry, found: ModelVersion, *, clock: Clock, data: Path | None = None, transforms: Path | None = None
) -> dict[str, Any]:
    """Train again, and compare; the answer is JSON with `reproduced`, `verdict` and `reasons`.

    Args:
        data: the file of labelled rows that a version of `headrace train run` was trained on.
        transforms: the file of its transformations, if it has some.

    Raises:
        CorruptDataError: the sealed artifact is gone or changed.
    """
    artifact = registry.load_artifact(found.name, found.version)
    sealed = dict(found.training_data)
    told: dict[str, Any] = {
        "name": found.name,
        "version": found.version,
        "sealed": {
            "artifact_sha256": found.artifact_sha256,
            "training_data": sealed,
            "code_hash": found.code_hash,
            "metrics": dict(found.metrics),
        },
        "code_changed": found.code_hash != code_hash(),
        "environment_changed": _environment_difference(found),
    }
    try:
        trained = _train_again(found, clock, data, transforms)
    except _CannotReproduceError as why:
        return told | {"reproduced": False, "verdict": "cannot", "reasons": [str(why)]}
    again = trained.training_data
    told["data_changed"] = again.get("sha256") != sealed.get("sha256")
    if told["data_changed"]:
        reason = f"the training data is not what it was: {again.get('rows')} rows, SHA-256 {again.get('sha256')}"
        return told | {"reproduced": False, "verdict": "cannot", "reasons": [reason]}
    difference = _difference(registry, found, artifact, trained)
    reasons = _reasons(told)
    if difference["identical_artifact"]:
        return told | {"reproduced": True, "verdict": "bit_for_bit", "difference": difference, "reasons": []}
    same = difference["largest_probability_difference"] == 0.0
    verdict = "same_answers" if same else "different"
    return told | {
        "reproduced": same,
        "verdict": verdict,
        "difference": difference,
        "reasons": reasons or ["code, data and libraries are as they were: the training is not deterministic on this machine"],
    }


class _CannotReproduceError(Exception):
    """Something that the training needs is not known or gone."""


def _train_again(found: ModelVersion, clock: Clock, data: Path | None, transforms: Path | None) -> TrainedModel:
    sealed = found.training_data
    recipe = RECIPES.get(str(sealed.get("source")))
    if recipe is not None:
        if "seed" not in sealed:
            raise _CannotReproduceError("no seed is sealed with the version")
        try:
            trained = recipe(int(sealed["seed"]), clock=clock, kinds=(found.kind,))
        except (HeadraceError, ImportError, OSError) as problem:
            raise _CannotReproduceError(f"the training data is gone: {problem}") from problem
        if not trained:
            raise _CannotReproduceError(
                f"no training of `{sealed['source']}` makes a `{found.kind}` any more: the code has changed"
            )
        return trained[0]
    if "trees" in sealed:
        if data is None:
            raise _CannotReproduceError(
                f"the training file `{sealed.get('source')}` is not kept here: name it with `--data FILE`"
            )
        declared = None
        if "transforms_sha256" in found.tags:
            if transforms is None:
                raise _CannotReproduceError(
                    "columns are transformed in front of the model, and the declaration is not kept here: name it with `--transforms FILE`"
                )
            declared = read_declaration(transforms)
        rows = load_tabular(data, label=str(sealed.get("label", "label")))
        return train_tabular(
            rows,
            name=found.name,
            source=str(sealed["source"]),
            clock=clock,
            seed=int(sealed["seed"]),
            trees=int(sealed["trees"]),
            depth=int(sealed["depth"]),
            transforms=declared,
        )
    raise _CannotReproduceError(
        f"the version was registered from a file: `{sealed.get('source', 'unknown')}` names no training that headrace can run"
    )


def _difference(registry: Registry, found: ModelVersion, artifact: bytes, trained: TrainedModel) -> dict[str, Any]:
    again = {name: float(value) for name, value in trained.metrics.items()}
    metrics = {
        name: {"sealed": value, "now": again.get(name)} for name, value in found.metrics.items() if again.get(name) != value
    }
    rows = registry.load_evaluation(found) or trained.evaluation
    largest = None
    if rows is not None:
        features = read_evaluation(rows).features
        answers = [_answers(found, each, features) for each in (artifact, trained.artifact)]
        largest = float(np.abs(answers[0] - answers[1]).max())
    return {
        "identical_artifact": artifact == trained.artifact,
        "bytes": {"sealed": len(artifact), "now": len(trained.artifact)},
        "metrics": metrics,
        "largest_probability_difference": largest,
        "probe_rows": len(features) if rows is not None else 0,
    }


def _answers(found: ModelVersion, artifact: bytes, features: Float32) -> Float32:
    source = OneArtifact(found.name, found.version, artifact)
    return load_model(ModelKey(found.name, found.version), source).probabilities(features)


def _environment_difference(found: ModelVersion) -> dict[str, Any]:
    sealed = json.loads(found.tags.get("environment", "{}"))
    now = environment()
    return {name: {"sealed": sealed.get(name), "now": now[name]} for name in now if sealed and sealed.get(name) != now[name]}


def _reasons(told: Mapping[str, Any]) -> list[str]:
    reasons = ["the code that trains has changed since"] if told["code_changed"] else []
    return reasons + [
        f"{name} was {each['sealed']}, is {each['now']}" for name, each in sorted(told["environment_changed"].items())
    ]
