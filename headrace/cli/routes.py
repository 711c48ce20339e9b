"""`headrace routes`: who serves a tenant's endpoint, who served it, and what became of each decision."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from core.errors import HeadraceError, InvalidInputError, NotFoundError
from headrace.cli.context import AsJson, DataDir, load_settings
from headrace.cli.output import print_json, print_rows

if TYPE_CHECKING:
    from core.settings import Settings
    from learning.routing.loop import Outcome
    from pipelines.routing import Connection, RouteMember, RouteState
    from udfs.sessions import ArtifactSource

app = typer.Typer(no_args_is_help=True, help="Which models serve a tenant's endpoint, now and then.")

Tenant = Annotated[str, typer.Option("--tenant", help="Whose endpoint it is.")]
AnyTenant = Annotated[str | None, typer.Option("--tenant", help="Only this tenant.")]
Endpoint = Annotated[str, typer.Argument(help="E.g. `plant.health`.")]
AnyEndpoint = Annotated[str | None, typer.Argument(help="Only this endpoint.")]
Reason = Annotated[str, typer.Option("--reason", help="Kept in the history.")]
ExpectEpoch = Annotated[int | None, typer.Option("--expect-epoch", help="Give up if the route is of another epoch by now.")]
Unchecked = Annotated[bool, typer.Option("--unchecked", help="Do not load each model before the route is written.")]

STRATEGIES = "ensemble_mean, ensemble_vote, choice, canary or blue_green"


@app.command()
def show(
    context: typer.Context,
    endpoint: AnyEndpoint = None,
    tenant: AnyTenant = None,
    at: Annotated[str | None, typer.Option("--at", help="A time, e.g. 2026-01-31T08:00:00Z: who served then.")] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """The active routes; with --at, those that were active at a time.

    Example: headrace routes show plant.health --tenant acme --at 2026-01-31T08:00:00Z
    """
    from pipelines.routing import read_at, read_current

    with _connected(context, data_dir) as (connection, _):
        found = read_at(connection, parse_moment(at), tenant, endpoint) if at else read_current(connection, tenant, endpoint)
    _print(found, as_json=as_json)


@app.command()
def history(
    context: typer.Context,
    endpoint: AnyEndpoint = None,
    tenant: AnyTenant = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Every route that was ever active, with who changed it and why.

    Example: headrace routes history plant.health --tenant acme --json
    """
    from pipelines.routing import read_history

    with _connected(context, data_dir) as (connection, _):
        found = read_history(connection, tenant, endpoint)
    _print(found, as_json=as_json)


