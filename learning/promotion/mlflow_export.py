"""Copies versions into an MLflow registry, so that nobody is locked in: a server, or a folder with a database and the files.

    version   -> a run with metrics, parameters and tags, its ONNX model as artifact, and a version of the registered model
    alias     -> alias, those of one tenant as `ALIAS-TENANT`
    stage     -> alias of the stage's name (MLflow's own stages are deprecated since 2.9), and tag `headrace.stage`

A folder holds `mlflow.db` and `artifacts` (MLflow's own file store takes no new features and has to be asked for): open it with
`mlflow ui --backend-store-uri sqlite:///FOLDER/mlflow.db`. MLflow counts versions itself; ours stands in tag `headrace.version`, and a version whose artifact is there already is not copied again.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx

from core.errors import ConfigError, InvalidInputError, UnavailableError
from iceberg.registry import ModelVersion, Registry
from iceberg.stages import DELETED, NONE

_EXPERIMENT = "headrace"
_ALIAS = re.compile(r"[^A-Za-z0-9_-]")


def export(
    registry: Registry, stages: Mapping[int, str], versions: Sequence[ModelVersion], target: str
) -> list[dict[str, Any]]:
    """Copy versions of one model, oldest first, and return one object each.

    Args:
        stages: of each version.
        target: a folder, or `http(s)://HOST:PORT` of a server.

    Raises:
        ConfigError: MLflow is not installed.
        UnavailableError: the server does not answer.
    """
    client, mlflow_onnx, errors = _client(target)
    name = versions[0].name
    try:
        known = _known(client, name, errors)
        meanings = registry.aliases(name)
        rows = []
        for each in sorted(versions, key=lambda version: version.version):
            stage = stages.get(each.version, NONE)
            if stage == DELETED:
                continue
            number = known.get(each.artifact_sha256)
            copied = number is None
            if number is None:
                number = _copy(client, mlflow_onnx, registry, each, _experiment(client, target))
            client.set_model_version_tag(name, number, "headrace.stage", stage)
            aliases = {_alias(alias, tenant) for (alias, tenant), version in meanings.items() if version == each.version}
            aliases |= {stage} if stage not in (NONE, "archived") else set()
            for alias in sorted(aliases):
                client.set_registered_model_alias(name, alias, number)
            rows.append(
                {
                    "name": name,
                    "version": each.version,
                    "mlflow_version": int(number),
                    "copied": copied,
                    "aliases": sorted(aliases),
                }
            )
    except errors as problem:
        raise UnavailableError(f"MLflow refuses: {str(problem).splitlines()[0]}", where=target) from problem
    return rows


def _client(target: str) -> tuple[Any, Any, Any]:  # Any: MLflow is optional, so no type of it can be named here
    try:
        import mlflow.onnx
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient
    except ImportError as problem:
        raise ConfigError(
            f"MLflow is not installed: {problem.name}", where="headrace models export", fix="pip install 'headrace[mlflow]'"
        ) from problem
    if target.startswith(("http://", "https://")):
        uri = target
    elif "://" in target:
        raise InvalidInputError(f"`{target}` is neither a folder nor an address", fix="Write a path, or http://HOST:PORT.")
    else:
        Path(target).mkdir(parents=True, exist_ok=True)
        uri = f"sqlite:///{Path(target).absolute() / 'mlflow.db'}"
    return MlflowClient(tracking_uri=uri, registry_uri=uri), mlflow.onnx, MlflowException


def _experiment(client: Any, target: str) -> str:
    found = client.get_experiment_by_name(_EXPERIMENT)
    if found is not None:
        return str(found.experiment_id)
    files = None if "://" in target else (Path(target).absolute() / "artifacts").as_uri()
    return str(client.create_experiment(_EXPERIMENT, artifact_location=files))


def _known(client: Any, name: str, errors: Any) -> dict[str, str]:
    """MLflow's version of each artifact that is there already, by its hash."""
    try:
        client.create_registered_model(name, tags={"source": "headrace"})
    except errors as problem:
        if getattr(problem, "error_code", "") != "RESOURCE_ALREADY_EXISTS":
            raise
    found = client.search_model_versions(f"name = '{name}'")
    return {each.tags["headrace.artifact_sha256"]: each.version for each in found if "headrace.artifact_sha256" in each.tags}


def _copy(client: Any, mlflow_onnx: Any, registry: Registry, version: ModelVersion, experiment_id: str) -> str:
    started = int(version.created_at.timestamp() * 1000)
    run = client.create_run(experiment_id, start_time=started, run_name=version.reference)
    run_id = run.info.run_id
    for name, metric in version.metrics.items():
        client.log_metric(run_id, name, float(metric), timestamp=started)
    for name, value in version.training_data.items():
        client.log_param(run_id, f"training_data.{name}", value if isinstance(value, str | int | float) else json.dumps(value))
    for name, tag in version.tags.items():
        client.set_tag(run_id, name, tag)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model"
        model = onnx.load_model_from_string(registry.load_artifact(version.name, version.version))
        mlflow_onnx.save_model(
            model, str(path), metadata={"headrace": version.reference}, onnx_execution_providers=["CPUExecutionProvider"]
        )
        client.log_artifacts(run_id, str(path), "model")
    client.set_terminated(run_id, end_time=started + int(version.training_duration.total_seconds() * 1000))
    tags = {
        "headrace.version": str(version.version),
        "headrace.artifact_sha256": version.artifact_sha256,
        "headrace.signature_hash": version.signature_hash,
        "headrace.code_hash": version.code_hash,
    }
    made = client.create_model_version(
        version.name, f"{run.info.artifact_uri}/model", run_id=run_id, tags=tags, description=f"headrace {version.reference}"
    )
    return str(made.version)


def _alias(alias: str, tenant: str) -> str:
    """An alias as MLflow allows it (no `v1`: that is a version there)."""
    text = _ALIAS.sub("-", f"{alias}-{tenant}" if tenant else alias)
    return f"label-{text}" if re.fullmatch(r"v\d+", text) or text == "latest" else text
