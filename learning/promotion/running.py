"""Runs the requirements of a stage against a version, each with a record of what it looked at and what it found.

Fail closed: a stage that names no requirement, a check that nobody knows, a parameter that is missing or too much, a check that
raises: all are requirements that are not met.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from core.errors import HeadraceError, InvalidInputError
from iceberg.registry import ModelVersion, Registry
from iceberg.stages import StageChange
from learning.promotion.checks.a_b_test_ready import AbTestReady
from learning.promotion.checks.claimed_metric import ClaimedMetric
from learning.promotion.checks.inference_time import InferenceTime
from learning.promotion.checks.integration_test import IntegrationTest
from learning.promotion.checks.load_test import LoadTest
from learning.promotion.checks.parity import Parity
from learning.promotion.checks.performance_threshold import PerformanceThreshold
from learning.promotion.checks.requirement import Outcome, Requirement, Subject
from learning.promotion.checks.security_scan import SecurityScan
from learning.promotion.checks.time_in_stage import TimeInStage
from learning.promotion.evaluation import read_evaluation
from learning.promotion.policy import Policy, StagePolicy
from learning.promotion.rehearsal import OneArtifact, rehearsing

logger = logging.getLogger(__name__)

CHECKS: Mapping[str, type[Requirement]] = {
    "performance_threshold": PerformanceThreshold,
    "claimed_metric": ClaimedMetric,
    "inference_time": InferenceTime,
    "integration_test": IntegrationTest,
    "load_test": LoadTest,
    "security_scan": SecurityScan,
    "time_in_stage": TimeInStage,
    "a_b_test_ready": AbTestReady,
    "parity": Parity,
}


@dataclass(frozen=True)
class CheckRun:
    """One requirement that was looked at."""

    check: str
    parameters: Mapping[str, Any]
    ok: bool
    reason: str
    measured: Mapping[str, Any]
    inputs: Mapping[str, Any]
    seconds: float

    def as_json(self) -> dict[str, Any]:
        return {
            "check": self.check,
            "ok": self.ok,
            "reason": self.reason,
            "parameters": dict(self.parameters),
            "measured": _finite(dict(self.measured)),
            "inputs": dict(self.inputs),
            "seconds": round(self.seconds, 4),
        }


def run_requirements(
    stage: str,
    policy: StagePolicy,
    version: ModelVersion,
    registry: Registry,
    *,
    champion: ModelVersion | None,
    history: Sequence[StageChange],
    now: datetime,
) -> list[CheckRun]:
    """Look at every requirement, also after one that is not met: who is refused wants to know all reasons at once.

    Args:
        stage: the wanted one; `policy` is what guards it.
        champion: who is in production now.
        now: the time of the decision.
    """
    if policy.unguarded:
        return []
    if not policy.requirements:
        reason = f"the policy states no requirement for stage `{stage}`; if that is meant, it says `unguarded: true`"
        return [CheckRun("policy", {}, False, reason, {}, {}, 0.0)]
    try:
        artifact = registry.load_artifact(version.name, version.version)
        sealed = registry.load_evaluation(version)
        evaluation = read_evaluation(sealed) if sealed is not None else None
        with rehearsing(OneArtifact(version.name, version.version, artifact)) as rehearsal:
            subject = Subject(version, artifact, evaluation, champion, history, now, rehearsal)
            return [_run(dict(each), subject) for each in policy.requirements]
    except HeadraceError as problem:
        if problem.retryable:
            raise
        inputs = {"artifact_sha256": version.artifact_sha256}
        return [CheckRun("artifact", {}, False, f"the version cannot be served: {problem}", {}, inputs, 0.0)]


def check_claims(policy: Policy, metrics: Mapping[str, float]) -> None:
    """Hold what a version says of itself against the policy's gate of registration, before anything is stored.

    Raises:
        InvalidInputError: it is not enough, or the gate states something else than `claimed_metric`.
    """
    for stated in policy.registration:
        requirement = parse_requirement(stated)
        if not isinstance(requirement, ClaimedMetric):
            told = requirement if isinstance(requirement, str) else f"`{stated['check']}` needs a registered version"
            raise InvalidInputError(f"the registration gate is wrong: {told}", where="policy, registration")
        outcome = requirement.judge(metrics)
        if not outcome.ok:
            raise InvalidInputError(f"the version is not registered: {outcome.reason}", where="policy, registration")


def parse_requirement(stated: Mapping[str, Any]) -> Requirement | str:
    """A requirement of the policy, or why it is none."""
    parameters = dict(stated)
    name = parameters.pop("check", None)
    kind = CHECKS.get(str(name))
    if kind is None:
        return f"there is no check `{name}`; there are {', '.join(CHECKS)}"
    try:
        return kind.model_validate(parameters)
    except ValidationError as error:
        first = error.errors()[0]
        return f"parameter `{'.'.join(str(part) for part in first['loc'])}`: {first['msg'].lower()}"


def _run(stated: dict[str, Any], subject: Subject) -> CheckRun:
    begun = time.perf_counter()
    requirement = parse_requirement(stated)
    name = str(stated.pop("check", None))
    if isinstance(requirement, str):
        return CheckRun(name, stated, False, requirement, {}, subject.inputs, 0.0)
    try:
        outcome = requirement.run(subject)
    except Exception as problem:  # noqa: BLE001  whatever a check meets, it has not found what it looked for
        logger.warning("check failed", extra={"check": name, "model": subject.version.reference, "reason": str(problem)})
        outcome = Outcome(False, f"the check could not be made: {type(problem).__name__}: {problem}")
    parameters = requirement.model_dump(mode="json")
    return CheckRun(name, parameters, outcome.ok, outcome.reason, outcome.measured, subject.inputs, time.perf_counter() - begun)


def _finite(measured: dict[str, Any]) -> dict[str, Any]:
    """JSON knows no infinity: a latency that nobody measured is null."""
    return {key: None if value in (float("inf"), float("-inf")) else value for key, value in measured.items()}
