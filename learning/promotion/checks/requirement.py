"""What a check is: parameters from the policy, a subject to look at, and an outcome with what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

from pydantic import BaseModel, ConfigDict

from iceberg.registry import ModelVersion
from iceberg.stages import StageChange
from learning.promotion.evaluation import Evaluation
from learning.promotion.rehearsal import Rehearsal


@dataclass(frozen=True)
class Outcome:
    """Whether a requirement is met, why, and the figures that the decision rests on (JSON)."""

    ok: bool
    reason: str
    measured: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Subject:
    """What checks look at: one version that wants to enter a stage.

    Attributes:
        artifact: its bytes, verified against the sealed hash.
        evaluation: the labelled rows that were sealed with it, if any were.
        champion: who is in production now, if anybody.
        history: of the model's stages.
        now: the clock's time of the decision.
        rehearsal: a UDF server that serves the version, and nobody else.
    """

    version: ModelVersion
    artifact: bytes
    evaluation: Evaluation | None
    champion: ModelVersion | None
    history: Sequence[StageChange]
    now: datetime
    rehearsal: Rehearsal

    @cached_property
    def inputs(self) -> dict[str, Any]:
        """What names the inputs of a check in its record."""
        sealed = self.version.training_data.get("evaluation")
        return {
            "artifact_sha256": self.version.artifact_sha256,
            "signature_hash": self.version.signature_hash,
            "evaluation_sha256": sealed["sha256"] if sealed else None,
            "evaluation_rows": len(self.evaluation.labels) if self.evaluation else 0,
            "champion": self.champion.reference if self.champion else None,
        }


class Requirement(BaseModel):
    """The parameters of one check; a missing or unknown one means that the requirement is not met."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def run(self, subject: Subject) -> Outcome:
        """Look; what it raises counts as not met."""
        raise NotImplementedError
