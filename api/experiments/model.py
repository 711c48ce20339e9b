"""What an experiment is, and how one is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from api.experiments.allocation import Strategy

Status = Literal["created", "running", "stopped"]


class VariantInput(BaseModel):
    """A variant as it is asked for."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    name: str = Field(min_length=1, max_length=200)
    model_path: str = Field(
        min_length=1, max_length=1000, description="`MODEL`, `MODEL@VERSION`, or the path of an ONNX file in the registry."
    )
    model_version: str | None = Field(None, max_length=200, description="A registered version, or an alias such as `v1.0`.")
    weight: float = Field(1.0, gt=0, description="Share in a fixed split.")


class ExperimentInput(BaseModel):
    """The body of `POST /api/v1/mlops/experiments`."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "name": "LightGBM vs Neural CF",
                "description": "Compare traditional vs deep learning approach",
                "variants": [
                    {"name": "champion", "model_path": "lgbm", "model_version": "1"},
                    {"name": "challenger", "model_path": "neural_cf", "model_version": "2"},
                ],
                "allocation_strategy": "thompson_sampling",
                "traffic_percentage": 50.0,
            }
        },
    )

    name: str = Field(min_length=1, max_length=200)
    description: str = Field("", max_length=4000)
    variants: list[VariantInput] = Field(min_length=2, max_length=20)
    allocation_strategy: Strategy | None = Field(
        None, description="Default: the setting `experiments.allocation_strategy`, `thompson_sampling` unless it was changed."
    )
    traffic_percentage: float | None = Field(
        None, gt=0, le=100, description="Default: the setting `experiments.traffic_percentage`, 100 unless it was changed."
    )
    endpoint: str = Field("default", min_length=1, max_length=200, description="Answers the units that do not take part.")
    conversion_window_seconds: float = Field(
        0.0,
        ge=0,
        le=366 * 86_400,
        description="The longest time after an exposure in which a conversion counts for the verdict, which waits for it.",
    )


@dataclass(frozen=True)
class Variant:
    """A variant as it is kept; `model` and `version` are what its path was resolved to when the experiment started."""

    variant_id: str
    name: str
    model_path: str
    model_version: str | None
    weight: float
    model: str | None = None
    version: int | None = None


@dataclass(frozen=True)
class Experiment:
    """An experiment of one tenant."""

    experiment_id: str
    name: str
    description: str
    endpoint: str
    strategy: Strategy
    traffic_percentage: float
    conversion_window_seconds: float
    variants: tuple[Variant, ...]
    status: Status
    created_at: datetime
    started_at: datetime | None = None
    stopped_at: datetime | None = None

    def position(self, variant_id: str) -> int:
        """Where a variant stands in every array of this experiment."""
        return next(at for at, variant in enumerate(self.variants) if variant.variant_id == variant_id)
