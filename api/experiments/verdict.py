"""What an experiment says now: the answer of `GET /api/v1/mlops/experiments/{id}`."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from api.experiments import evidence, posterior
from api.experiments.allocation import propensities
from api.experiments.balance import ALARM, sample_ratio
from api.experiments.evidence import ALPHA, Evidence
from api.experiments.model import Experiment, Status
from api.experiments.store import Counts


class VariantResult(BaseModel):
    """One variant's numbers."""

    model_config = ConfigDict(protected_namespaces=())

    variant_id: str
    name: str
    impressions: int = Field(description="Units whose first exposure was to this variant.")
    conversions: int = Field(description="Those of them that converted afterwards.")
    conversion_rate: float
    avg_latency_ms: float | None = Field(description="Of predictions made by `/predict` for the experiment.")
    probability_best: float
    always_valid_confidence: float = Field(description="That this variant is the best; holds however often it is looked at.")
    propensity: float = Field(description="The chance of a new unit to get this variant now.")
    model: str | None = Field(description="The registered model it was resolved to at the start, as name@version.")
    model_path: str
    model_version: str | None


class SampleRatioResult(BaseModel):
    """Whether units arrived at the variants as they were dealt."""

    observed: list[int]
    expected: list[float]
    p_value: float | None
    mismatch: bool
    method: str = f"Pearson's chi-square against the logged propensities; alarm below {ALARM:g}"


class ExperimentResult(BaseModel):
    """An experiment and what it says now."""

    experiment_id: str
    name: str
    status: Status
    variants: list[VariantResult]
    winning_variant: str | None = Field(description="The variant whose always-valid confidence has reached `confidence_level`.")
    confidence: float = Field(description="Probability that the leading variant is the best; see `confidence_method`.")
    total_impressions: int
    total_conversions: int
    confidence_method: str = posterior.METHOD
    leading_variant: str | None
    confidence_level: float = 1.0 - ALPHA
    always_valid_method: str = evidence.METHOD
    matured_impressions: int = Field(description="Units whose outcome is final, which the verdict rests on.")
    decision: Literal["promote", "keep_running", "investigate"] = Field(
        description="`investigate`: units did not arrive as they were dealt, so no number here can be trusted."
    )
    sample_ratio: SampleRatioResult
    description: str
    endpoint: str
    allocation_strategy: str
    traffic_percentage: float
    conversion_window_seconds: float
    created_at: str
    started_at: str | None
    stopped_at: str | None


def result_of(experiment: Experiment, counts: Counts, found: Evidence) -> ExperimentResult:
    """Put the numbers of an experiment together."""
    weights = np.array([variant.weight for variant in experiment.variants])
    successes = counts.conversions.astype(np.float64)
    best = posterior.probability_best(successes, counts.impressions)
    chances = propensities(experiment.strategy, successes, counts.trials, weights)
    valid = found.confidence()
    winner = int(found.winner())
    leading = int(best.argmax()) if counts.impressions.any() else None
    ratio = sample_ratio(counts.impressions, counts.expected)
    variants = [
        VariantResult(
            variant_id=variant.variant_id,
            name=variant.name,
            impressions=int(counts.impressions[at]),
            conversions=int(counts.conversions[at]),
            conversion_rate=_rate(counts.conversions, counts.impressions, at),
            avg_latency_ms=_known(counts.avg_latency_ms[at]),
            probability_best=float(best[at]),
            always_valid_confidence=float(valid[at]),
            propensity=float(chances[at]),
            model=None if variant.model is None else f"{variant.model}@{variant.version}",
            model_path=variant.model_path,
            model_version=variant.model_version,
        )
        for at, variant in enumerate(experiment.variants)
    ]
    decision: Any = "investigate" if ratio.mismatch else "promote" if winner >= 0 else "keep_running"  # Any: one of the three
    return ExperimentResult(
        experiment_id=experiment.experiment_id,
        name=experiment.name,
        status=experiment.status,
        variants=variants,
        winning_variant=experiment.variants[winner].name if winner >= 0 else None,
        confidence=float(best.max()),
        total_impressions=int(counts.impressions.sum()),
        total_conversions=int(counts.conversions.sum()),
        leading_variant=None if leading is None else experiment.variants[leading].name,
        matured_impressions=int(found.trials),
        decision=decision,
        sample_ratio=SampleRatioResult(
            observed=list(ratio.observed), expected=list(ratio.expected), p_value=ratio.p_value, mismatch=ratio.mismatch
        ),
        description=experiment.description,
        endpoint=experiment.endpoint,
        allocation_strategy=experiment.strategy,
        traffic_percentage=experiment.traffic_percentage,
        conversion_window_seconds=experiment.conversion_window_seconds,
        created_at=experiment.created_at.isoformat(),
        started_at=experiment.started_at.isoformat() if experiment.started_at else None,
        stopped_at=experiment.stopped_at.isoformat() if experiment.stopped_at else None,
    )


def _rate(conversions: npt.NDArray[np.int64], impressions: npt.NDArray[np.int64], at: int) -> float:
    return round(float(conversions[at] / impressions[at]), 4) if impressions[at] else 0.0


def _known(latency: float) -> float | None:
    return None if math.isnan(latency) else round(float(latency), 3)
