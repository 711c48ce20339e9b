"""What the commands of `headrace models` share: options, the registry's lifecycle, and how a version is shown."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace.cli.context import load_settings
from headrace.cli.output import print_json, print_rows

if TYPE_CHECKING:
    from headrace.places import Place
    from iceberg.registry import ModelVersion
    from learning.promotion.lifecycle import Lifecycle

Name = Annotated[str, typer.Argument(help="The model's name.")]
Version = Annotated[str, typer.Argument(help="A number, or an alias or label such as `champion` or `v1.0`.")]
Reason = Annotated[str | None, typer.Option("--reason", help="Kept in the history.")]
Actor = Annotated[str, typer.Option("--actor", help="Who asks; kept in the history.")]
PolicyFile = Annotated[Path | None, typer.Option("--policy", help="A policy file instead of the setting `registry.policy`.")]
Tenant = Annotated[str | None, typer.Option("--tenant", help="Only this tenant.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Change nothing, only tell.")]


def open_models(context: typer.Context, data_dir: Path | None, policy: Path | None = None) -> tuple[Lifecycle, Place]:
    """The lifecycle of the folder's registry, running or stopped, and where that is."""
    from core.clock import SystemClock
    from headrace.places import find_place
    from learning.promotion.lifecycle import open_lifecycle
    from learning.promotion.policy import load_policy

    place = find_place(load_settings(context, data_dir=data_dir))
    given = load_policy(policy) if policy is not None else None
    return open_lifecycle(place.settings, place.connect, SystemClock(), policy=given), place


def print_version(found: ModelVersion, lifecycle: Lifecycle, *, as_json: bool) -> None:
    """Everything that is sealed with a version, and its stage."""
    told: dict[str, Any] = {
        "name": found.name,
        "version": found.version,
        "stage": lifecycle.stage_of(found.name).get(found.version),
        "aliases": sorted(
            alias + (f"@{tenant}" if tenant else "")
            for (alias, tenant), version in lifecycle.registry.aliases(found.name).items()
            if version == found.version
        ),
        "kind": found.kind,
        "created_at": found.created_at.isoformat(),
        "artifact": found.artifact,
        "artifact_sha256": found.artifact_sha256,
        "artifact_bytes": found.artifact_bytes,
        "signature": json.loads(found.signature.to_json()),
        "signature_hash": found.signature_hash,
        "metrics": dict(found.metrics),
        "tags": dict(found.tags),
        "training_data": dict(found.training_data),
        "training_seconds": found.training_duration.total_seconds(),
        "code_hash": found.code_hash,
    }
    if as_json:
        print_json(told)
    else:
        print_rows([{"field": key, "value": _shown(value)} for key, value in told.items()], as_json=False)


def _shown(value: object) -> str:
    return (
        json.dumps(value, default=str) if isinstance(value, Mapping | Sequence) and not isinstance(value, str) else str(value)
    )
