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
    from pipelines.routing import Connection, RouteMember, RouteState

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
        found = read_at(connection, _moment(at), tenant, endpoint) if at else read_current(connection, tenant, endpoint)
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
            artifacts=None if unchecked else _registry(settings),
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
            artifacts=None if unchecked else _registry(settings),
        )
    _print([state], as_json=as_json)


@app.command()
def rollback(
    context: typer.Context,
    endpoint: Endpoint,
    tenant: Tenant = "default",
    to: Annotated[int | None, typer.Option("--to", help="An epoch; default: the last one with other models.")] = None,
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


# -- below: called by the above


@contextlib.contextmanager
def _connected(context: typer.Context, data_dir: Path | None) -> Iterator[tuple[Connection, Settings]]:
    import psycopg

    from pipelines.deployer import connected

    settings = load_settings(context, data_dir=data_dir).settings
    try:
        with connected(settings.database_url) as connection:
            yield connection, settings
    except HeadraceError as error:
        if isinstance(error.__cause__, psycopg.errors.UndefinedTable):
            raise NotFoundError(
                "the stream database has no routes yet", fix="Apply a pipeline: `headrace pipeline apply plant`."
            ) from error
        raise


def _registry(settings: Settings):  # type: ignore[no-untyped-def]  # named below; importing it takes a second
    from iceberg.catalog import open_catalog
    from iceberg.registry import Registry

    catalog = open_catalog(settings.catalog_type, settings.resolved_catalog_uri, settings.resolved_warehouse)
    return Registry(catalog, settings.resolved_warehouse)


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


def _moment(text: str) -> datetime:
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
