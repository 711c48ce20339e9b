"""Model versions with their stages, now or at a time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from api.reading.lake import Lake
from iceberg.registry import ModelVersion
from iceberg.stages import NONE, StageChange, Stages, stages_of


@dataclass(frozen=True)
class StagedVersion:
    """A version and where it is, or was."""

    version: ModelVersion
    stage: str


def read_models(lake: Lake, name: str | None, as_of: datetime | None) -> list[StagedVersion]:
    """Versions by name and number. Blocks."""
    history: dict[str, list[StageChange]] = {}
    for change in Stages(lake.catalog()).history(name):
        history.setdefault(change.name, []).append(change)
    stages = {each: stages_of(changes, at=as_of) for each, changes in history.items()}
    return [
        StagedVersion(version, stages.get(version.name, {}).get(version.version, NONE))
        for version in lake.registry().list(name)
        if as_of is None or version.created_at <= as_of
    ]
