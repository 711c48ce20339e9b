"""Compares two versions of a model: what they claim, what they are, and how they answer the same logged traffic.

metrics, metadata   as sealed
artifact            operators and weights that only one graph has; signatures
replay              both answer the rows that were really asked, in the UDF runtime; labels as they came back since
latency             single rows by turns, so that what disturbs one disturbs the other
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from pyiceberg.catalog import Catalog

from core.errors import InvalidInputError
from iceberg.onnx_guard import operators_of
from iceberg.registry import ModelVersion, Registry
from learning.promotion.evaluation import read_evaluation
from learning.promotion.paired import PairedTest, paired_test
from learning.promotion.rehearsal import OneArtifact
from learning.promotion.traffic import Traffic, read_traffic
from udfs.route import ModelKey
from udfs.sessions import LoadedModel, load_model

SIGNIFICANCE = 0.05
_BATCH = 1024
_TIMED_CALLS = 300


@dataclass(frozen=True)
class Side:
    """One version with its session."""

    version: ModelVersion
    artifact: bytes
    model: LoadedModel


def compare(
    registry: Registry,
    catalog: Catalog,
    name: str,
    a: int,
    b: int,
    *,
    tenant: str | None = None,
    endpoint: str | None = None,
    limit: int = 10_000,
    seed: int = 0,
) -> dict[str, Any]:
    """Compare versions `a` and `b`; the answer is JSON.

    Args:
        tenant, endpoint: whose traffic is replayed; default: every row in whose answer the model took part.
        limit: the greatest number of rows, newest first.
        seed: of the bootstrap.

    Raises:
        NotFoundError: a version is not registered.
        InvalidInputError: both are the same.
        CorruptDataError: an artifact is gone or changed.
    """
    if a == b:
        raise InvalidInputError(f"`{name}@{a}` is compared with itself", fix="Name two versions.")
    one, two = _side(registry, name, a), _side(registry, name, b)
    unlike = one.version.signature.differences(two.version.signature)
    report: dict[str, Any] = {
        "name": name,
        "a": _told(one),
        "b": _told(two),
        "metrics": _metrics(one.version, two.version),
        "metadata": _metadata(one.version, two.version),
        "artifact": _artifact_difference(one, two),
        "signature": {"compatible": not unlike, "differences": unlike},
    }
    if unlike:
        report |= {"replay": None, "latency": None, "recommendation": _advice("incompatible", "; ".join(unlike))}
        return report
    traffic = read_traffic(catalog, name, one.model.signature.n_features, tenant=tenant, endpoint=endpoint, limit=limit)
    source = "logged traffic"
    if not len(traffic.features):
        traffic, source = _sealed_rows(registry, one.version), "sealed evaluation rows (no traffic is logged)"
    replay, test = _replay(one, two, traffic, seed)
    report["replay"] = {"source": source, **replay}
    report["latency"] = _latencies(one, two, traffic) if len(traffic.features) else None
    report["recommendation"] = _recommend(one, two, test, replay)
    return report


def _side(registry: Registry, name: str, version: int) -> Side:
    found = registry.must_get(name, version)
    artifact = registry.load_artifact(name, version)
    return Side(found, artifact, load_model(ModelKey(name, version), OneArtifact(name, version, artifact)))


def _told(side: Side) -> dict[str, Any]:
    version = side.version
    return {
        "version": version.version,
        "kind": version.kind,
        "created_at": version.created_at.isoformat(),
        "artifact_sha256": version.artifact_sha256,
        "artifact_bytes": version.artifact_bytes,
    }


def _metrics(a: ModelVersion, b: ModelVersion) -> dict[str, Any]:
    names = sorted({*a.metrics, *b.metrics})
    told = {}
    for name in names:
        one, two = a.metrics.get(name), b.metrics.get(name)
        told[name] = {"a": one, "b": two, "difference": two - one if one is not None and two is not None else None}
    return told


def _metadata(a: ModelVersion, b: ModelVersion) -> dict[str, Any]:
    """What differs, by name."""
    sides = [
        {
            "kind": each.kind,
            "code_hash": each.code_hash,
            "training_seconds": each.training_duration.total_seconds(),
            **{f"training_data.{key}": value for key, value in each.training_data.items()},
            **{f"tags.{key}": value for key, value in each.tags.items() if not key.startswith("metric_")},
        }
        for each in (a, b)
    ]
    return {
        key: {"a": sides[0].get(key), "b": sides[1].get(key)}
        for key in sorted({*sides[0], *sides[1]})
        if sides[0].get(key) != sides[1].get(key)
    }


def _artifact_difference(a: Side, b: Side) -> dict[str, Any]:
    """Operators and weights that only one of the graphs has."""
    graphs = [onnx.load_model_from_string(side.artifact) for side in (a, b)]
    operators = [operators_of(graph) for graph in graphs]
    weights = [
        {each.name: (list(each.dims), onnx.numpy_helper.to_array(each).tobytes()) for each in graph.graph.initializer}
        for graph in graphs
    ]
    shared = weights[0].keys() & weights[1].keys()
    return {
        "identical": a.version.artifact_sha256 == b.version.artifact_sha256,
        "operators_only_a": dict(operators[0] - operators[1]),
        "operators_only_b": dict(operators[1] - operators[0]),
        "weights_only_a": sorted(weights[0].keys() - weights[1].keys()),
        "weights_only_b": sorted(weights[1].keys() - weights[0].keys()),
        "weights_changed": sorted(name for name in shared if weights[0][name] != weights[1][name]),
        "bytes_difference": b.version.artifact_bytes - a.version.artifact_bytes,
    }


def _sealed_rows(registry: Registry, version: ModelVersion) -> Traffic:
    sealed = registry.load_evaluation(version)
    if sealed is None:
        return Traffic(np.zeros((0, 0), np.float32), (), (), (), None)
    rows = read_evaluation(sealed)
    ids = tuple(str(i) for i in range(len(rows.labels)))
    return Traffic(rows.features, ids, rows.labels, ids, None)


def _replay(a: Side, b: Side, traffic: Traffic, seed: int) -> tuple[dict[str, Any], PairedTest | None]:
    n = len(traffic.features)
    told: dict[str, Any] = {"rows": n, "labelled": 0, "snapshot_id": traffic.snapshot_id}
    if not n:
        return told, None
    answers_a, answers_b = _probabilities(a.model, traffic.features), _probabilities(b.model, traffic.features)
    classes = a.model.signature.classes
    order = [b.model.signature.classes.index(label) for label in classes]
    answers_b = answers_b[:, order]
    best_a, best_b = answers_a.argmax(axis=1), answers_b.argmax(axis=1)
    positive = a.model.signature.positive_index
    scores = [each[:, positive] if positive is not None else each.max(axis=1) for each in (answers_a, answers_b)]
    difference = scores[1] - scores[0]
    told |= {
        "agreement": float((best_a == best_b).mean()),
        "score_difference": {
            "mean": float(difference.mean()),
            "mean_absolute": float(np.abs(difference).mean()),
            "p95_absolute": float(np.quantile(np.abs(difference), 0.95)),
            "largest_absolute": float(np.abs(difference).max()),
        },
        "disagreements": [
            {
                "prediction_id": traffic.prediction_ids[i],
                "a": classes[best_a[i]],
                "b": classes[best_b[i]],
                "label": traffic.labels[i],
            }
            for i in np.flatnonzero(best_a != best_b)[:10].tolist()
        ],
    }
    known = np.array([label is not None for label in traffic.labels])
    told["labelled"] = int(known.sum())
    if not known.any():
        return told, None
    truth = np.array([label or "" for label in traffic.labels])[known]
    names = np.array(classes)
    entities = [entity for entity, has in zip(traffic.entities, known, strict=True) if has]
    test = paired_test(names[best_a[known]] == truth, names[best_b[known]] == truth, entities, seed=seed)
    told["paired_test"] = asdict(test)
    return told, test


def _probabilities(model: LoadedModel, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    parts = [model.probabilities(features[start : start + _BATCH]) for start in range(0, len(features), _BATCH)]
    return np.concatenate(parts).astype(np.float64)


def _latencies(a: Side, b: Side, traffic: Traffic) -> dict[str, Any]:
    """Single rows through both sessions by turns, milliseconds."""
    seconds: dict[str, list[float]] = {"a": [], "b": []}
    for i in range(_TIMED_CALLS):
        row = traffic.features[i % len(traffic.features)][None, :]
        for side, each in (("a", a), ("b", b)) if i % 2 == 0 else (("b", b), ("a", a)):
            begun = time.perf_counter()
            each.model.probabilities(row)
            seconds[side].append(time.perf_counter() - begun)
    return {
        side: {f"p{share}_ms": float(np.quantile(values, share / 100)) * 1000 for share in (50, 95, 99)}
        for side, values in seconds.items()
    }


def _recommend(a: Side, b: Side, test: PairedTest | None, replay: Mapping[str, Any]) -> dict[str, str]:
    if test is None:
        seen = f"they agree on {replay['agreement']:.1%} of {replay['rows']} rows, " if replay["rows"] else "no row is there, "
        return _advice("undecided", f"{seen}but no label has come back: nobody knows who is right")
    low, high = test.interval_95
    evidence = (
        f"accuracy {test.accuracy_a:.4f} and {test.accuracy_b:.4f} on {test.rows} labelled rows of {test.entities} entities; "
        f"{test.only_a} rows only {a.version.reference} got right, {test.only_b} only {b.version.reference} "
        f"(McNemar p = {test.p_value:.2g}); difference {test.difference:+.4f}, 95 % interval {low:+.4f} to {high:+.4f}"
    )
    if test.p_value < SIGNIFICANCE and low > 0:
        return _advice("prefer_b", evidence)
    if test.p_value < SIGNIFICANCE and high < 0:
        return _advice("prefer_a", evidence)
    return _advice("no_difference_shown", f"{evidence}: that can be chance, so keep what serves")


def _advice(verdict: str, reason: str) -> dict[str, str]:
    return {"verdict": verdict, "reason": reason}
