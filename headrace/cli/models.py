"""`headrace models`: versions, their stages, and how they come into production."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from core.errors import InvalidInputError, NotFoundError
from headrace.cli.context import AsJson, DataDir, load_settings
from headrace.cli.output import print_json, print_rows
from headrace.cli.routes import parse_moment

if TYPE_CHECKING:
    from headrace.places import Place
    from iceberg.registry import ModelVersion
    from learning.promotion.lifecycle import Answer, Lifecycle

app = typer.Typer(no_args_is_help=True, help="Model versions: register, check, promote, compare, roll back.")

Name = Annotated[str, typer.Argument(help="The model's name.")]
Version = Annotated[str, typer.Argument(help="A number, or an alias or label such as `champion` or `v1.0`.")]
Reason = Annotated[str | None, typer.Option("--reason", help="Kept in the history.")]
Actor = Annotated[str, typer.Option("--actor", help="Who asks; kept in the history.")]
PolicyFile = Annotated[Path | None, typer.Option("--policy", help="A policy file instead of the setting `registry.policy`.")]
Tenant = Annotated[str | None, typer.Option("--tenant", help="Only this tenant.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Change nothing, only tell.")]


@app.command()
def register(
    context: typer.Context,
    name: Name,
    artifact: Annotated[Path, typer.Argument(help="An ONNX file that takes `features` and gives `probabilities`.")],
    kind: Annotated[str, typer.Option("--kind", help="What it is, e.g. gradient_boosting.")] = "onnx",
    features: Annotated[str | None, typer.Option("--features", help="Names of the features, with commas.")] = None,
    metric: Annotated[list[str] | None, typer.Option("--metric", help="NAME=NUMBER; may be repeated.")] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", help="NAME=TEXT; may be repeated.")] = None,
    evaluation: Annotated[
        Path | None, typer.Option("--evaluation", help="CSV of labelled rows that the model never saw; sealed with it.")
    ] = None,
    label_column: Annotated[str, typer.Option("--label-column", help="Its column of labels.")] = "label",
    training_data: Annotated[
        str, typer.Option("--training-data", help="JSON that names it: table, snapshot, hash, seed ...")
    ] = "{}",
    code_hash: Annotated[str, typer.Option("--code-hash", help="Hash of the code that trained it.")] = "unknown",
    seconds: Annotated[float, typer.Option("--training-seconds", min=0, help="How long the training took.")] = 0.0,
    label: Annotated[str | None, typer.Option("--label", help="A label of the version, e.g. v1.0.")] = None,
    description: Annotated[str | None, typer.Option("--description", help="Kept with the model's first version.")] = None,
    owner: Annotated[str | None, typer.Option("--owner", help="Kept with the model's first version.")] = None,
    policy: PolicyFile = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Check, store and seal a model as the next version of a name.

    Example: headrace models register churn model.onnx --metric accuracy=0.91 --evaluation held_out.csv --label v1.0
    """
    from learning.promotion.checks.claimed_metric import ClaimedMetric
    from learning.promotion.evaluation import write_evaluation
    from learning.promotion.running import parse_requirement
    from learning.tabular import load_tabular
    from udfs.artifact import read_signature

    if not artifact.is_file():
        raise NotFoundError("there is no such file", where=str(artifact))
    lifecycle, _ = _open(context, data_dir, policy)
    metrics = {key: _number(value, key) for key, value in _pairs(metric).items()}
    for stated in lifecycle.policy.registration:
        requirement = parse_requirement(stated)
        if not isinstance(requirement, ClaimedMetric):
            told = requirement if isinstance(requirement, str) else f"`{stated['check']}` needs a registered version"
            raise InvalidInputError(f"the registration gate is wrong: {told}", where="policy, registration")
        outcome = requirement.judge(metrics)
        if not outcome.ok:
            raise InvalidInputError(f"the version is not registered: {outcome.reason}", where="policy, registration")
    content = artifact.read_bytes()
    signature = read_signature(content, name=str(artifact))
    names = tuple(features.split(",")) if features else ()
    sealed = None
    if evaluation is not None:
        rows = load_tabular(evaluation, label=label_column)
        names = names or rows.names
        sealed = write_evaluation(rows.features, [rows.classes[position] for position in rows.labels])
    try:
        named = json.loads(training_data)
    except ValueError as error:
        raise InvalidInputError("the training data is no JSON", where="--training-data") from error
    if not isinstance(named, dict):
        raise InvalidInputError("the training data is no JSON object", where="--training-data")
    found = lifecycle.registry.register(
        name,
        content,
        kind=kind,
        feature_names=names,
        labels=signature.classes,
        metrics=metrics,
        tags=_pairs(tag),
        training_data=named,
        code_hash=code_hash,
        duration=timedelta(seconds=seconds),
        description=description,
        owner=owner,
        evaluation=sealed,
    )
    if label is not None:
        lifecycle.registry.set_alias(name, label, found.version, actor="register")
    _print_version(found, lifecycle, as_json=as_json)


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

    lifecycle, _ = _open(context, data_dir)
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
    lifecycle, _ = _open(context, data_dir)
    _print_version(lifecycle.registry.resolve(name, version), lifecycle, as_json=as_json)


