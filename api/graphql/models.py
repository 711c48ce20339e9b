"""Stages of model versions: types, and the port behind which checks run."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, Protocol

import strawberry
from strawberry.scalars import JSON


class ModelLifecycle(Protocol):
    """Decides about stages, away from this process: checks compute for seconds. Adapter: `headrace.model_commands`.

    Answers are JSON as `headrace models promote|rollback|compare --json` prints it; errors are those of `core.errors`.
    """

    async def promote(self, name: str, version: int, to_stage: str, *, actor: str) -> Mapping[str, Any]: ...

    async def roll_back(self, name: str, to: int | None, *, actor: str) -> Mapping[str, Any]: ...

    async def compare(self, name: str, a: int, b: int, *, tenant: str | None) -> Mapping[str, Any]: ...


@strawberry.enum(description="Where a model version is in its life.")
class Stage(Enum):
    NONE = "none"
    STAGING = "staging"
    PRODUCTION = "production"
    ARCHIVED = "archived"


@strawberry.type(description="A requirement of the policy that was looked at.")
class PolicyCheck:
    check: str
    ok: bool
    reason: str
    parameters: JSON
    measured: JSON
    inputs: JSON = strawberry.field(description="Hashes of what was looked at.")


@strawberry.type(description="What became of a decision outside of the registry.")
class DeliveryStep:
    step: str
    state: str = strawberry.field(description="`done`, `pending`, `skipped` or `failed`.")
    reason: str | None


@strawberry.type(description="A decision about a stage, granted or refused, with every check.")
class PromotionResult:
    promotion_id: strawberry.ID
    granted: bool
    name: str
    version: int
    from_stage: str
    to_stage: str
    replaced: list[int] = strawberry.field(description="Versions that left the stage for it.")
    checks: list[PolicyCheck]
    delivery: list[DeliveryStep]
    decided_ms: float

    @staticmethod
    def of(told: Mapping[str, Any]) -> PromotionResult:
        return PromotionResult(
            promotion_id=strawberry.ID(told["promotion_id"]),
            granted=told["granted"],
            name=told["name"],
            version=told["version"],
            from_stage=told["from_stage"],
            to_stage=told["to_stage"],
            replaced=list(told["replaced"]),
            checks=[
                PolicyCheck(
                    check=each["check"],
                    ok=each["ok"],
                    reason=each["reason"],
                    parameters=JSON(each.get("parameters", {})),
                    measured=JSON(each.get("measured", {})),
                    inputs=JSON(each.get("inputs", {})),
                )
                for each in told["checks"]
            ],
            delivery=[
                DeliveryStep(step=each["step"], state=each["state"], reason=each.get("reason")) for each in told["delivery"]
            ],
            decided_ms=told["decided_ms"],
        )


@strawberry.type(description="Two versions of a model, on paper and on the same logged traffic.")
class ModelComparison:
    verdict: str = strawberry.field(
        description="`prefer_a`, `prefer_b`, `no_difference_shown`, `undecided` (no labels) or `incompatible`."
    )
    reason: str
    metrics: JSON
    metadata: JSON = strawberry.field(description="What differs, by name.")
    artifact: JSON = strawberry.field(description="Operators and weights that only one graph has.")
    signature_compatible: bool
    replay: JSON | None
    latency: JSON | None

    @staticmethod
    def of(told: Mapping[str, Any]) -> ModelComparison:
        return ModelComparison(
            verdict=told["recommendation"]["verdict"],
            reason=told["recommendation"]["reason"],
            metrics=JSON(told["metrics"]),
            metadata=JSON(told["metadata"]),
            artifact=JSON(told["artifact"]),
            signature_compatible=told["signature"]["compatible"],
            replay=JSON(told["replay"]) if told["replay"] is not None else None,
            latency=JSON(told["latency"]) if told["latency"] is not None else None,
        )
