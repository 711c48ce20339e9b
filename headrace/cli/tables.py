"""`headrace tables`: look after the lake's tables."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from headrace.cli.context import AsJson, DataDir, load_settings
from headrace.cli.output import print_json, print_rows

app = typer.Typer(no_args_is_help=True, help="Look after the lake's tables: check, shrink, hold, copy.")

Tables = Annotated[list[str] | None, typer.Argument(help="E.g. `lake.predictions`; default: all.", metavar="[TABLE]...")]
Actor = Annotated[str, typer.Option("--actor", help="Who does it; kept in the history.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Change nothing, only tell.")]


@app.command()
def expire(
    context: typer.Context,
    tables: Tables = None,
    older_than: Annotated[float, typer.Option("--older-than", min=0, help="Days; younger snapshots are kept.")] = 7.0,
    keep_last: Annotated[int, typer.Option("--keep-last", min=1, help="So many of the newest are kept at any age.")] = 100,
    dry_run: DryRun = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Forget old snapshots and remove the files that only they needed; branches and tags stay.

    Example: headrace tables expire lake.predictions --older-than 30 --dry-run
    """
    from iceberg.catalog import open_lake
    from iceberg.expiry import expire_snapshots
    from iceberg.loading import table_names

    catalog = open_lake(load_settings(context, data_dir=data_dir).settings)
    moment = datetime.now(UTC) - timedelta(days=older_than)
    done = [
        {"table": name, **asdict(expire_snapshots(catalog, name, older_than=moment, keep_last=keep_last, dry_run=dry_run))}
        for name in tables or table_names(catalog)
    ]
    print_rows(done, as_json=as_json)


@app.command()
def hold(
    context: typer.Context,
    target: Annotated[str, typer.Argument(help="A table's name, a tenant's id or a subject's id.")],
    reason: Annotated[str, typer.Option("--reason", help="Why, e.g. the reference of the case.")],
    scope: Annotated[str, typer.Option("--scope", help="What TARGET is: table, tenant or subject.")] = "table",
    actor: Actor = "cli",
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Place a legal hold: nothing that it concerns is expired, dropped or erased until it is released.

    Example: headrace tables hold acme --scope tenant --reason "case 2026-17"
    """
    from iceberg.catalog import open_lake
    from iceberg.holds import hold as place

    catalog = open_lake(load_settings(context, data_dir=data_dir).settings)
    placed = place(catalog, scope, target, reason=reason, actor=actor)  # type: ignore[arg-type]  # checked there
    print_rows([asdict(placed)], as_json=as_json)


@app.command()
def release(
    context: typer.Context,
    hold_id: Annotated[str, typer.Argument(help="As `headrace tables holds` shows it.")],
    reason: Annotated[str, typer.Option("--reason", help="Why it may be lifted; kept in the history.")],
    actor: Actor = "cli",
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Lift a legal hold.

    Example: headrace tables release 0b4e6c1a-... --reason "case closed"
    """
    from iceberg.catalog import open_lake
    from iceberg.holds import release as lift

    catalog = open_lake(load_settings(context, data_dir=data_dir).settings)
    print_rows([asdict(lift(catalog, hold_id, reason=reason, actor=actor))], as_json=as_json)


@app.command()
def holds(
    context: typer.Context,
    everything: Annotated[bool, typer.Option("--all", help="Released ones too.")] = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """List the legal holds in force.

    Example: headrace tables holds --all --json
    """
    from iceberg.catalog import open_lake
    from iceberg.holds import list_holds

    found = list_holds(open_lake(load_settings(context, data_dir=data_dir).settings))
    print_rows([asdict(each) for each in found if everything or each.active], as_json=as_json)


@app.command()
def evolve(
    context: typer.Context,
    table: Annotated[str, typer.Argument(help="E.g. `lake.features_plant`.", metavar="TABLE")],
    add: Annotated[
        list[str] | None, typer.Option("--add", help="A new column, empty in old rows.", metavar="NAME:TYPE")
    ] = None,
    rename: Annotated[list[str] | None, typer.Option("--rename", help="Another name.", metavar="OLD=NEW")] = None,
    widen: Annotated[list[str] | None, typer.Option("--widen", help="A wider type.", metavar="NAME:TYPE")] = None,
    drop: Annotated[list[str] | None, typer.Option("--drop", help="Take a column away.", metavar="NAME")] = None,
    pipelines: Annotated[
        list[str] | None, typer.Option("--pipelines", help="Folders whose feature views count besides the built-in ones.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Also if something breaks.")] = False,
    dry_run: DryRun = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Change a table's columns by field id; old files and snapshots read on, and running sinks go on without a pause.

    Says first which feature views, models, sinks and views know the columns by name, and refuses with exit code 1 if one would
    break, unless forced.

    Example: headrace tables evolve lake.features_plant --rename flow_avg=flow_mean --dry-run
    """
    from headrace.evolving import evolve_table
    from iceberg.evolution import parse_steps

    steps = parse_steps(add or (), rename or (), widen or (), drop or ())
    settings = load_settings(context, data_dir=data_dir).settings
    done = evolve_table(settings, table, steps, folders=pipelines or (), force=force, dry_run=dry_run)
    if as_json:
        print_json(done.as_json())
    else:
        typer.echo("\n".join(done.lines()))
    if done.refused:
        raise typer.Exit(1)