@app.command()
def history(context: typer.Context, name: Name, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Every decision about a model's stages, granted or refused, with its checks.

    Example: headrace models history plant_health --json
    """
    lifecycle, _ = _open(context, data_dir)
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
def promote(
    context: typer.Context,
    name: Name,
    version: Version,
    to: Annotated[str, typer.Option("--to", help="The stage: staging, production, archived, or one of the policy's own.")],
    serve: Annotated[
        list[str] | None, typer.Option("--serve", help="TENANT/ENDPOINT that it shall serve from then on; may be repeated.")
    ] = None,
    reason: Reason = None,
    actor: Actor = "cli",
    policy: PolicyFile = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Move a version into a stage if it meets every requirement; exit code 1, and every reason, if it does not.

    Servers load it first; then aliases and routes change, where it replaces another version. On a stopped platform these wait.

    Example: headrace models promote plant_health 2 --to staging
    """
    lifecycle, _ = _open(context, data_dir, policy)
    found = lifecycle.registry.resolve(name, version)
    places = [_place(text) for text in serve or ()]
    _print_answer(lifecycle.promote(name, found.version, to, actor=actor, reason=reason, serve=places), as_json=as_json)


@app.command()
def rollback(
    context: typer.Context,
    name: Name,
    to: Annotated[str | None, typer.Option("--to", help="A version; default: who was in the stage before.")] = None,
    stage: Annotated[str, typer.Option("--stage", help="The stage that is given back.")] = "production",
    reason: Reason = None,
    actor: Actor = "cli",
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Give production back to the version that had it before, with the routes from before.

    Example: headrace models rollback plant_health --reason "errors since 08:00"
    """
    lifecycle, _ = _open(context, data_dir)
    wanted = lifecycle.registry.resolve(name, to).version if to is not None else None
    _print_answer(lifecycle.roll_back(name, actor=actor, to=wanted, stage=stage, reason=reason), as_json=as_json)


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

    lifecycle, _ = _open(context, data_dir)
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

    lifecycle, place = _open(context, data_dir)
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

    lifecycle, _ = _open(context, data_dir)
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
        lifecycle, _ = _open(context, data_dir)
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


@app.command()
def alias(
    context: typer.Context,
    name: Name,
    alias_name: Annotated[str, typer.Argument(help="E.g. challenger, or a label such as v1.0.", metavar="ALIAS")],
    version: Annotated[str | None, typer.Argument(help="A version; without one, who has the alias is shown.")] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Take the alias away.")] = False,
    tenant: Annotated[str, typer.Option("--tenant", help="For this tenant only.")] = "",
    actor: Actor = "cli",
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show, set or remove an alias of a version, for all tenants or for one.

    Example: headrace models alias plant_health challenger 2 --tenant acme
    """
    lifecycle, _ = _open(context, data_dir)
    registry = lifecycle.registry
    if version is not None or remove:
        found = registry.resolve(name, version, tenant_id=tenant).version if version is not None and not remove else None
        registry.set_alias(name, alias_name, found, tenant_id=tenant, actor=actor)
    meaning = registry.get_alias(name, alias_name, tenant_id=tenant)
    if meaning is None and not remove:
        raise NotFoundError(f"`{name}` has no alias `{alias_name}`", fix="Set it: name a version.")
    told = {"name": name, "alias": alias_name, "tenant": tenant or None, "version": meaning}
    if as_json:
        print_json(told)
    else:
        typer.echo(f"{alias_name} of {name} is {f'{name}@{meaning}' if meaning is not None else 'nobody'}")


@app.command()
def delete(
    context: typer.Context,
    name: Name,
    version: Version,
    reason: Reason = None,
    actor: Actor = "cli",
    dry_run: DryRun = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Take a version out and remove its file; refused while a stage, an alias or a route has it. Its history stays.

    Example: headrace models delete plant_health 2 --dry-run
    """
    lifecycle, _ = _open(context, data_dir)
    found = lifecycle.registry.resolve(name, version)
    change, removed = lifecycle.delete(name, found.version, actor=actor, reason=reason, dry_run=dry_run)
    told = {"name": name, "version": change.version, "from_stage": change.from_stage, "removed": removed, "dry_run": dry_run}
    if as_json:
        print_json(told)
    else:
        verb = "would be removed" if dry_run else "removed"
        typer.echo(f"{found.reference} {verb}: {', '.join(removed) or 'no file, another version has the same bytes'}")


@app.command()
def deliver(context: typer.Context, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Carry out what decisions still want: warm servers, change aliases and routes, call webhooks. `headrace dev` does it by itself.

    Example: headrace models deliver --json
    """
    lifecycle, _ = _open(context, data_dir)
    rows = [
        {"promotion_id": promotion_id, **step.as_json()}
        for promotion_id, steps in lifecycle.deliverer.deliver_pending().items()
        for step in steps
    ]
    if as_json:
        print_json(rows)
    else:
        print_rows([{key: row[key] for key in ("promotion_id", "step", "state")} for row in rows], as_json=False)


@app.command()
def export(
    context: typer.Context,
    name: Name,
    to: Annotated[str, typer.Option("--to", help="Only `mlflow`.")] = "mlflow",
    target: Annotated[str, typer.Argument(help="A folder, or the address of an MLflow server.")] = "mlruns",
    version: Annotated[list[str] | None, typer.Option("--version", help="Only these; default: all.")] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Copy versions into an MLflow registry, with metrics, tags and aliases. Needs `pip install 'headrace[mlflow]'`.

    Example: headrace models export plant_health mlruns --to mlflow
    """
    from learning.promotion.mlflow_export import export as export_versions

    if to != "mlflow":
        raise InvalidInputError(f"`{to}` is no registry that can be exported to", fix="Write --to mlflow.")
    lifecycle, _ = _open(context, data_dir)
    wanted = [lifecycle.registry.resolve(name, each) for each in version] if version else lifecycle.registry.list(name)
    if not wanted:
        raise NotFoundError(f"`{name}` has no version")
    rows = export_versions(lifecycle.registry, lifecycle.stage_of(name), wanted, target)
    print_rows(rows, as_json=as_json)


# -- below: called by the above


def _open(context: typer.Context, data_dir: Path | None, policy: Path | None = None) -> tuple[Lifecycle, Place]:
    from core.clock import SystemClock
    from headrace.places import find_place
    from learning.promotion.lifecycle import open_lifecycle
    from learning.promotion.policy import load_policy

    place = find_place(load_settings(context, data_dir=data_dir))
    given = load_policy(policy) if policy is not None else None
    return open_lifecycle(place.settings, place.connect, SystemClock(), policy=given), place


def _print_answer(answer: Answer, *, as_json: bool) -> None:
    told = answer.as_json()
    if as_json:
        print_json(told)
    else:
        for check in told["checks"]:
            typer.echo(f"{'ok  ' if check['ok'] else 'FAIL'} {check['check']}: {check['reason']}")
        for step in told["delivery"]:
            typer.echo(f"{step['state']:7} {step['step']}" + (f": {step['reason']}" if step.get("reason") else ""))
        verdict = "is in" if told["granted"] else "is refused for"
        typer.echo(f"{told['name']}@{told['version']} {verdict} {told['to_stage']} (decided in {told['decided_ms']:.0f} ms)")
    if not told["granted"] or any(step["state"] == "failed" for step in told["delivery"]):
        raise typer.Exit(1)


def _print_version(found: ModelVersion, lifecycle: Lifecycle, *, as_json: bool) -> None:
    told: dict[str, Any] = {
        "name": found.name,
        "version": found.version,
        "stage": lifecycle.stage_of(found.name).get(found.version),
        "aliases": sorted(
            alias + (f"@{tenant}" if tenant else "")
            for (alias, tenant), version in lifecycle.registry.aliases(found.name).items()
            if version == found.version
        ),
        "kind": found.kind,
        "created_at": found.created_at.isoformat(),
        "artifact": found.artifact,
        "artifact_sha256": found.artifact_sha256,
        "artifact_bytes": found.artifact_bytes,
        "signature": json.loads(found.signature.to_json()),
        "signature_hash": found.signature_hash,
        "metrics": dict(found.metrics),
        "tags": dict(found.tags),
        "training_data": dict(found.training_data),
        "training_seconds": found.training_duration.total_seconds(),
        "code_hash": found.code_hash,
    }
    if as_json:
        print_json(told)
    else:
        print_rows([{"field": key, "value": _shown(value)} for key, value in told.items()], as_json=False)


def _shown(value: object) -> str:
    return (
        json.dumps(value, default=str) if isinstance(value, Mapping | Sequence) and not isinstance(value, str) else str(value)
    )


def _pairs(texts: Sequence[str] | None) -> dict[str, str]:
    found = {}
    for text in texts or ():
        key, equal, value = text.partition("=")
        if not (key and equal):
            raise InvalidInputError(f"`{text}` is no NAME=VALUE")
        found[key] = value
    return found


def _number(text: str, name: str) -> float:
    with contextlib.suppress(ValueError):
        return float(text)
    raise InvalidInputError(f"metric `{name}` is `{text}`, no number", where="--metric")


def _place(text: str) -> tuple[str, str]:
    tenant, slash, endpoint = text.partition("/")
    if not (tenant and slash and endpoint):
        raise InvalidInputError(
            f"`{text}` names no endpoint", where="--serve", fix="Write TENANT/ENDPOINT, e.g. acme/plant.health."
        )
    return tenant, endpoint
