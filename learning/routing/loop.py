"""The control loop as a process: reads scores and routes, decides (`control`), writes the next epoch, and keeps nothing itself.

Killed at any time it goes on where the database is: what it decided and why stands in `route_changes`. Two loops at once do no
harm: of two changes of the same epoch the database keeps one.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta

from core.clock import Clock
from core.errors import ConflictError, HeadraceError
from learning.routing.changes import write_route
from learning.routing.control import Decision, Situation, decide
from learning.routing.evidence import newest_minute, read_rows
from learning.routing.guards import Latency
from learning.routing.policy import Policy, read_policies
from learning.routing.sequential import Pairs
from pipelines.routing import Connection, RouteState, read_history

logger = logging.getLogger(__name__)

HORIZON = 200
"""So many windows back scores are looked at: a year of hours would cost seconds a look, and change nothing."""

Latencies = Callable[[], Mapping[str, Latency]]


@dataclass(frozen=True)
class Outcome:
    """What became of one endpoint; `route` is the new one, None where nothing was changed."""

    tenant_id: str
    endpoint: str
    decision: Decision | None
    route: RouteState | None = None
    conflict: str | None = None


def look(connection: Connection, clock: Clock, latencies: Latencies = dict) -> list[Outcome]:
    """Look once at every endpoint that has a policy, and change what has to be changed."""
    outcomes = []
    told = latencies()
    for (tenant_id, endpoint), policy in read_policies(connection).items():
        history = read_history(connection, tenant_id, endpoint)
        if history:
            outcomes.append(_look_at(connection, policy, history, clock, told))
    return outcomes


def watch(
    connect: Callable[[], AbstractContextManager[Connection]],
    clock: Clock,
    latencies: Latencies,
    *,
    every: timedelta,
    stop: threading.Event,
    tell: Callable[[Outcome], None] = lambda _outcome: None,
) -> None:
    """Look again and again until `stop` is set, each time over a connection of its own; a database that is away is waited for.

    Raises:
        HeadraceError: what no waiting mends, e.g. a policy that somebody wrote wrongly.
    """
    while not stop.is_set():
        try:
            with connect() as connection:
                outcomes = look(connection, clock, latencies)
            for outcome in outcomes:
                if outcome.decision is not None:
                    tell(outcome)
        except HeadraceError as error:
            if not error.retryable:
                raise
            logger.warning("scores cannot be read now", extra={"reason": str(error)})
        stop.wait(every.total_seconds())


# -- below: called by the above


def _look_at(
    connection: Connection, policy: Policy, history: list[RouteState], clock: Clock, latencies: Mapping[str, Latency]
) -> Outcome:
    current = history[-1]
    newest = newest_minute(connection, current.tenant_id, current.endpoint)
    since = newest - HORIZON * policy.window if newest is not None else None
    rows = read_rows(connection, current.tenant_id, current.endpoint, since=since)
    duels = _read_duels(connection, history) if policy.duel is not None else {}
    decision = decide(Situation(policy, history, rows, clock.now(), latencies, duels))
    if decision is None:
        return Outcome(current.tenant_id, current.endpoint, None)
    logger.info(
        "route decision",
        extra={"tenant": current.tenant_id, "endpoint": current.endpoint, "by": decision.by, "reason": decision.reason},
    )
    if not decision.members:
        return Outcome(current.tenant_id, current.endpoint, decision)
    try:
        route = write_route(
            connection,
            current.tenant_id,
            current.endpoint,
            decision.strategy,
            decision.members,
            changed_by=decision.by,
            reason=decision.reason,
            evidence=decision.evidence,
            expect_epoch=current.epoch,
        )
    except ConflictError as error:  # somebody else was faster; the next look sees what they did
        return Outcome(current.tenant_id, current.endpoint, decision, conflict=str(error))
    return Outcome(current.tenant_id, current.endpoint, decision, route)


_DUEL = """
SELECT
    x.model,
    x.version,
    count(*) FILTER (WHERE x.answer = x.label AND c.answer <> c.label),
    count(*) FILTER (WHERE x.answer <> x.label AND c.answer = c.label),
    count(*) FILTER (WHERE (x.answer = x.label) = (c.answer = c.label))
FROM member_outcomes AS c
JOIN member_outcomes AS x ON x.prediction_id = c.prediction_id AND x.tenant_id = c.tenant_id AND x.endpoint = c.endpoint
WHERE c.tenant_id = %(tenant)s AND c.endpoint = %(endpoint)s AND c.model = %(model)s AND c.version = %(version)s
    AND c.route_epoch >= %(epoch)s AND x.route_epoch >= %(epoch)s
    AND (x.model <> c.model OR x.version <> c.version)
    AND c.label IS NOT NULL AND c.answer IS NOT NULL AND x.answer IS NOT NULL
GROUP BY x.model, x.version
"""


def _read_duels(connection: Connection, history: list[RouteState]) -> dict[str, Pairs]:
    """Each challenger and shadow against the champion, on the rows that both answered since the challenger is there."""
    current = history[-1]
    champion = max((each for each in current.serving if each.role == "champion"), key=lambda each: each.weight, default=None)
    rivals = [each for each in current.members if champion is not None and each.role != "champion"]
    if champion is None or not rivals:
        return {}
    found: dict[str, Pairs] = {}
    for rival in rivals:
        position = len(history) - 1
        while position > 0 and {rival.name, champion.name} <= {each.name for each in history[position - 1].members}:
            position -= 1
        told = {
            "tenant": current.tenant_id,
            "endpoint": current.endpoint,
            "model": champion.model,
            "version": champion.version,
            "epoch": history[position].epoch,
        }
        for model, version, better, worse, ties in connection.execute(_DUEL, told).fetchall():
            if f"{model}@{version}" == rival.name:
                found[rival.name] = Pairs(better, worse, ties)
    return found
