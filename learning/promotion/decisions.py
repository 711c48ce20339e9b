"""Decides about stages: promote, roll back, delete. Each decision is one commit in the registry, made on what was checked.

    read history --> run checks --> commit, if nobody decided meanwhile --> deliver (see `delivery`)
                         |
                         '-- killed here: nothing has changed; the checks are run again

What a decision wants outside of the registry (aliases, routes) stands in its row, so that it is carried out also after a crash.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from core.clock import Clock
from core.errors import ConflictError, InvalidInputError, NotFoundError
from iceberg.registry import ModelVersion, Registry
from iceberg.stages import DELETED, NONE, StageChange, Stages, newest_granted, stages_of
from learning.promotion.policy import Policy, StagePolicy
from learning.promotion.running import CheckRun, run_requirements

PRODUCTION = "production"


@dataclass(frozen=True)
class Decision:
    """What was decided, and recorded.

    Attributes:
        changes: the rows, the asked version's first.
        checks: every check that was made, of a promotion.
    """

    changes: Sequence[StageChange]
    checks: Sequence[CheckRun] = ()

    @property
    def main(self) -> StageChange:
        return self.changes[0]

    @property
    def granted(self) -> bool:
        return self.main.granted


@dataclass(frozen=True)
class Wishes:
    """What a decision wants of routes besides the places of what it replaced, as JSON in its row.

    Attributes:
        serve: (tenant, endpoint): the version shall serve there, alone beside the shadows.
        restore: routes as they were before, by tenant and endpoint; see `pipelines.routing.RouteState`.
    """

    serve: Sequence[tuple[str, str]] = ()
    restore: Sequence[Mapping[str, Any]] = ()

    def as_json(self) -> dict[str, Any]:
        return {
            "serve": [list(place) for place in self.serve],
            "restore": list(self.restore),
        }


def promote(
    registry: Registry,
    stages: Stages,
    policy: Policy,
    name: str,
    version: int,
    to_stage: str,
    *,
    clock: Clock,
    actor: str,
    reason: str | None = None,
    serve: Sequence[tuple[str, str]] = (),
    failpoint: Callable[[str], None] = lambda _: None,
) -> Decision:
    """Move a version into a stage if it meets every requirement; a refusal is recorded as well.

    Args:
        serve: endpoints (tenant, endpoint) that it shall serve from then on.
        failpoint: called with `checked`; tests kill the process there.

    Raises:
        NotFoundError: the version is not registered, or deleted.
        InvalidInputError: there is no such stage.
        ConflictError: it is in that stage already, or somebody else decided about the model meanwhile.
    """
    guard = policy.must_get(to_stage)
    found = registry.must_get(name, version)
    history = stages.history(name)
    now_in = stages_of(history)
    current = _must_be_there(now_in, found)
    if current == to_stage:
        raise ConflictError(f"`{found.reference}` is in stage `{to_stage}` already", fix="There is nothing to do.")
    champion_version = _holder(now_in, PRODUCTION)
    champion = registry.get(name, champion_version) if champion_version is not None else None
    runs = [
        *_comes_from(guard, current, to_stage, found),
        *run_requirements(to_stage, guard, found, registry, champion=champion, history=history, now=clock.now()),
    ]
    failpoint("checked")
    granted = all(run.ok for run in runs)
    replaced = [v for v, stage in now_in.items() if guard.exclusive and stage == to_stage and v != version]
    left = policy.stages.get(current, StagePolicy(unguarded=True))
    detail = {
        "replaced": replaced,
        "aliases": list(guard.aliases),
        "aliases_left": [alias for alias in left.aliases if alias not in guard.aliases],
        "artifact_sha256": found.artifact_sha256,
        "routes": Wishes(serve=serve).as_json(),
    }
    asked = StageChange(
        name=name,
        version=version,
        from_stage=current,
        to_stage=to_stage,
        granted=granted,
        kind="promote",
        actor=actor,
        promotion_id=str(uuid.uuid4()),
        checks=[run.as_json() for run in runs],
        detail=detail if granted else {},
        reason=reason,
        policy_sha256=policy.sha256,
    )
    archived = [
        replace(
            asked, version=v, from_stage=to_stage, to_stage=guard.replaced, kind="replaced", checks=(), detail={"by": version}
        )
        for v in replaced
    ]
    if not granted:
        return Decision(stages.record([asked], expect=None), runs)
    return Decision(stages.record([asked, *archived], expect=newest_granted(history)), runs)


def roll_back(
    registry: Registry,
    stages: Stages,
    policy: Policy,
    name: str,
    *,
    actor: str,
    to: int | None = None,
    stage: str = PRODUCTION,
    reason: str | None = None,
    routes_before: Callable[[str], Sequence[Mapping[str, Any]]] = lambda _: (),
) -> Decision:
    """Give a stage back to the version that held it before, with the routes from before; no check is run again: it has been there.

    Args:
        to: the version; default: the one that held the stage before the present one.
        routes_before: the routes that a promotion replaced, by its id; see `delivery`.

    Raises:
        NotFoundError: no other version was in the stage.
        InvalidInputError: `to` never was.
        CorruptDataError: the artifact to go back to is gone or changed.
        ConflictError: `to` is in the stage already, or somebody else decided meanwhile.
    """
    history = stages.history(name)
    now_in = stages_of(history)
    current = _holder(now_in, stage)
    held = _held_in_order(history, stage)
    earlier = earlier_holders(history, stage)
    if to is None and not earlier:
        raise NotFoundError(
            f"no {'other ' if current else ''}version of `{name}` was in stage `{stage}`",
            where="registry.promotions",
            fix="Promote one with `headrace models promote`; `headrace models history` shows what was.",
        )
    wanted = earlier[-1] if to is None else to
    if wanted == current:
        raise ConflictError(f"`{name}@{wanted}` is in stage `{stage}` already", fix="There is nothing to go back to.")
    found = registry.must_get(name, wanted)
    _must_be_there(now_in, found)
    if wanted not in held:
        raise InvalidInputError(
            f"`{found.reference}` was never in stage `{stage}`",
            fix=f"Versions that were: {', '.join(str(v) for v in held) or 'none'}. Others have to be promoted.",
        )
    registry.load_artifact(name, wanted)  # what is gone or changed cannot be gone back to
    guard = policy.stages.get(stage, StagePolicy(unguarded=True))
    undone = next((c for c in reversed(history) if c.granted and c.version == current and c.to_stage == stage), None)
    wishes = Wishes(restore=routes_before(undone.promotion_id) if undone is not None else ())
    restored = StageChange(
        name=name,
        version=wanted,
        from_stage=now_in.get(wanted, NONE),
        to_stage=stage,
        granted=True,
        kind="rollback",
        actor=actor,
        promotion_id=str(uuid.uuid4()),
        checks=[
            {
                "check": "artifact",
                "ok": True,
                "reason": "its bytes have the sealed hash",
                "inputs": {"artifact_sha256": found.artifact_sha256},
            }
        ],
        detail={
            "replaced": [current] if current is not None else [],
            "aliases": list(guard.aliases),
            "aliases_left": [],
            "undoes": undone.promotion_id if undone else None,
            "artifact_sha256": found.artifact_sha256,
            "routes": wishes.as_json(),
        },
        reason=reason,
        policy_sha256=policy.sha256,
    )
    rows = [restored]
    if current is not None:
        rows.append(
            replace(
                restored,
                version=current,
                from_stage=stage,
                to_stage=guard.replaced,
                kind="withdrawn",
                checks=(),
                detail={"by": wanted},
            )
        )
    return Decision(stages.record(rows, expect=newest_granted(history)))


def delete(
    registry: Registry,
    stages: Stages,
    name: str,
    version: int,
    *,
    actor: str,
    routed: Sequence[str],
    reason: str | None = None,
    dry_run: bool = False,
) -> tuple[StageChange, Sequence[str]]:
    """Take a version out of the registry and remove its files; its row and its history stay.

    Args:
        routed: places (`tenant/endpoint`) whose route has it.
        dry_run: only say what would go.

    Returns:
        the recorded change, and the removed paths.

    Raises:
        ConflictError: it is in a stage of use, or has an alias, or a route; says which.
    """
    found = registry.must_get(name, version)
    history = stages.history(name)
    now_in = stages_of(history)
    current = _must_be_there(now_in, found)
    meant = [
        f"alias {alias}" + (f" of {tenant}" if tenant else "")
        for (alias, tenant), v in registry.aliases(name).items()
        if v == version
    ]
    used = [
        *([f"stage {current}"] if current not in (NONE, "archived") else []),
        *meant,
        *(f"route {place}" for place in routed),
    ]
    if used:
        raise ConflictError(
            f"`{found.reference}` is in use: {', '.join(used)}",
            fix="Archive it (`headrace models promote NAME VERSION --to archived`), take the aliases away, change the routes.",
        )
    change = StageChange(
        name=name,
        version=version,
        from_stage=current,
        to_stage=DELETED,
        granted=True,
        kind="delete",
        actor=actor,
        promotion_id=str(uuid.uuid4()),
        detail={"artifact": found.artifact, "artifact_sha256": found.artifact_sha256},
        reason=reason,
    )
    if not dry_run:
        (change,) = stages.record([change], expect=newest_granted(history))
    gone = {(c.name, c.version) for c in stages.history() if c.to_stage == DELETED and c.granted} | {(name, version)}
    others = [v for v in registry.list() if (v.name, v.version) not in gone]
    return change, registry.remove_artifacts(found, others, dry_run=dry_run)


def _holder(now_in: Mapping[int, str], stage: str) -> int | None:
    """The newest version that is in a stage."""
    return max((version for version, its in now_in.items() if its == stage), default=None)


def _held_in_order(history: Sequence[StageChange], stage: str) -> list[int]:
    """Versions that were in a stage, each once, the one that came last at the end."""
    held: dict[int, None] = {}
    for change in history:
        if change.granted and change.to_stage == stage:
            held.pop(change.version, None)
            held[change.version] = None
    return list(held)


def earlier_holders(history: Sequence[StageChange], stage: str) -> list[int]:
    """Versions that a rollback can go back to, the nearest at the end; who was withdrawn is none: rolling back twice goes back by two."""
    now_in = stages_of(history)
    current = _holder(now_in, stage)
    return [
        version
        for version in _held_in_order(history, stage)
        if version != current and now_in.get(version) != DELETED and _last_kind(history, version) != "withdrawn"
    ]


def _last_kind(history: Sequence[StageChange], version: int) -> str | None:
    """Of which kind the last granted change of a version was."""
    return next((change.kind for change in reversed(history) if change.granted and change.version == version), None)


def _must_be_there(now_in: Mapping[int, str], found: ModelVersion) -> str:
    """The stage of a version.

    Raises:
        NotFoundError: it was deleted.
    """
    stage = now_in.get(found.version, NONE)
    if stage == DELETED:
        raise NotFoundError(f"`{found.reference}` was deleted", fix="`headrace models history` says when and by whom.")
    return stage


def _comes_from(guard: StagePolicy, current: str, to_stage: str, found: ModelVersion) -> list[CheckRun]:
    if guard.from_ is None:
        return []
    ok = current in guard.from_
    reason = f"`{found.reference}` is in `{current}`; into `{to_stage}` leads: {', '.join(guard.from_)}"
    return [CheckRun("from_stage", {"from": list(guard.from_)}, ok, reason, {"stage": current}, {}, 0.0)]
