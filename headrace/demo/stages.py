"""The demo's last chapter: a version goes through the stages, is refused where it must be, and is rolled back with its route.

Nobody waits a day in a demo, so production is asked for by a policy that says so: `policy.yaml` in the demo's folder is the built-in
one with 0 hours in staging and a shorter load test. The built-in one is asked first, and must refuse.

What is left: version 2 in production, version 1 archived, so that `headrace models rollback` has something to go back to.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import yaml

from core.clock import Clock
from core.settings import Settings
from headrace.demo.summary import Summary
from learning.promotion.lifecycle import Answer, Lifecycle, open_lifecycle
from learning.promotion.policy import BUILT_IN, load_policy
from learning.promotion.serving_history import routes_in_lake
from pipelines import deployer
from pipelines.routing import read_current

_ACTOR = "demo"
_LAKE_SECONDS = 30.0
_LOOK_SECONDS = 0.1  # each look reads files of the lake, and the engine that writes them needs the processor


def check_stages(settings: Settings, model: str, clock: Clock, summary: Summary) -> None:
    """Promote version 1, refuse, promote, replace it by version 2, roll back, replace it again."""
    strict = _open(settings, clock)
    staged = strict.promote(model, 1, "staging", actor=_ACTOR)
    early = strict.promote(model, 1, "production", actor=_ACTOR)
    failed = [check.check for check in early.decision.checks if not check.ok]
    summary.check(
        "the policy lets a good model into staging, and into production not before 24 h",
        staged.decision.granted and failed == ["time_in_stage"],
        f"{model}@1 in staging: {staged.decision.granted}; not met for production: {failed or 'nothing'}",
    )
    lifecycle = _open(settings, clock, write_demo_policy(settings.data_dir))
    before = _routes(settings, model)
    answers = [
        lifecycle.promote(model, version, stage, actor=_ACTOR)
        for version, stage in ((1, "production"), (2, "staging"), (2, "production"))
    ]
    replaced = _routes(settings, model)
    back = lifecycle.roll_back(model, actor=_ACTOR, reason="shown by the demo")
    after = _routes(settings, model)
    summary.check(
        "a promotion changes the routes once the servers are ready, and a rollback restores them",
        all(_done(each) for each in (*answers, back)) and replaced != before and after == before,
        f"rollback to {model}@{back.decision.main.version} decided in {back.decided_ms:.0f} ms, carried out in "
        f"{back.delivered_ms:.0f} ms over {len(after)} routes" + ("" if after == before else f": {before} became {after}"),
    )
    for stage in ("staging", "production"):
        lifecycle.promote(model, 2, stage, actor=_ACTOR)
    _check_lake(settings, lifecycle, model, clock, summary)


def write_demo_policy(folder: Path) -> Path:
    """The built-in production policy, for people without a day."""
    document: dict[str, Any] = yaml.safe_load(BUILT_IN.read_text(encoding="utf-8"))
    production = document["stages"]["production"]
    shorter: dict[str, dict[str, Any]] = {"time_in_stage": {"at_least_hours": 0}, "load_test": {"requests": 80}}
    production["requirements"] = [each | shorter.get(each["check"], {}) for each in production["requirements"]]
    file = folder / "policy.yaml"
    text = yaml.safe_dump({"stages": {"production": production}}, sort_keys=False)
    file.write_text(f"# The demo's: as the built-in policy, but without the day in staging.\n{text}", encoding="utf-8")
    return file


def _open(settings: Settings, clock: Clock, policy: Path | None = None) -> Lifecycle:
    return open_lifecycle(settings, lambda: deployer.connected(settings.database_url), clock, policy=load_policy(policy))


def _done(answer: Answer) -> bool:
    return answer.decision.granted and all(step.state == "done" for step in answer.steps)


def _routes(settings: Settings, model: str) -> dict[str, str]:
    """What serves now, where the model does; by place."""
    with deployer.connected(settings.database_url) as connection:
        states = read_current(connection)
    return {s.place: s.route_json() for s in states if any(each.model == model for each in s.members)}


def _check_lake(settings: Settings, lifecycle: Lifecycle, model: str, clock: Clock, summary: Summary) -> None:
    """The lake knows who serves, also when the platform is gone."""
    wanted = _routes(settings, model)
    deadline = time.monotonic() + _LAKE_SECONDS

    def in_lake() -> dict[str, str]:
        return {s.place: s.route_json() for s in routes_in_lake(lifecycle.catalog, clock.now()) if s.place in wanted}

    while (found := in_lake()) != wanted and time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS)
    summary.check(
        "who serves stands in the lake as in the stream database",
        found == wanted and bool(wanted),
        f"{len(wanted)} routes of {model}, epochs by promotion; lake.route_history says the same: {found == wanted}",
    )
