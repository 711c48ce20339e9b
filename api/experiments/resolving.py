"""Finds the registered model that a variant names; nothing else is ever loaded, least of all a pickle.

A path names a registered artifact below the registry's root, or it names nothing: no file is opened because a request said so.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from api.experiments.model import Variant
from api.http.problems import ModelRefusedError
from core.ids import TenantId
from iceberg.registry import ModelVersion, Registry

PICKLES = frozenset({".pkl", ".pickle", ".joblib", ".dill", ".sav"})
_OTHER_FORMATS = frozenset({".pt", ".pth", ".h5", ".keras", ".bin", ".safetensors", ".txt", ".json", ".pmml", ".cbm", ".bst"})
_NAME = re.compile(r"(?P<name>[a-z][a-z0-9_.-]{0,127})(@(?P<version>[0-9]+))?", re.ASCII)
_FIX = "Export the model to ONNX, register it, and name it as MODEL@VERSION."


def warning_of(name: str, model_path: str) -> str | None:
    """What to say at once about a path that will be refused at the start."""
    if suffix_of(model_path) in PICKLES:
        return f"variant `{name}`: `{model_path}` is a pickle; the experiment cannot be started with it. {_FIX}"
    return None


def suffix_of(model_path: str) -> str:
    """The path's last suffix, in small letters."""
    return PurePosixPath(model_path.replace("\\", "/")).suffix.lower()


def resolve(variant: Variant, registry: Registry, root: str, tenant: TenantId) -> ModelVersion:
    """The model version that a variant means. Blocks.

    Args:
        variant: as it was asked for.
        registry: where versions are sealed.
        root: the folder or URL below which artifacts lie.
        tenant: whose aliases hold.

    Raises:
        ModelRefusedError: it means none; names variant and path.
    """
    suffix = suffix_of(variant.model_path)
    if suffix in PICKLES:
        raise _refused(variant, "is a pickle, which runs code when it is loaded")
    if suffix == ".onnx":
        return _by_path(variant, registry, root)
    if suffix in _OTHER_FORMATS and "/" in variant.model_path:
        raise _refused(variant, f"is no ONNX model but `{suffix}`")
    match = _NAME.fullmatch(variant.model_path.removeprefix("registry:"))
    if match is None:
        raise _refused(variant, "is no name of a model and no ONNX file of the registry")
    return _by_name(variant, match["name"], match["version"], registry, tenant)


def _by_path(variant: Variant, registry: Registry, root: str) -> ModelVersion:
    base = root.removeprefix("file://").rstrip("/")
    path = variant.model_path.removeprefix("file://")
    inside = path.removeprefix(f"{base}/")
    if ".." in PurePosixPath(inside).parts or inside.startswith("/"):
        raise _refused(variant, "lies outside of the registry")
    for version in registry.list():
        if version.artifact == inside:
            return version
    raise _refused(variant, "is no artifact of the registry")


def _by_name(variant: Variant, name: str, in_path: str | None, registry: Registry, tenant: TenantId) -> ModelVersion:
    versions = {version.version: version for version in registry.list(name)}
    if not versions:
        raise _refused(variant, "names no registered model")
    wanted = variant.model_version
    if in_path is not None and wanted is not None and wanted != in_path:
        raise _refused(variant, f"names version {in_path}, and `model_version` says `{wanted}`")
    wanted = in_path if wanted is None else wanted
    if wanted is None:
        raise _refused(variant, f"names no version; there are {_listed(versions)}")
    number = (
        int(wanted) if re.fullmatch(r"[0-9]{1,9}", wanted, re.ASCII) else registry.get_alias(name, wanted, tenant_id=tenant)
    )
    if number not in versions:
        raise _refused(variant, f"has no version `{wanted}`; there are {_listed(versions)}")
    return versions[number]


def _listed(versions: dict[int, ModelVersion]) -> str:
    return ", ".join(str(number) for number in sorted(versions))


def _refused(variant: Variant, why: str) -> ModelRefusedError:
    return ModelRefusedError(f"variant `{variant.name}`: `{variant.model_path}` {why}", where="model_path", fix=_FIX)
