"""What the control loop may do with a route: one JSON object a tenant and endpoint, in table `route_policies`."""

from __future__ import annotations

import json
from datetime import timedelta

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from core.errors import InvalidInputError
from pipelines.routing import Connection


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Rerank(_Strict):
    """Weights follow accuracy, for ensembles and choices.

    Attributes:
        step: a share moves by at most so much a window.
        floor: no member that serves falls below this share, so that it goes on being measured.
        hysteresis: shares that would move by less stay; to turn round, two windows in a row must agree.
        windows: accuracy is that of so many windows.
        least_labelled: a member with fewer labels in them keeps its share.
        gain: a member that is worse than the best by `d` beyond chance gets exp(-gain * d) of its base weight.
        sigmas: what counts as chance, in standard errors of the difference.
    """

    step: float = Field(0.1, gt=0, le=1)
    floor: float = Field(0.05, ge=0, lt=0.5)
    hysteresis: float = Field(0.02, ge=0, lt=1)
    windows: int = Field(3, ge=1)
    least_labelled: int = Field(30, ge=1)
    gain: float = Field(20.0, gt=0)
    sigmas: float = Field(3.0, ge=0)


class Guards(_Strict):
    """When a member goes: rolled back if the last change brought it, taken out otherwise.

    Attributes:
        error_rate: more errors than this share of its answers.
        quality_drop: right less often than the reference by more than this.
        latency_ratio: p99 of its calls above so many times the reference's, and above `latency_ms`.
        alpha: false alarms by errors or quality are at least 1 / alpha windows apart on average.
        least_calls: latency is judged from so many calls on.
    """

    error_rate: float | None = Field(0.02, gt=0, lt=1)
    quality_drop: float | None = Field(0.05, ge=0, lt=1)
    latency_ratio: float | None = Field(3.0, gt=1)
    latency_ms: float = Field(10.0, ge=0)
    alpha: float = Field(0.001, gt=0, lt=1)
    least_calls: int = Field(100, ge=1)


class Ramp(_Strict):
    """A canary grows step by step, and becomes the champion.

    Attributes:
        model: the challenger, `name@version`.
        steps: its shares of the traffic, ascending; after the last one it takes over.
        least_answers: a step is held until the challenger has given so many answers in it,
        hold_seconds: and for so long.
    """

    model: str
    steps: tuple[float, ...] = (0.1, 0.25, 0.5, 1.0)
    least_answers: int = Field(200, ge=1)
    hold_seconds: float = Field(0.0, ge=0)


class Duel(_Strict):
    """A challenger that answers the same rows as the champion takes over when it is better beyond doubt.

    Attributes:
        least_advantage: right more often than the champion by more than this, e.g. 0.01.
        alpha: the probability that a challenger that is not gets there, however often one looks.
    """

    least_advantage: float = Field(0.01, ge=0, lt=1)
    alpha: float = Field(0.05, gt=0, lt=1)


class Policy(_Strict):
    """All that may be done; what is absent is not done.

    Attributes:
        window_minutes: the length of a window of feature time.
        least_coverage: a window counts for quality when so large a share of its answers is labelled.
    """

    window_minutes: int = Field(60, ge=1)
    least_coverage: float = Field(0.5, ge=0, le=1)
    rerank: Rerank | None = None
    guards: Guards | None = None
    ramp: Ramp | None = None
    duel: Duel | None = None

    @property
    def window(self) -> timedelta:
        return timedelta(minutes=self.window_minutes)


def parse_policy(document: object, *, where: str) -> Policy:
    """Read a policy from parsed JSON or YAML.

    Raises:
        InvalidInputError: a field is unknown or out of its range.
    """
    try:
        policy = Policy.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidInputError(f"`{'.'.join(map(str, first['loc']))}`: {first['msg']}", where=where) from error
    steps = policy.ramp.steps if policy.ramp is not None else (1.0,)
    if not steps or list(steps) != sorted(set(steps)) or not 0 < steps[0] <= steps[-1] <= 1:
        raise InvalidInputError(f"`ramp.steps` is {list(steps)}", where=where, fix="Give ascending shares above 0, up to 1.")
    return policy


def read_policies(connection: Connection) -> dict[tuple[str, str], Policy]:
    """The policies by tenant and endpoint."""
    rows = connection.execute("SELECT tenant_id, endpoint, policy FROM route_policies ORDER BY tenant_id, endpoint").fetchall()
    return {
        (tenant, endpoint): parse_policy(
            json.loads(policy) if isinstance(policy, str) else policy, where=f"route_policies of {tenant}/{endpoint}"
        )
        for tenant, endpoint, policy in rows
    }


def write_policy(connection: Connection, tenant_id: str, endpoint: str, policy: Policy | None) -> None:
    """Set or remove the policy of an endpoint."""
    if policy is None:
        connection.execute("DELETE FROM route_policies WHERE tenant_id = %s AND endpoint = %s", (tenant_id, endpoint))
    else:
        connection.execute(
            "INSERT INTO route_policies VALUES (%s, %s, %s::JSONB)",
            (tenant_id, endpoint, policy.model_dump_json()),
        )
    connection.execute("FLUSH")
