"""Carries decisions out of the registry: to servers, aliases, routes and webhooks. The registry's rows are the outbox.

    stream --> warm --> alias --> route:TENANT/ENDPOINT ...      in this order: the old version serves until the new one is ready
    webhook:URL                                                  on its own

Each step that ended is a row of `registry.deliveries`; a crash between a step and its row repeats the step, and every step may be
repeated: events have keys, routes carry the decision's id, webhooks an idempotency key. While the stream database is away, what
needs it waits; nobody serves then, so the aliases move at once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import psycopg

from core.clock import Clock
from core.errors import ConflictError, HeadraceError, InvalidInputError, UnavailableError
from iceberg.registry import Registry
from iceberg.stages import Delivery, StageChange, Stages, stages_of
from learning.promotion.routes import RouteChange, as_before, replaced_versions, wanted_changes
from learning.promotion.servers import must_be_applied, tell_stream, warm
from learning.promotion.webhooks import Webhooks
from learning.routing.changes import write_route
from pipelines.routing import Connection, read_current

logger = logging.getLogger(__name__)

MAIN_KINDS = frozenset({"promote", "rollback", "delete"})
PENDING, DONE, SKIPPED, FAILED = "pending", "done", "skipped", "failed"

type_connect = Callable[[], AbstractContextManager[Connection]]


@dataclass(frozen=True)
class Step:
    """What became of a step in this round; `pending` ones are tried again in the next."""

    name: str
    state: str
    detail: Mapping[str, Any]

    def as_json(self) -> dict[str, Any]:
        return {"step": self.name, "state": self.state, **self.detail}


class Deliverer:
    """Delivers; safe to be run by several processes at once, as all steps are.

    Args:
        connect: to the stream database; raises UnavailableError while it is away.
        udf_url: a server to warm.
    """

    def __init__(
        self, registry: Registry, stages: Stages, connect: type_connect, udf_url: str, webhooks: Webhooks, clock: Clock
    ) -> None:
        self._registry, self._stages, self._connect = registry, stages, connect
        self._udf_url, self._webhooks, self._clock = udf_url, webhooks, clock

    def deliver(self, change: StageChange) -> list[Step]:
        """Take every step of a decision that has not ended yet."""
        ended = {each.step: each for each in self._stages.deliveries(change.promotion_id)}
        steps: list[Step] = []

        def take(name: str, act: Callable[[], Mapping[str, Any]]) -> str:
            if name in ended:
                state = ended[name].state
                steps.append(Step(name, state, ended[name].detail))
                return state
            steps.append(_taken(name, act))
            return steps[-1].state

        if change.kind != "delete":
            self._serve(change, take, steps)
        for url in self._webhooks.urls:
            take(f"webhook:{url}", partial(self._post, url, change))
        fresh = [step for step in steps if step.name not in ended and step.state != PENDING]
        self._stages.record_deliveries([Delivery(change.promotion_id, each.name, each.state, each.detail) for each in fresh])
        return steps

    def pending(self, *, at_least: timedelta = timedelta(0)) -> list[StageChange]:
        """Decisions of at least some age that may still have a step to take, oldest first."""
        latest = self._clock.now() - at_least
        ended: dict[str, set[str]] = {}
        for each in self._stages.deliveries():
            ended.setdefault(each.promotion_id, set()).add(each.step)
        waiting = []
        for change in self._stages.history():
            if not change.granted or change.kind not in MAIN_KINDS or change.at is None or change.at > latest:
                continue
            needed = {f"webhook:{url}" for url in self._webhooks.urls}
            needed |= {"stream", "warm", "alias", "routes"} if change.kind != "delete" else set()
            if needed - ended.get(change.promotion_id, set()):
                waiting.append(change)
        return waiting

    def deliver_pending(self, *, at_least: timedelta = timedelta(0)) -> dict[str, list[Step]]:
        """One round over the outbox; by decision.

        Args:
            at_least: younger decisions are left to who made them.
        """
        return {change.promotion_id: self.deliver(change) for change in self.pending(at_least=at_least)}

    def _serve(self, change: StageChange, take: Callable[..., str], steps: list[Step]) -> None:
        stage_now = stages_of(self._stages.history(change.name)).get(change.version)
        if stage_now != change.to_stage:  # a later decision about this version speaks for it
            for name in ("stream", "warm", "alias", "routes"):
                take(name, lambda: _skip("a later decision stands"))
            return
        try:
            with self._connect() as connection:
                must_be_applied(connection)
                if take("stream", lambda: tell_stream(connection, change)) == PENDING:
                    return
                if take("warm", lambda: self._warm(connection, change)) != DONE:
                    held = steps[-1]
                    if held.state == FAILED:
                        for name in ("alias", "routes"):
                            take(name, lambda: _skip("no server is ready for the version"))
                    return
                take("alias", lambda: self._set_aliases(change))
                take("routes", lambda: self._change_routes(connection, change))
        except UnavailableError as problem:
            done = {step.name for step in steps}
            waits = {"reason": f"the stream database is away: {problem.what}"}
            steps += [Step(name, PENDING, waits) for name in ("stream", "warm") if name not in done]
            if "alias" not in done:
                take("alias", lambda: self._set_aliases(change))
            if "routes" not in done:
                steps.append(Step("routes", PENDING, waits))

    def _warm(self, connection: Connection, change: StageChange) -> Mapping[str, Any]:
        found = warm(connection, change, self._udf_url, self._clock)
        if not found.ready:
            raise InvalidInputError(f"servers refuse the version: {found.refused}")
        return found.as_json()

    def _set_aliases(self, change: StageChange) -> Mapping[str, Any]:
        meant = self._registry.aliases(change.name)
        wanted = dict.fromkeys(change.detail.get("aliases", ()), change.version)
        dropped = [alias for alias in change.detail.get("aliases_left", ()) if meant.get((alias, "")) == change.version]
        for alias, version in wanted.items():
            if meant.get((alias, "")) != version:
                self._registry.set_alias(change.name, alias, version, actor=change.actor)
        for alias in dropped:
            self._registry.set_alias(change.name, alias, None, actor=change.actor)
        return {"set": wanted, "dropped": dropped}

    def _change_routes(self, connection: Connection, change: StageChange) -> Mapping[str, Any]:
        wishes = change.detail.get("routes") or {}
        carried_out = {each.promotion_id for each in self._stages.deliveries() if (each.step, each.state) == ("routes", DONE)}
        replaced = replaced_versions(change, self._stages.history(change.name), carried_out)
        done = []
        for each in wanted_changes(change.name, change.version, replaced, wishes, read_current(connection)):
            if (each.current.evidence or {}).get("promotion_id") == change.promotion_id:
                continue  # changed before a crash
            done.append({"place": each.current.place, "epoch": self._write(connection, change, each)})
        return {"changed": done, "before": self._before(connection, change)}

    def _post(self, url: str, change: StageChange) -> Mapping[str, Any]:
        return {"status": self._webhooks.post(url, change.promotion_id, _event(change))}

    def _write(self, connection: Connection, change: StageChange, each: RouteChange) -> int:
        state = write_route(
            connection,
            each.current.tenant_id,
            each.current.endpoint,
            each.strategy,
            each.members,
            changed_by="registry",
            reason=f"{change.kind} of {change.name}@{change.version} to {change.to_stage}",
            evidence={"promotion_id": change.promotion_id, "before": as_before(each.current)},
            expect_epoch=each.current.epoch,
        )
        return state.epoch

    @staticmethod
    def _before(connection: Connection, change: StageChange) -> list[Any]:
        """The routes from before: each change carries its own, so one that was made before a crash is known as well."""
        found = [state.evidence for state in read_current(connection) if state.evidence]
        return [each["before"] for each in found if each.get("promotion_id") == change.promotion_id and "before" in each]


def routes_before(stages: Stages, promotion_id: str) -> list[Mapping[str, Any]]:
    """The routes that a decision replaced."""
    return [
        before
        for each in stages.deliveries(promotion_id)
        if each.step == "routes" and each.state == DONE
        for before in each.detail.get("before", ())
    ]


class _Skipped(Exception):
    """The step is not to be taken."""


def _skip(why: str) -> Mapping[str, Any]:
    raise _Skipped(why)


def _taken(name: str, act: Callable[[], Mapping[str, Any]]) -> Step:
    try:
        return Step(name, DONE, act())
    except _Skipped as why:
        return Step(name, SKIPPED, {"reason": str(why)})
    except (UnavailableError, ConflictError) as problem:  # somebody is away, or was faster: again in the next round
        logger.info("step waits", extra={"step": name, "reason": str(problem)})
        return Step(name, PENDING, {"reason": str(problem)})
    except psycopg.Error as problem:  # the connection was lost, or the database is being changed
        logger.warning("step waits", extra={"step": name, "reason": str(problem)})
        return Step(name, PENDING, {"reason": str(problem)})
    except HeadraceError as problem:
        logger.warning("step failed", extra={"step": name, "reason": str(problem)})
        return Step(name, FAILED, {"reason": str(problem)})


def _event(change: StageChange) -> dict[str, Any]:
    """What a webhook is told."""
    return {
        "type": "model_version.stage_changed" if change.kind != "delete" else "model_version.deleted",
        "id": change.promotion_id,
        "kind": change.kind,
        "name": change.name,
        "version": change.version,
        "from_stage": change.from_stage,
        "to_stage": change.to_stage,
        "replaced": change.detail.get("replaced", []),
        "artifact_sha256": change.detail.get("artifact_sha256"),
        "actor": change.actor,
        "reason": change.reason,
        "at": change.at.isoformat() if change.at else None,
    }
