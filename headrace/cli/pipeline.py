"""`headrace pipeline`: folders of SQL and the stream database."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from headrace.cli.context import AsJson, DataDir, load_settings
from headrace.cli.output import print_json
from headrace.cli.preview import as_json as preview_as_json
from headrace.cli.preview import lines, tree

if TYPE_CHECKING:
    from pipelines.deployer import Preview
    from pipelines.planning import Allowed

app = typer.Typer(no_args_is_help=True, help="Folders of SQL and what is deployed of them.")

Folders = Annotated[
    list[str], typer.Argument(help="Folders of SQL files, or names of the built-in pipelines.", metavar="FOLDER...")
]
SinkRebuild = Annotated[
    bool, typer.Option("--allow-sink-rebuild", help="Make sinks anew, without delivering again what they delivered.")
]
Redelivery = Annotated[
    bool, typer.Option("--allow-redelivery", help="Make sinks with a query of their own anew: they deliver everything again.")
]
DataLoss = Annotated[
    bool, typer.Option("--allow-data-loss", help="Make tables anew without their rows, and sources from their topic's start.")
]


@app.callback()
def pipeline() -> None:
    """Folders of SQL and what is deployed of them."""


@app.command("plan")
def plan_(
    context: typer.Context,
    folders: Folders,
    allow_sink_rebuild: SinkRebuild = False,
    allow_redelivery: Redelivery = False,
    allow_data_loss: DataLoss = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Say what `apply` would do, with dependents, columns and costs; nothing is changed.

    Exits with 1 if something would be refused.

    Example: headrace pipeline plan plant
    """
    preview = _preview(context, folders, data_dir, _allowed(allow_sink_rebuild, allow_redelivery, allow_data_loss))
    if as_json:
        print_json(preview_as_json(preview))
    else:
        typer.echo("\n".join(lines(preview)))
    if preview.plan.refused:
        raise typer.Exit(1)


@app.command()
def diff(
    context: typer.Context,
    folders: Folders,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit with 1 if anything differs.")] = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show how the SQL of each object differs from what is deployed; layout and comments do not count.

    Example: headrace pipeline diff plant --exit-code
    """
    from pipelines.difference import semantic, textual

    plan = _preview(context, folders, data_dir, None).plan
    found = [(each, textual(each), semantic(each)) for each in plan.objects]
    changed = [(each, text, meaning) for each, text, meaning in found if text]
    if as_json:
        print_json([{"name": each.name, "kind": each.kind, "diff": text, "meaning": m} for each, text, m in changed])
    else:
        for _, text, meaning in changed:
            typer.echo("\n".join([*text, *(f"# {line}" for line in meaning), ""]))
    if changed and exit_code:
        raise typer.Exit(1)


@app.command("apply")
def apply_(
    context: typer.Context,
    folders: Folders,
    print_only: Annotated[
        bool, typer.Option("--print", help="Print the SQL with everything filled in, and apply nothing.")
    ] = False,
    allow_sink_rebuild: SinkRebuild = False,
    allow_redelivery: Redelivery = False,
    allow_data_loss: DataLoss = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Create what the folders describe, and exchange what changed without a name disappearing; `00_shared` comes first.

    Example: headrace pipeline apply plant telemetry
    """
    from pipelines import deployer, folder

    settings = load_settings(context, data_dir=data_dir).settings
    values = deployer.variables(settings)
    chosen = folder.find(folders)
    if print_only:
        files = [file for _, rendered in deployer.render_all(chosen, values) for file in rendered]
        if as_json:
            print_json([{"file": file.path, "sql": file.text} for file in files])
        else:
            typer.echo("\n".join(f"-- {file.path}\n{file.text}" for file in files))
        return
    allowed = _allowed(allow_sink_rebuild, allow_redelivery, allow_data_loss)
    applied = deployer.apply(settings.database_url, chosen, values, allowed=allowed)
    if as_json:
        print_json(asdict(applied))
        return
    if applied.resumed:
        typer.echo("finished what an earlier application had begun")
    typer.echo(
        f"created {len(applied.created)}, rebuilt {len(applied.rebuilt)}, altered {len(applied.altered)}, "
        f"unchanged {len(applied.unchanged)}; {applied.endpoints} endpoints and {applied.routes} routes inserted"
    )


@app.command()
def explain(
    context: typer.Context,
    what: Annotated[str, typer.Argument(help="Name of an object, or a SQL file.", metavar="NAME|FILE")],
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Print the plan by which the stream database keeps an object up to date.

    Example: headrace pipeline explain predictions_plant
    """
    from pipelines import deployer, explaining

    settings = load_settings(context, data_dir=data_dir).settings
    with deployer.connected(settings.database_url) as connection:
        plans = explaining.explain(connection, what, deployer.variables(settings))
    if as_json:
        print_json(plans)
    else:
        for name, plan in plans.items():
            typer.echo("\n".join([f"-- {name}", *plan]))


@app.command()
def lineage(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of an object.", metavar="NAME")],
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Print what an object is built on, what is built on it, and where its columns come from.

    Example: headrace pipeline lineage predictions_plant
    """
    from pipelines import deployer, snapshot
    from pipelines.lineage import lineage as trace

    settings = load_settings(context, data_dir=data_dir).settings
    with deployer.connected(settings.database_url) as connection:
        found = trace(name, snapshot.read(connection))
    if as_json:
        print_json(asdict(found))
        return
    typer.echo("\n".join(["upstream", *tree(found.upstream, "  "), "downstream", *tree(found.downstream, "  ")]))
    if found.columns:
        typer.echo("\n".join(["columns", *(f"  {column}: {', '.join(of) or '-'}" for column, of in found.columns.items())]))


def _preview(context: typer.Context, folders: list[str], data_dir: DataDir, allowed: Allowed | None) -> Preview:
    from pipelines import deployer, folder

    settings = load_settings(context, data_dir=data_dir).settings
    return deployer.preview(settings.database_url, folder.find(folders), deployer.variables(settings), allowed=allowed)


def _allowed(sink_rebuild: bool, redelivery: bool, data_loss: bool) -> Allowed:
    from pipelines.planning import Allowed

    return Allowed(sink_rebuild, redelivery, data_loss)
