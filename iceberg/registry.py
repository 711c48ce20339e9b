"""The model registry: sealed versions, named by integers, and aliases that point to them.

The bytes go first and the row last: an artifact is stored under its hash, synced and renamed, and only then the row is
committed to `registry.model_versions`. So a version that can be seen can be loaded, and one that was interrupted is not there
at all. Version numbers are taken on the head that the row is committed on, so concurrent registrations get different ones.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from pyiceberg.catalog import Catalog
from pyiceberg.expressions import BooleanExpression
from pyiceberg.table import Table

from core.clock import Clock, SystemClock
from core.errors import InvalidInputError, NotFoundError
from core.settings import Settings
from iceberg.artifacts import ArtifactStore
from iceberg.catalog import open_lake, warehouse_location
from iceberg.loading import must_load
from iceberg.onnx_guard import MAX_BYTES, Tensor, check_onnx
from iceberg.predicates import all_of, equals
from iceberg.row_appends import append_rows, scan_rows, type_row, type_rows
from iceberg.tables import ALIASES, MODEL_VERSIONS, MODELS, ensure_tables

_NAME = re.compile(r"[a-z][a-z0-9_.-]{0,127}")
_ALL_TENANTS = ""


@dataclass(frozen=True)
class Signature:
    """What a model takes and gives; equal signatures mean that one version can take the place of another.

    `feature_names` are the columns of the first input, in order; `labels` are the names of the classes, in the order of the
    scores; both may be empty where they do not apply.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    feature_names: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()

    def to_json(self) -> str:
        """Canonical JSON: the same signature gives the same text."""
        return _json(
            {
                "inputs": [_tensor_fields(tensor) for tensor in self.inputs],
                "outputs": [_tensor_fields(tensor) for tensor in self.outputs],
                "feature_names": list(self.feature_names),
                "labels": list(self.labels),
            }
        )

    def differences(self, other: Signature) -> list[str]:
        """Why the two cannot answer the same rows; classes may stand in another order."""
        parts = (
            ("inputs", self.inputs, other.inputs, self.inputs == other.inputs),
            ("features", self.feature_names, other.feature_names, self.feature_names == other.feature_names),
            ("classes", self.labels, other.labels, set(self.labels) == set(other.labels)),
        )
        return [f"{what} differ: {mine} and {theirs}" for what, mine, theirs, alike in parts if not alike]

    @staticmethod
    def from_json(text: str) -> Signature:
        fields = json.loads(text)
        return Signature(
            inputs=tuple(Tensor(t["name"], t["dtype"], tuple(t["shape"])) for t in fields["inputs"]),
            outputs=tuple(Tensor(t["name"], t["dtype"], tuple(t["shape"])) for t in fields["outputs"]),
            feature_names=tuple(fields["feature_names"]),
            labels=tuple(fields["labels"]),
        )


@dataclass(frozen=True)
class ModelVersion:
    """A sealed version of a model."""

    name: str
    version: int
    kind: str
    created_at: datetime
    artifact: str
    """Path below the registry's root."""
    artifact_sha256: str
    artifact_bytes: int
    signature: Signature
    signature_hash: str
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    training_data: Mapping[str, Any]
    """Table, snapshot, filter, rows, hash: whatever names the training data for good."""
    code_hash: str
    training_duration: timedelta

    @property
    def reference(self) -> str:
        """`name@version`."""
        return f"{self.name}@{self.version}"