@app.command("set")
def set_(
    context: typer.Context,
    endpoint: Endpoint,
    members: Annotated[
        list[str], typer.Argument(help="MODEL@VERSION[=WEIGHT], all that shall serve.", metavar="MODEL@VERSION[=WEIGHT]...")
    ],
    tenant: Tenant = "default",
    strategy: Annotated[str | None, typer.Option("--strategy", help=f"{STRATEGIES}; default: as it is.")] = None,
    challengers: Annotated[list[str] | None, typer.Option("--challenger", help="MODEL@VERSION:FRACTION, for a canary.")] = None,
    shadows: Annotated[list[str] | None, typer.Option("--shadow", help="MODEL@VERSION[:FRACTION].")] = None,
    reason: Reason = "set by hand",
    expect_epoch: ExpectEpoch = None,
    unchecked: Unchecked = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Replace a route, whole, under one new epoch; who is not named is retired.

    Example: headrace routes set plant.health plant_health@1=0.7 plant_health@2=0.3 --tenant acme
    """
    from learning.routing.changes import write_route
    from pipelines.routing import read_current

    wanted = [_member(text, "champion") for text in members]
    wanted += [_member(text, "challenger") for text in challengers or ()] + [_member(text, "shadow") for text in shadows or ()]
    with _connected(context, data_dir) as (connection, settings):
        current = read_current(connection, tenant, endpoint)
        kept = current[0].strategy if current else "ensemble_mean"
        state = write_route(
            connection,
            tenant,
            endpoint,
            strategy or kept,
            wanted,
            changed_by="cli",
            reason=reason,
            expect_epoch=expect_epoch,
            artifacts=None if unchecked else _artifacts(settings),
        )
    _print([state], as_json=as_json)


@app.command()
def shadow(
    context: typer.Context,
    endpoint: Endpoint,
    model: Annotated[str, typer.Argument(help="MODEL@VERSION")],
    tenant: Tenant = "default",
    fraction: Annotated[float, typer.Option("--fraction", min=0.0, max=1.0, help="Its share of the keys.")] = 1.0,
    reason: Reason = "shadow by hand",
    unchecked: Unchecked = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Let a model answer aside: scored, never served. A fraction of 0 takes it out again.

    Example: headrace routes shadow plant.health plant_health@3 --fraction 0.2 --tenant acme
    """
    from learning.routing.changes import with_member, write_route
    from pipelines.routing import must_read_current

    member = _member(f"{model}:{fraction}", "shadow")
    with _connected(context, data_dir) as (connection, settings):
        current = must_read_current(connection, tenant, endpoint)
        if any(each.name == member.name and each.role != "shadow" for each in current.members):
            raise InvalidInputError(f"`{member.name}` serves already", fix="A shadow is a model that does not serve.")
        members = with_member(current, member)
        state = write_route(
            connection,
            tenant,
            endpoint,
            current.strategy,
            members if fraction > 0 else [each for each in members if each.name != member.name],
            changed_by="cli",
            reason=reason,
            expect_epoch=current.epoch,
            artifacts=None if unchecked else _artifacts(settings),
        )
    _print([state], as_json=as_json)


@app.command()
def rollback(
    context: typer.Context,
    endpoint: Endpoint,
    tenant: Tenant = "default",
    to: Annotated[int | None, typer.Option("--to", help="An epoch; default: the last other route.")] = None,
    reason: Reason = "rolled back by hand",
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Make an earlier route the newest one again.

    Example: headrace routes rollback plant.health --tenant acme
    """
    from learning.routing.changes import roll_back
    from pipelines.routing import must_read_current

    with _connected(context, data_dir) as (connection, _):
        current = must_read_current(connection, tenant, endpoint)
        state = roll_back(connection, current, changed_by="cli", reason=reason, to_epoch=to)
    _print([state], as_json=as_json)


@app.command()
def replay(
    context: typer.Context,
    endpoint: AnyEndpoint = None,
    tenant: AnyTenant = None,
    source: Annotated[str, typer.Option("--from", help="Where the log is read: `database` or `lake`.")] = "database",
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Decide every logged prediction's route again and compare; exit code 1 if one comes out otherwise.

    Example: headrace routes replay plant.health --tenant acme --from lake
    """
    from headrace.decision_log import replay_decisions

    if source not in ("database", "lake"):
        raise InvalidInputError(f"`{source}` is neither `database` nor `lake`")
    with _connected(context, data_dir) as (connection, settings):
        found = replay_decisions(connection, settings, tenant, endpoint, from_lake=source == "lake")
    if as_json:
        print_json(found)
    else:
        rows = [{key: value for key, value in each.items() if key != "differences"} for each in found]
        print_rows(rows, as_json=False)
    if any(each["different"] for each in found):
        raise typer.Exit(1)


@app.command()
def policy(
    context: typer.Context,
    endpoint: Endpoint,
    tenant: Tenant = "default",
    file: Annotated[Path | None, typer.Option("--file", help="YAML or JSON; see docs/how-to/route-models.md.")] = None,
    clear: Annotated[bool, typer.Option("--clear", help="The control loop leaves the endpoint alone.")] = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show what the control loop may do with an endpoint, or set it from a file.

    Example: headrace routes policy plant.health --tenant acme --file policy.yaml
    """
    import yaml

    from learning.routing.policy import parse_policy, read_policies, write_policy

    wanted = None
    if file is not None:
        if not file.is_file():
            raise NotFoundError("there is no such file", where=str(file))
        try:
            wanted = parse_policy(yaml.safe_load(file.read_text(encoding="utf-8")) or {}, where=str(file))
        except yaml.YAMLError as error:
            raise InvalidInputError("this is no YAML", where=str(file)) from error
    with _connected(context, data_dir) as (connection, _):
        if wanted is not None or clear:
            write_policy(connection, tenant, endpoint, wanted)
        found = read_policies(connection).get((tenant, endpoint))
    told = found.model_dump(mode="json", exclude_none=True) if found is not None else {}
    if as_json:
        print_json(told)
    else:
        typer.echo(yaml.safe_dump(told, sort_keys=False) if told else "no policy: routes change by hand only", nl=not told)


@app.command()
def ramp(
    context: typer.Context,
    endpoint: Endpoint,
    model: Annotated[str, typer.Argument(help="MODEL@VERSION, the challenger.")],
    tenant: Tenant = "default",
    steps: Annotated[str, typer.Option("--steps", help="Percentages of the traffic, ascending.")] = "10,25,50,100",
    answers: Annotated[int, typer.Option("--answers", min=1, help="Held for so many of its answers a step.")] = 200,
    hold: Annotated[float, typer.Option("--hold", min=0, help="Held for so many seconds a step.")] = 0.0,
    reason: Reason = "ramp by hand",
    unchecked: Unchecked = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Begin a canary at the first step; `headrace routes watch` takes it further, or rolls it back by the guards.

    Example: headrace routes ramp plant.health plant_health@2 --steps 10,25,50,100 --tenant acme
    """
    from learning.routing.changes import write_route
    from learning.routing.policy import Guards, Policy, parse_policy, read_policies, write_policy
    from pipelines.routing import must_read_current

    try:
        shares = [float(step) / 100 for step in steps.split(",")]
    except ValueError as error:
        raise InvalidInputError(f"`{steps}` is no list of percentages", fix="Write --steps 10,25,50,100.") from error
    challenger = _member(f"{model}:{shares[0]}", "challenger")
    with _connected(context, data_dir) as (connection, settings):
        current = must_read_current(connection, tenant, endpoint)
        champions = [each for each in current.members if each.name != challenger.name]
        if not any(each.role == "champion" and each.weight > 0 for each in champions):
            raise InvalidInputError(
                "there is no champion for the rest of the traffic", fix="Set one with `headrace routes set`."
            )
        before = read_policies(connection).get((tenant, endpoint)) or Policy()
        told = {"model": challenger.name, "steps": shares, "least_answers": answers, "hold_seconds": hold}
        guards = (before.guards or Guards()).model_dump()
        planned = parse_policy({**before.model_dump(), "ramp": told, "guards": guards}, where="--steps")
        state = write_route(
            connection,
            tenant,
            endpoint,
            "canary",
            [*(each for each in champions if each.role != "challenger"), challenger],
            changed_by="cli",
            reason=reason,
            expect_epoch=current.epoch,
            artifacts=None if unchecked else _artifacts(settings),
        )
        write_policy(connection, tenant, endpoint, planned)
    _print([state], as_json=as_json)


@app.command()
def watch(
    context: typer.Context,
    once: Annotated[bool, typer.Option("--once", help="Look once and end.")] = False,
    every: Annotated[float, typer.Option("--every", min=0.1, help="Seconds between two looks.")] = 10.0,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """The control loop: re-rank, ramp, switch and roll back what has a policy, until Ctrl-C or SIGTERM.

    Example: headrace routes watch --once --json
    """
    import signal
    import threading
    from datetime import timedelta

    from core.clock import SystemClock
    from headrace.latencies import udf_latencies
    from learning.routing import loop

    settings = load_settings(context, data_dir=data_dir).settings
    latencies = udf_latencies(settings.udf_url)
    if once:
        with _connection(settings) as connection:
            outcomes = loop.look(connection, SystemClock(), latencies)
        print_rows([_outcome(each) for each in outcomes], as_json=as_json)
        return
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda _number, _frame: stop.set())
    loop.watch(
        lambda: _connection(settings),
        SystemClock(),
        latencies,
        every=timedelta(seconds=every),
        stop=stop,
        tell=lambda outcome: print_rows([_outcome(outcome)], as_json=as_json),
    )


# -- below: called by the above


def _outcome(outcome: Outcome) -> dict[str, object]:
    decision = outcome.decision
    return {
        "tenant": outcome.tenant_id,
        "endpoint": outcome.endpoint,
        "by": decision.by if decision else None,
        "epoch": outcome.route.epoch if outcome.route else None,
        "reason": outcome.conflict or (decision.reason if decision else "nothing to do"),
    }


@contextlib.contextmanager
def _connected(context: typer.Context, data_dir: Path | None) -> Iterator[tuple[Connection, Settings]]:
    settings = load_settings(context, data_dir=data_dir).settings
    with _connection(settings) as connection:
        yield connection, settings


@contextlib.contextmanager
def _connection(settings: Settings) -> Iterator[Connection]:
    import psycopg

    from pipelines.deployer import connected

    try:
        with connected(settings.database_url) as connection:
            yield connection
    except HeadraceError as error:
        if isinstance(error.__cause__, psycopg.errors.UndefinedTable):
            raise NotFoundError(
                "the stream database has no routes yet", fix="Apply a pipeline: `headrace pipeline apply plant`."
            ) from error
        raise


def _artifacts(settings: Settings) -> ArtifactSource:
    """Where models are looked at before a route names them; the UDF server loads them meanwhile."""
    from iceberg.registry import open_registry
    from udfs.warming import WarmingSource

    return WarmingSource(open_registry(settings), settings.udf_url)


def _member(text: str, role: str) -> RouteMember:
    """`MODEL@VERSION=WEIGHT` of a champion, `MODEL@VERSION:FRACTION` of the others."""
    from pipelines.routing import RouteMember

    name, _, weight = text.partition("=") if role == "champion" else (text.partition(":")[0], "", "")
    fraction = text.partition(":")[2] if role != "champion" else ""
    model, at, version = name.partition("@")
    try:
        if not (model and at):
            raise ValueError(name)
        return RouteMember(
            model,
            int(version),
            role,
            float(weight or 1.0) if role != "shadow" else 0.0,
            float(fraction or 1.0) if role != "champion" else None,
        )
    except ValueError as error:
        raise InvalidInputError(
            f"`{text}` names no member",
            fix="Write MODEL@VERSION=WEIGHT, or MODEL@VERSION:FRACTION for challengers and shadows.",
        ) from error


def parse_moment(text: str) -> datetime:
    """A time as somebody writes it; without a zone it is in UTC.

    Raises:
        InvalidInputError: it is none.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidInputError(f"`{text}` is no time", fix="Write it like 2026-01-31T08:00:00Z.") from error
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _print(states: Sequence[RouteState], *, as_json: bool) -> None:
    if as_json:
        print_json([_as_json(each) for each in states])
        return
    rows = [
        {
            "tenant": each.tenant_id,
            "endpoint": each.endpoint,
            "epoch": each.epoch,
            "strategy": each.strategy,
            "members": "; ".join(_told(member) for member in each.members),
            "from": _time(each.served_from),
            "until": _time(each.served_until),
            "changed by": each.changed_by or "",
            "reason": each.reason or "",
        }
        for each in states
    ]
    print_rows(rows, as_json=False)


def _as_json(state: RouteState) -> dict[str, object]:
    return {
        "tenant_id": state.tenant_id,
        "endpoint": state.endpoint,
        "epoch": state.epoch,
        "strategy": state.strategy,
        "members": [member.as_json() for member in state.members],
        "served_from": state.served_from.isoformat() if state.served_from else None,
        "served_until": state.served_until.isoformat() if state.served_until else None,
        "changed_by": state.changed_by,
        "reason": state.reason,
    }


def _told(member: RouteMember) -> str:
    share = f" {member.fraction:.0%}" if member.fraction is not None else ""
    weight = f" {member.weight:g}" if member.role != "shadow" else ""
    return f"{member.name} {member.role}{weight}{share}"


def _time(moment: datetime | None) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds") if moment else ""
