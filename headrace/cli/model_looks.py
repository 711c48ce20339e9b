"""The commands of `headrace models` that only look: versions, history, comparison, who served, reproduction, scan."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from core.errors import InvalidInputError
from headrace.cli.context import AsJson, DataDir
from headrace.cli.model_options import Name, Tenant, Version, open_models, print_version
from headrace.cli.output import print_json, print_rows
from headrace.cli.routes import parse_moment

app = typer.Typer()


@app.command("list")
def list_(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(help="Only this model.")] = None,
    stage: Annotated[str | None, typer.Option("--stage", help="Only versions in this stage.")] = None,
    at: Annotated[str | None, typer.Option("--at", help="A time: the stages as they were then.")] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Versions with their stages, aliases and metrics.

    Example: headrace models list --stage production --at 2026-01-31T08:00:00Z
    """
    from iceberg.stages import DELETED, NONE, stages_of

    lifecycle, _ = open_models(context, data_dir)
    moment = parse_moment(at) if at else None
    rows: list[dict[str, object]] = []
    meanings: dict[str, dict[tuple[str, str], int]] = {}
    now_in: dict[str, dict[int, str]] = {}
    for each in lifecycle.registry.list(name):
        if each.name not in now_in:
            now_in[each.name] = stages_of(lifecycle.stages.history(each.name), at=moment)
            meanings[each.name] = lifecycle.registry.aliases(each.name)
        its = now_in[each.name].get(each.version, NONE)
        if (its == DELETED and stage != DELETED) or (stage is not None and its != stage):
            continue
        if moment is not None and each.created_at > moment:
            continue
        names = [
            alias + (f"@{tenant}" if tenant else "") for (alias, tenant), v in meanings[each.name].items() if v == each.version
        ]
        rows.append(
            {
                "name": each.name,
                "version": each.version,
                "stage": its,
                "aliases": sorted(names) if as_json else ", ".join(sorted(names)),
                "kind": each.kind,
                "accuracy": each.metrics.get("accuracy") if as_json else f"{each.metrics.get('accuracy', float('nan')):.4f}",
                "created_at": each.created_at.isoformat(timespec="seconds"),
            }
        )
    print_rows(rows, as_json=as_json)


