"""What a person or the API asks of the registry's life: promote, roll back, compare, deliver. One object, made by `headrace`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyiceberg.catalog import Catalog

from core.clock import Clock
from core.errors import ConflictError, UnavailableError
from core.settings import Settings
from iceberg.catalog import open_lake
from iceberg.registry import ModelVersion, Registry
from iceberg.stages import NONE, StageChange, Stages, stages_of
from learning.promotion import decisions
from learning.promotion.decisions import PRODUCTION, Decision
from learning.promotion.delivery import Deliverer, Step, routes_before, type_connect
from learning.promotion.policy import Policy, load_policy
from learning.promotion.servers import must_be_applied
from learning.promotion.webhooks import Webhooks
from pipelines.feature_versions import deployed, differences, in_folders
from pipelines.routing import read_current


@dataclass(frozen=True)
class Answer:
    """A decision, and how far it was carried out; `decided_ms` is the time from the question to the commit."""

    decision: Decision
    steps: Sequence[Step]
    decided_ms: float
    delivered_ms: float

    def as_json(self) -> dict[str, Any]:
        main = self.decision.main
        return {
            "promotion_id": main.promotion_id,
            "kind": main.kind,
            "name": main.name,
            "version": main.version,
            "from_stage": main.from_stage,
            "to_stage": main.to_stage,
            "granted": main.granted,
            "replaced": [change.version for change in self.decision.changes[1:]],
            "checks": list(main.checks),
            "policy_sha256": main.policy_sha256,
            "delivery": [step.as_json() for step in self.steps],
            "at": main.at.isoformat() if main.at else None,
            "decided_ms": round(self.decided_ms, 1),
            "delivered_ms": round(self.delivered_ms, 1),
        }


class Lifecycle:
    """The registry with its policy and its surroundings.

    Args:
        catalog, root: of the registry; see `iceberg.registry.Registry`.
        connect: to the stream database; raises UnavailableError while it is away.
    """

    def __init__(
        self,
        catalog: Catalog,
        root: str,
        policy: Policy,
        connect: type_connect,
        *,
        udf_url: str,
        webhooks: Webhooks,
        clock: Clock,
    ) -> None:
        self.catalog, self.policy = catalog, policy
        self.registry = Registry(catalog, root, clock=clock)
        self.stages = Stages(catalog, clock=clock)
        self.deliverer = Deliverer(self.registry, self.stages, connect, udf_url, webhooks, clock)
        self._connect, self._clock = connect, clock

    def promote(
        self,
        name: str,
        version: int,
        to_stage: str,
        *,
        actor: str,
        reason: str | None = None,
        serve: Sequence[tuple[str, str]] = (),
    ) -> Answer:
        """Check, decide, deliver; raises as `decisions.promote`, and ConflictError where the deployed features are others."""
        begun = self._clock.monotonic_seconds()
        self._must_fit_features(self.registry.must_get(name, version))
        decision = decisions.promote(
            self.registry,
            self.stages,
            self.policy,
            name,
            version,
            to_stage,
            clock=self._clock,
            actor=actor,
            reason=reason,
            serve=serve,
        )
        return self._delivered(decision, begun)

    def roll_back(
        self, name: str, *, actor: str, to: int | None = None, stage: str = PRODUCTION, reason: str | None = None
    ) -> Answer:
        """Go back, deliver; raises as `decisions.roll_back`, and ConflictError where the deployed features are others."""
        begun = self._clock.monotonic_seconds()
        held = [to] if to is not None else decisions.earlier_holders(self.stages.history(name), stage)
        if held:
            self._must_fit_features(self.registry.must_get(name, held[-1]))
        decision = decisions.roll_back(
            self.registry,
            self.stages,
            self.policy,
            name,
            actor=actor,
            to=to,
            stage=stage,
            reason=reason,
            routes_before=lambda promotion_id: routes_before(self.stages, promotion_id),
        )
        return self._delivered(decision, begun)

    def delete(
        self, name: str, version: int, *, actor: str, reason: str | None = None, dry_run: bool = False
    ) -> tuple[StageChange, Sequence[str]]:
        """As `decisions.delete`; where the stream database can be asked, no route may have the version."""
        routed: list[str] = []
        try:
            with self._connect() as connection:
                must_be_applied(connection)
                routed = [
                    state.place
                    for state in read_current(connection)
                    if any((each.model, each.version) == (name, version) for each in state.members)
                ]
        except UnavailableError:
            pass  # nobody serves
        change, removed = decisions.delete(
            self.registry, self.stages, name, version, actor=actor, routed=routed, reason=reason, dry_run=dry_run
        )
        if not dry_run:
            self.deliverer.deliver(change)
        return change, removed

    def stage_of(self, name: str) -> Mapping[int, str]:
        """The stage of each version of a model."""
        now_in = stages_of(self.stages.history(name))
        return {each.version: now_in.get(each.version, NONE) for each in self.registry.list(name)}

    def _delivered(self, decision: Decision, begun: float) -> Answer:
        decided = self._clock.monotonic_seconds()
        steps = self.deliverer.deliver(decision.main) if decision.granted else []
        delivered = self._clock.monotonic_seconds()
        return Answer(decision, steps, (decided - begun) * 1000, (delivered - decided) * 1000)

    def _must_fit_features(self, found: ModelVersion) -> None:
        needed = {name: str(value) for name, value in dict(found.training_data.get("features", {})).items()}
        if not needed:
            return
        try:
            with self._connect() as connection:
                have, where = deployed(connection), "stream database"
        except UnavailableError:
            have, where = in_folders(), "pipeline folders"
        wrong = differences(needed, have)
        if wrong:
            raise ConflictError(
                f"`{found.reference}` was trained on other features: {'; '.join(wrong)}",
                where=where,
                fix="Bring the definition back (`headrace pipeline apply` of the folder that it was trained with), then try again.",
            )


def open_lifecycle(settings: Settings, connect: type_connect, clock: Clock, *, policy: Policy | None = None) -> Lifecycle:
    """The lifecycle that the settings name.

    Args:
        policy: instead of the settings'.
    """
    secret = settings.registry.webhook_secret
    return Lifecycle(
        open_lake(settings),
        settings.resolved_warehouse,
        policy or load_policy(settings.registry.policy),
        connect,
        udf_url=settings.udf_url,
        webhooks=Webhooks(settings.registry.webhooks, secret.get_secret_value() if secret else None, clock),
        clock=clock,
    )
