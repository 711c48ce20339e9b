"""What was made with a subject's rows and is to be made again: models, feature tables, training snapshots."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pyiceberg.catalog import Catalog

from iceberg.erasure.selection import Subject
from iceberg.storage import canonical
from iceberg.training_data import source_of

_VERSIONS = "registry.model_versions"


def find(catalog: Catalog, subject: Subject, touched: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Name the models and tables that the subject's rows went into.

    Args:
        touched: table -> `snapshots_to_expire` and `refs_to_remove`, the ones that reach the subject's rows.

    Returns:
        `models` with the reason for each; `feature_tables`; `training_snapshots` that no longer exist afterwards.
    """
    models, snapshots = [], []
    for name, version, text in _versions(catalog):
        reason, pinned = _used(text, subject, touched)
        if reason:
            models.append({"model": name, "version": version, "reason": reason})
        if pinned is not None:
            snapshots.append({**pinned, "model": f"{name}@{version}"})
    tags = [{"table": table, "ref": ref} for table, what in touched.items() for ref in what.get("refs_to_remove", ())]
    return {
        "models_to_retrain": models,
        "feature_tables": sorted(name for name in touched if name.startswith("lake.features_")),
        "training_snapshots": [*snapshots, *tags],
    }


def artifacts(catalog: Catalog, warehouse: str) -> set[str]:
    """Locations of the artifacts that registered versions are served from: a trace in one is told, never deleted."""
    if not catalog.table_exists(_VERSIONS):
        return set()
    rows = catalog.load_table(_VERSIONS).scan(selected_fields=("artifact",)).to_arrow()
    return {canonical(f"{warehouse}/{path}") for path in rows.column("artifact").to_pylist()}


def _versions(catalog: Catalog) -> list[tuple[str, int, str]]:
    if not catalog.table_exists(_VERSIONS):
        return []
    rows = catalog.load_table(_VERSIONS).scan(selected_fields=("name", "version", "training_data")).to_arrow().to_pylist()
    return sorted((row["name"], row["version"], row["training_data"]) for row in rows)


def _used(text: str, subject: Subject, touched: Mapping[str, Mapping[str, Any]]) -> tuple[str | None, dict[str, Any] | None]:
    """Why a version is concerned, and its training snapshot where that goes."""
    try:
        data = json.loads(text)
    except ValueError:
        data = {}
    source = source_of(data)
    if source is not None and source.table in touched:
        if source.snapshot is None:
            return f"trained on {source.table}, of which snapshot is not recorded", None
        if source.snapshot in touched[source.table].get("snapshots_to_expire", ()):
            reason = f"trained on {source.table} at snapshot {source.snapshot}, which reaches the subject's rows"
            return reason, {"table": source.table, "snapshot": source.snapshot}
        return None, None
    if subject.name in text:
        return "its notes on training data name the subject", None
    return None, None