@app.command()
def show(context: typer.Context, name: Name, version: Version, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Everything that is sealed with a version, its stage, and its history.

    Example: headrace models show plant_health champion --json
    """
    lifecycle, _ = open_models(context, data_dir)
    print_version(lifecycle.registry.resolve(name, version), lifecycle, as_json=as_json)


@app.command()
def history(context: typer.Context, name: Name, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Every decision about a model's stages, granted or refused, with its checks.

    Example: headrace models history plant_health --json
    """
    lifecycle, _ = open_models(context, data_dir)
    rows = [
        {
            "sequence": each.sequence,
            "at": each.at.isoformat(timespec="seconds") if each.at else None,
            "version": each.version,
            "kind": each.kind,
            "from": each.from_stage,
            "to": each.to_stage,
            "granted": each.granted,
            "actor": each.actor,
            "reason": each.reason or "",
            **({"checks": each.checks, "detail": each.detail, "promotion_id": each.promotion_id} if as_json else {}),
        }
        for each in lifecycle.stages.history(name)
    ]
    print_rows(rows, as_json=as_json)


@app.command()
def compare(
    context: typer.Context,
    name: Name,
    a: Annotated[str, typer.Argument(help="The first version.")] = "1",
    b: Annotated[str, typer.Argument(help="The second version.")] = "2",
    endpoint: Annotated[
        str | None, typer.Option("--endpoint", help="Replay this endpoint's traffic, whoever answered.")
    ] = None,
    tenant: Tenant = None,
    rows: Annotated[int, typer.Option("--rows", min=1, help="The greatest number of rows, newest first.")] = 10_000,
    seed: Annotated[int, typer.Option("--seed", help="Of the bootstrap.")] = 0,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Metrics, metadata, graphs, and both versions' answers to the same logged traffic, with a paired test.

    Example: headrace models compare plant_health 1 2
    """
    from learning.promotion.comparison import compare as compare_versions

    lifecycle, _ = open_models(context, data_dir)
    one, two = lifecycle.registry.resolve(name, a).version, lifecycle.registry.resolve(name, b).version
    report = compare_versions(
        lifecycle.registry, lifecycle.catalog, name, one, two, tenant=tenant, endpoint=endpoint, limit=rows, seed=seed
    )
    if as_json:
        print_json(report)
        return
    print_rows([{"metric": key, **each} for key, each in report["metrics"].items()], as_json=False)
    replay, latency = report["replay"], report["latency"]
    if replay and replay["rows"]:
        typer.echo(
            f"replay    {replay['rows']} rows of {replay['source']}, {replay['labelled']} labelled; agreement {replay['agreement']:.2%}"
        )
    if latency:
        typer.echo(
            f"latency   p50 {latency['a']['p50_ms']:.3f} and {latency['b']['p50_ms']:.3f} ms, p99 {latency['a']['p99_ms']:.3f} and {latency['b']['p99_ms']:.3f} ms"
        )
    typer.echo(f"{report['recommendation']['verdict']}: {report['recommendation']['reason']}")


@app.command("served-at")
def served_at(
    context: typer.Context,
    moment: Annotated[str, typer.Argument(help="A time, e.g. 2026-01-31T08:00:00Z, or `now`.")] = "now",
    endpoint: Annotated[str | None, typer.Option("--endpoint", help="Only this endpoint.")] = None,
    tenant: Tenant = None,
    source: Annotated[
        str | None, typer.Option("--from", help="`database` or `lake`; default: the database while it runs.")
    ] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Who served a tenant's endpoint at a time, and what was known of each version then.

    Example: headrace models served-at 2026-01-31T08:00:00Z --tenant acme --endpoint plant.health
    """
    from learning.promotion.serving_history import routes_in_lake, with_registry
    from pipelines.routing import read_at

    lifecycle, place = open_models(context, data_dir)
    then = datetime.now(UTC) if moment == "now" else parse_moment(moment)
    if source not in (None, "database", "lake"):
        raise InvalidInputError(f"`{source}` is neither `database` nor `lake`")
    if source == "database" or (source is None and place.has_database):
        with place.connect() as connection:
            states = read_at(connection, then, tenant, endpoint)
    else:
        states = routes_in_lake(lifecycle.catalog, then, tenant, endpoint)
    found = with_registry(states, lifecycle.registry, lifecycle.stages, then)
    if as_json:
        print_json(found)
        return
    rows = [
        {
            "tenant": each["tenant_id"],
            "endpoint": each["endpoint"],
            "epoch": each["route_epoch"],
            "model": f"{member['model']}@{member['version']}",
            "role": member["role"],
            "weight": member["weight"],
            "stage": member["stage"],
            "artifact": (member["artifact_sha256"] or "")[:12],
            "from": each["served_from"],
            "until": each["served_until"] or "",
        }
        for each in found
        for member in each["members"]
    ]
    print_rows(rows, as_json=False)


@app.command()
def reproduce(
    context: typer.Context,
    name: Name,
    version: Version = "1",
    data: Annotated[Path | None, typer.Option("--data", help="The training file, of a model of `headrace train run`.")] = None,
    transforms: Annotated[Path | None, typer.Option("--transforms", help="Its transformations, if it has some.")] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Train a version again from its sealed record and show the difference; exit code 1 where it does not come out the same.

    Example: headrace models reproduce plant_health 1
    """
    from core.clock import SystemClock
    from learning.promotion.reproducing import reproduce as train_again

    lifecycle, _ = open_models(context, data_dir)
    found = lifecycle.registry.resolve(name, version)
    report = train_again(lifecycle.registry, found, clock=SystemClock(), data=data, transforms=transforms)
    if as_json:
        print_json(report)
    else:
        typer.echo(f"{found.reference}: {report['verdict']}" + "".join(f"\n  {reason}" for reason in report["reasons"]))
    if not report["reproduced"]:
        raise typer.Exit(1)


@app.command()
def scan(
    context: typer.Context,
    target: Annotated[str, typer.Argument(help="A model's name, or an ONNX file.")],
    version: Annotated[str | None, typer.Argument(help="A version of the model.")] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """What a model's file could do besides computing: operators, domains, size, files outside; exit code 1 if that is refused.

    Example: headrace models scan model.onnx
    """
    from learning.promotion.checks.security_scan import SecurityScan

    if version is None and Path(target).is_file():
        content, name = Path(target).read_bytes(), target
    else:
        lifecycle, _ = open_models(context, data_dir)
        found = lifecycle.registry.resolve(target, version or "1")
        content, name = lifecycle.registry.load_artifact(found.name, found.version), found.reference
    try:
        outcome = SecurityScan().scan(content, name)
        told: dict[str, Any] = {"name": name, "ok": outcome.ok, "reason": outcome.reason, **outcome.measured}
    except InvalidInputError as problem:
        told = {"name": name, "ok": False, "reason": str(problem)}
    if as_json:
        print_json(told)
    else:
        typer.echo(f"{name}: {'ok' if told['ok'] else 'refused'}: {told['reason']}")
    if not told["ok"]:
        raise typer.Exit(1)
