"""`/api/v1/mlops/experiments`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from fastapi import APIRouter, Request
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from api.experiments.dealing import Share
from api.experiments.model import Experiment, ExperimentInput
from api.experiments.service import Experiments
from api.experiments.verdict import ExperimentResult
from api.identity.authenticator import Authenticator

MAX_UNITS = 10_000


class CreatedAnswer(BaseModel):
    """What creating an experiment is answered with."""

    experiment_id: str
    message: str
    warnings: list[str] = Field(description="What will go wrong, or is likely to.")


class ChangedAnswer(BaseModel):
    """What starting and stopping are answered with."""

    experiment_id: str
    status: str
    message: str


class ExperimentSummary(BaseModel):
    """An experiment in a list."""

    experiment_id: str
    name: str
    status: str
    allocation_strategy: str
    traffic_percentage: float
    variants: list[str]
    created_at: datetime
    started_at: datetime | None
    stopped_at: datetime | None


class UnitsInput(BaseModel):
    """Units to deal, e.g. users."""

    model_config = ConfigDict(extra="forbid")

    unit_ids: list[str] = Field(min_length=1, max_length=MAX_UNITS)


class Assignment(BaseModel):
    """What one unit gets."""

    model_config = ConfigDict(protected_namespaces=())

    unit_id: str
    in_experiment: bool = Field(description="False: outside of the experiment's traffic; give it what everybody else gets.")
    variant_id: str | None
    variant: str | None
    propensity: float | None = Field(description="The chance with which it got it, which is logged with the exposure.")
    model: str | None


class AssignmentsAnswer(BaseModel):
    """Assignments in the order of the units."""

    experiment_id: str
    assignments: list[Assignment]


class Conversion(BaseModel):
    """A unit that converted."""

    model_config = ConfigDict(extra="forbid")

    unit_id: str = Field(min_length=1, max_length=1024)
    converted_at: AwareDatetime | None = Field(None, description="Default: the time of receipt.")


class ConversionsInput(BaseModel):
    """Units that converted."""

    model_config = ConfigDict(extra="forbid")

    conversions: list[Conversion] = Field(min_length=1, max_length=MAX_UNITS)


class ConversionsAnswer(BaseModel):
    """How many conversions are durable."""

    experiment_id: str
    accepted: int


_NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"description": "There is no such experiment."}}
_NOT_RUNNING: dict[int | str, dict[str, Any]] = {**_NOT_FOUND, 409: {"description": "It is not running, or was stopped."}}
_START: dict[int | str, dict[str, Any]] = {
    **_NOT_RUNNING,
    422: {"description": "`model_refused`: a variant names a pickle, or no model of the registry; the answer names it."},
}


def build_router(experiments: Experiments, authenticator: Authenticator) -> APIRouter:
    """The routes of experiments."""
    router = APIRouter(prefix="/api/v1/mlops/experiments", tags=["MLOps"])

    @router.post("", status_code=201)
    async def create(request: Request, asked: ExperimentInput) -> CreatedAnswer:
        """Create an experiment; no unit takes part before it is started."""
        tenant = (await authenticator.authenticate(request, "operate")).tenant
        experiment, warnings = await experiments.create(tenant, asked)
        message = f"Experiment '{experiment.name}' created successfully"
        return CreatedAnswer(experiment_id=experiment.experiment_id, message=message, warnings=warnings)

    @router.get("")
    async def list_experiments(request: Request) -> list[ExperimentSummary]:
        """Your experiments, the newest first."""
        tenant = (await authenticator.authenticate(request, "read")).tenant
        return [_summary(each) for each in await experiments.all_of(tenant)]

    @router.get("/{exp_id}", responses=_NOT_FOUND)
    async def result(request: Request, exp_id: str) -> ExperimentResult:
        """What an experiment says now."""
        return await experiments.result((await authenticator.authenticate(request, "read")).tenant, exp_id)

    @router.post("/{exp_id}/start", responses=_START)
    async def start(request: Request, exp_id: str) -> ChangedAnswer:
        """Resolve the variants' models and let units in."""
        return _changed(
            await experiments.start((await authenticator.authenticate(request, "operate")).tenant, exp_id), "started"
        )

    @router.post("/{exp_id}/stop", responses=_NOT_FOUND)
    async def stop(request: Request, exp_id: str) -> ChangedAnswer:
        """Let no more units in; conversions of those that are in still count."""
        return _changed(
            await experiments.stop((await authenticator.authenticate(request, "operate")).tenant, exp_id), "stopped"
        )

    @router.post("/{exp_id}/assignments", responses=_NOT_RUNNING)
    async def assign(request: Request, exp_id: str, asked: UnitsInput) -> AssignmentsAnswer:
        """Deal units to variants and note the exposure; a unit gets the same variant each time."""
        tenant = (await authenticator.authenticate(request, "predict")).tenant
        shares = await experiments.assign(tenant, exp_id, asked.unit_ids)
        return AssignmentsAnswer(experiment_id=exp_id, assignments=[_assignment(share) for share in shares])

    @router.post("/{exp_id}/conversions", status_code=202, responses=_NOT_FOUND)
    async def convert(request: Request, exp_id: str, asked: ConversionsInput) -> ConversionsAnswer:
        """Note that units converted, at any time after they were exposed."""
        tenant = (await authenticator.authenticate(request, "ingest")).tenant
        units = {each.unit_id: each.converted_at for each in asked.conversions}
        return ConversionsAnswer(experiment_id=exp_id, accepted=await experiments.convert(tenant, exp_id, units))

    return router


def _changed(experiment: Experiment, what: str) -> ChangedAnswer:
    return ChangedAnswer(
        experiment_id=experiment.experiment_id, status=experiment.status, message=f"Experiment '{experiment.name}' {what}"
    )


def _summary(experiment: Experiment) -> ExperimentSummary:
    return ExperimentSummary(
        experiment_id=experiment.experiment_id,
        name=experiment.name,
        status=experiment.status,
        allocation_strategy=experiment.strategy,
        traffic_percentage=experiment.traffic_percentage,
        variants=[variant.name for variant in experiment.variants],
        created_at=experiment.created_at,
        started_at=experiment.started_at,
        stopped_at=experiment.stopped_at,
    )


def _assignment(share: Share) -> Assignment:
    variant = share.variant
    return Assignment(
        unit_id=share.unit,
        in_experiment=variant is not None,
        variant_id=None if variant is None else variant.variant_id,
        variant=None if variant is None else variant.name,
        propensity=share.propensity,
        model=None if variant is None else f"{variant.model}@{variant.version}",
    )
