"""`headrace models`: versions, their stages, and how they come into production."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from core.errors import InvalidInputError, NotFoundError
from headrace.cli import model_looks
from headrace.cli.context import AsJson, DataDir
from headrace.cli.model_options import Actor, DryRun, Name, PolicyFile, Reason, Version, open_models, print_version
from headrace.cli.output import print_json, print_rows

if TYPE_CHECKING:
    from learning.promotion.lifecycle import Answer

app = typer.Typer(no_args_is_help=True, help="Model versions: register, check, promote, compare, roll back.")
app.add_typer(model_looks.app)  # without a name: its commands stand beside these


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
    from learning.promotion.evaluation import write_evaluation
    from learning.promotion.running import check_claims
    from learning.tabular import load_tabular
    from udfs.artifact import read_signature

    if not artifact.is_file():
        raise NotFoundError("there is no such file", where=str(artifact))
    lifecycle, _ = open_models(context, data_dir, policy)
    metrics = {key: _number(value, key) for key, value in _pairs(metric).items()}
    check_claims(lifecycle.policy, metrics)
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
    print_version(found, lifecycle, as_json=as_json)


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
    lifecycle, _ = open_models(context, data_dir, policy)
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
    lifecycle, _ = open_models(context, data_dir)
    wanted = lifecycle.registry.resolve(name, to).version if to is not None else None
    _print_answer(lifecycle.roll_back(name, actor=actor, to=wanted, stage=stage, reason=reason), as_json=as_json)


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
    lifecycle, _ = open_models(context, data_dir)
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
    lifecycle, _ = open_models(context, data_dir)
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
    lifecycle, _ = open_models(context, data_dir)
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
    lifecycle, _ = open_models(context, data_dir)
    wanted = [lifecycle.registry.resolve(name, each) for each in version] if version else lifecycle.registry.list(name)
    if not wanted:
        raise NotFoundError(f"`{name}` has no version")
    rows = export_versions(lifecycle.registry, lifecycle.stage_of(name), wanted, target)
    print_rows(rows, as_json=as_json)


# -- below: called by the above


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