class Registry:
    """Registers and finds model versions. Threads may share one; processes each open their own.

    Args:
        catalog: from `open_catalog`; missing registry tables are created.
        root: the folder or URL below which artifacts lie, as a rule the warehouse.
        clock: stamps rows and snapshots.
    """

    def __init__(self, catalog: Catalog, root: str | Path, *, clock: Clock | None = None) -> None:
        self._catalog = catalog
        self._clock = clock or SystemClock()
        self._artifacts = ArtifactStore(warehouse_location(str(root)), catalog.properties)
        ensure_tables(catalog, (MODELS, MODEL_VERSIONS, ALIASES))

    def register(
        self,
        name: str,
        artifact: bytes | Path,
        *,
        kind: str,
        feature_names: tuple[str, ...] = (),
        labels: tuple[str, ...] = (),
        signature: Signature | None = None,
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
        training_data: Mapping[str, Any],
        code_hash: str,
        duration: timedelta,
        description: str | None = None,
        owner: str | None = None,
        evaluation: bytes | None = None,
    ) -> ModelVersion:
        """Check, store and seal a model as the next version of `name`; each call makes a new version.

        Args:
            name: lower case letters, digits, `_.-`.
            artifact: an ONNX model, or the path of one.
            kind: what it is, e.g. `gradient_boosting`, `echo_state`, `convolution`.
            feature_names: see `Signature`; with `signature` given, leave it out.
            labels: see `Signature`; with `signature` given, leave it out.
            signature: what the caller expects of the graph; by default it is read from the graph.
            metrics: metric to number, on data the model never saw.
            tags: free texts.
            training_data: what names the training data for good; values that JSON knows.
            code_hash: hash of the code that trained it.
            duration: how long the training took.
            description: kept with the model's first version.
            owner: kept with the model's first version.
            evaluation: labelled rows that the model never saw (see `learning.promotion.evaluation`), sealed with the version.

        Raises:
            InvalidInputError: a name or value is malformed, or the artifact is refused (see `iceberg.onnx_guard`), or has
                another signature than expected.
            UnavailableError: not registered; try again.
        """
        if not _NAME.fullmatch(name):
            raise InvalidInputError(
                f"model name `{name}` is malformed", fix="Use a lower case letter, then letters, digits, `_`, `.`, `-`."
            )
        content = artifact if isinstance(artifact, bytes) else _read(artifact)
        where = f"model {name}" if isinstance(artifact, bytes) else str(artifact)
        graph = check_onnx(content, where)
        found = Signature(graph.inputs, graph.outputs, tuple(feature_names), tuple(labels))
        if signature is not None:
            if (signature.inputs, signature.outputs) != (found.inputs, found.outputs):
                raise InvalidInputError(
                    f"signature `{signature.to_json()}` is not that of the graph, `{found.to_json()}`", where=where
                )
            found = signature
        _check_feature_names(found, where)
        now = self._clock.now()
        if evaluation is not None:
            digest = hashlib.sha256(evaluation).hexdigest()
            training_data = {
                **training_data,
                "evaluation": {"artifact": self._artifacts.put(evaluation, ".arrow"), "sha256": digest},
            }
        signature_hash = hashlib.sha256(found.to_json().encode()).hexdigest()
        path = self._artifacts.put(content, ".onnx")
        row = {
            "name": name,
            "registration_id": str(uuid.uuid4()),
            "created_at": now,
            "kind": kind,
            "artifact": path,
            "artifact_sha256": hashlib.sha256(content).hexdigest(),
            "artifact_bytes": len(content),
            "signature": found.to_json(),
            "signature_hash": signature_hash,
            "metrics": _json(dict(metrics)),
            "tags": _json(_sealed_tags(kind, metrics, training_data, duration, signature_hash) | dict(tags)),
            "training_data": _json(dict(training_data)),
            "code_hash": code_hash,
            "training_seconds": duration.total_seconds(),
        }
        self._ensure_model(name, now, description, owner)
        taken = self._append_numbered(MODEL_VERSIONS.identifier, equals("name", name), "version", row)
        # Somebody may have deleted the last other version with these bytes meanwhile, and the bytes with it.
        self._artifacts.put(content, ".onnx")
        if evaluation is not None:
            self._artifacts.put(evaluation, ".arrow")
        return _version(taken)

    def get(self, name: str, version: int) -> ModelVersion | None:
        """Find a version."""
        rows = self._rows(MODEL_VERSIONS.identifier, all_of(equals("name", name), equals("version", version)))
        return _version(rows[0]) if rows else None

    def must_get(self, name: str, version: int) -> ModelVersion:
        """Find a version.

        Raises:
            NotFoundError: it is not registered; says which versions are.
        """
        found = self.get(name, version)
        if found is None:
            known = [str(other.version) for other in self.list(name)]
            raise NotFoundError(
                f"model version `{name}@{version}` is not registered",
                where="registry.model_versions",
                fix=f"Registered versions: {', '.join(known)}." if known else "No version of this model is registered.",
            )
        return found

    def list(self, name: str | None = None) -> Sequence[ModelVersion]:
        """All versions, or those of one model, by name and version."""
        rows = self._rows(MODEL_VERSIONS.identifier, equals("name", name) if name is not None else all_of())
        return sorted((_version(row) for row in rows), key=lambda found: (found.name, found.version))

    def load_artifact(self, name: str, version: int) -> bytes:
        """Load the ONNX bytes of a version, checked against the hash that was sealed.

        Raises:
            NotFoundError: the version is not registered.
            CorruptDataError: the file is missing or was changed.
        """
        found = self.must_get(name, version)
        return self._artifacts.load(found.artifact, found.artifact_sha256)

    def load_evaluation(self, found: ModelVersion) -> bytes | None:
        """Load the labelled rows that were sealed with a version; None where there are none.

        Raises:
            CorruptDataError: the file is missing or was changed.
        """
        sealed = found.training_data.get("evaluation")
        return None if sealed is None else self._artifacts.load(sealed["artifact"], sealed["sha256"])

    def remove_artifacts(self, found: ModelVersion, keep: Sequence[ModelVersion], *, dry_run: bool = False) -> Sequence[str]:
        """Remove the files of a version, but for those that one of `keep` has too, and say which; the row stays."""
        kept = {path for other in keep for path in _paths(other)}
        alone = [path for path in _paths(found) if path not in kept]
        for path in alone if not dry_run else ():
            self._artifacts.remove(path)
        return alone

    def resolve(self, name: str, wanted: str, *, tenant_id: str = _ALL_TENANTS) -> ModelVersion:
        """The version that a text means: a number, or an alias or label such as `champion` or `v1.0`.

        Raises:
            NotFoundError: it means none; says which there are.
        """
        if re.fullmatch(r"[0-9]{1,9}", wanted, re.ASCII):
            return self.must_get(name, int(wanted))
        number = self.get_alias(name, wanted, tenant_id=tenant_id)
        if number is None:
            known = sorted({alias for alias, _ in self.aliases(name)})
            raise NotFoundError(
                f"`{wanted}` is neither a version nor an alias of `{name}`",
                fix=f"Aliases: {', '.join(known) or 'none'}; versions: {', '.join(str(v.version) for v in self.list(name)) or 'none'}.",
            )
        return self.must_get(name, number)

    def set_alias(
        self, name: str, alias: str, version: int | None, *, tenant_id: str = _ALL_TENANTS, actor: str = "system"
    ) -> None:
        """Let an alias mean a version, for all tenants or for one; None takes it away. Earlier meanings stay in the history.

        Raises:
            NotFoundError: the version is not registered.
        """
        if version is not None:
            self.must_get(name, version)
        row = {
            "name": name,
            "alias": alias,
            "tenant_id": tenant_id,
            "version": version,
            "set_at": self._clock.now(),
            "actor": actor,
        }
        self._append_numbered(ALIASES.identifier, all_of(), "sequence", row)

    def get_alias(self, name: str, alias: str, *, tenant_id: str = _ALL_TENANTS) -> int | None:
        """The version that an alias means for a tenant: its own meaning, else the one for all."""
        meanings = self.aliases(name)
        return meanings.get((alias, tenant_id), meanings.get((alias, _ALL_TENANTS)))

    def aliases(self, name: str) -> dict[tuple[str, str], int]:
        """All aliases of a model that mean something now, by alias and tenant (empty for all tenants)."""
        meanings: dict[tuple[str, str], int | None] = {}
        for row in sorted(self._rows(ALIASES.identifier, equals("name", name)), key=lambda row: row["sequence"]):
            meanings[row["alias"], row["tenant_id"]] = row["version"]
        return {key: version for key, version in meanings.items() if version is not None}

    def revision(self) -> int | None:
        """A number that changes when versions are added; cheap to poll. None while the registry is empty."""
        snapshot = must_load(self._catalog, MODEL_VERSIONS.identifier).current_snapshot()
        return snapshot.snapshot_id if snapshot else None

    def _ensure_model(self, name: str, now: datetime, description: str | None, owner: str | None) -> None:
        table = must_load(self._catalog, MODELS.identifier)
        row = {"name": name, "created_at": now, "description": description, "owner": owner}
        append_rows(table, lambda head: [] if scan_rows(head, equals("name", name)) else [row], clock=self._clock)

    def _append_numbered(self, identifier: str, scope: BooleanExpression, number: str, row: type_row) -> type_row:
        """Append a row whose column `number` is one more than the greatest in `scope`, and return it."""
        table = must_load(self._catalog, identifier)

        def next_row(head: Table) -> type_rows:
            return [{**row, number: max((other[number] for other in scan_rows(head, scope)), default=0) + 1}]

        return append_rows(table, next_row, clock=self._clock)[0]

    def _rows(self, identifier: str, scope: BooleanExpression) -> type_rows:
        return scan_rows(must_load(self._catalog, identifier), scope)


def open_registry(settings: Settings) -> Registry:
    """The registry that the settings name."""
    catalog = open_lake(settings)
    return Registry(catalog, settings.resolved_warehouse)


def _version(row: type_row) -> ModelVersion:
    return ModelVersion(
        name=row["name"],
        version=row["version"],
        kind=row["kind"],
        created_at=row["created_at"],
        artifact=row["artifact"],
        artifact_sha256=row["artifact_sha256"],
        artifact_bytes=row["artifact_bytes"],
        signature=Signature.from_json(row["signature"]),
        signature_hash=row["signature_hash"],
        metrics=json.loads(row["metrics"]),
        tags=json.loads(row["tags"]),
        training_data=json.loads(row["training_data"]),
        code_hash=row["code_hash"],
        training_duration=timedelta(seconds=row["training_seconds"]),
    )


def _paths(found: ModelVersion) -> list[str]:
    sealed = found.training_data.get("evaluation")
    return [found.artifact] + ([sealed["artifact"]] if sealed else [])


def _sealed_tags(
    kind: str, metrics: Mapping[str, float], training_data: Mapping[str, Any], duration: timedelta, signature_hash: str
) -> dict[str, str]:
    """The tags that every version has; what a caller says of the same name stands instead."""
    named = hashlib.sha256(_json(dict(training_data)).encode()).hexdigest()
    return {
        "model_type": kind,
        "framework": "onnx",
        **{f"metric_{name}": f"{value:g}" for name, value in metrics.items()},
        "training_data_hash": str(training_data.get("sha256", named)),
        "training_duration": f"{duration.total_seconds():.3f}",
        "signature_hash": signature_hash,
    }


def _check_feature_names(signature: Signature, where: str) -> None:
    names = signature.feature_names
    if not names:
        return
    if len(set(names)) != len(names):
        raise InvalidInputError("feature names are not unique", where=where)
    shape = signature.inputs[0].shape if signature.inputs else ()
    if len(shape) == 2 and shape[1] not in (-1, len(names)):
        raise InvalidInputError(f"{len(names)} feature names for an input of {shape[1]} columns", where=where)


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InvalidInputError(f"model has {path.stat().st_size} bytes, the limit is {MAX_BYTES}", where=str(path))
        return path.read_bytes()
    except FileNotFoundError as error:
        raise NotFoundError("model file does not exist", where=str(path)) from error


def _tensor_fields(tensor: Tensor) -> dict[str, Any]:
    return {"name": tensor.name, "dtype": tensor.dtype, "shape": list(tensor.shape)}


def _json(value: Any) -> str:
    """Canonical JSON; NaN and infinities are refused.

    Raises:
        InvalidInputError: the value is not one that JSON knows.
    """
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"value `{value!r}` cannot be kept as JSON: {error}", where="registry") from error
