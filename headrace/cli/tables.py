"""`headrace tables`: look after the lake's tables."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from core.errors import InvalidInputError
from headrace.cli import tables_mend
from headrace.cli.context import AsJson, DataDir, load_lake_settings, load_settings
from headrace.cli.each_table import Tell, catalog_of, each_table, human_bytes, open_lake, told_share
from headrace.cli.output import print_json, print_rows

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog


app = typer.Typer(no_args_is_help=True, help="Look after the lake's tables: check, shrink, hold, copy.")
for _command in (tables_mend.check, tables_mend.register, tables_mend.adopt, tables_mend.replicate, tables_mend.mirror):
    app.command()(_command)

Tables = Annotated[list[str] | None, typer.Argument(help="E.g. `lake.predictions`; default: all.", metavar="[TABLE]...")]
Actor = Annotated[str, typer.Option("--actor", help="Who does it; kept in the history.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Change nothing, only tell.")]


@app.command()
def expire(
    context: typer.Context,
    tables: Tables = None,
    older_than: Annotated[float, typer.Option("--older-than", min=0, help="Days that time travel reaches back.")] = 7.0,
    keep_last: Annotated[int, typer.Option("--keep-last", min=1, help="So many of the newest are kept at any age.")] = 100,
    grace: Annotated[float, typer.Option("--grace", min=0, help="Minutes that a reader of a snapshot has at least.")] = 60.0,
    dry_run: DryRun = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Forget old snapshots and remove the files that only they needed; branches and tags stay.

    Example: headrace tables expire lake.predictions --older-than 30 --dry-run
    """
    from iceberg.expiry import expire_snapshots

    def run(catalog: Catalog, name: str, tell: Tell) -> dict[str, object]:
        moment = datetime.now(UTC) - timedelta(days=older_than)
        done = expire_snapshots(
            catalog,
            name,
            older_than=moment,
            keep_last=keep_last,
            grace=timedelta(minutes=grace),
            dry_run=dry_run,
            progress=tell,
        )
        return {"snapshots": len(done.snapshots), "files": len(done.files), "size_bytes": done.size_bytes}

    each_table(catalog_of(context, data_dir), tables, run, dry_run=dry_run, as_json=as_json)


@app.command()
def orphans(
    context: typer.Context,
    tables: Tables = None,
    older_than: Annotated[
        float, typer.Option("--older-than", min=0, help="Hours; a younger file may belong to a commit in flight.")
    ] = 24.0,
    dry_run: DryRun = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Remove files that no snapshot needs, and artifacts that no model version names.

    Example: headrace tables orphans --older-than 72 --dry-run --json
    """
    from iceberg.orphans import Orphans, remove_orphaned_artifacts, remove_orphans

    age = timedelta(hours=older_than)

    def told(found: Orphans) -> dict[str, object]:
        return {
            "files": len(found.files),
            "size_bytes": found.size_bytes,
            "young": found.young,
            "failed": len(found.failed),
            **({"names": found.files} if as_json else {}),
        }

    def run(catalog: Catalog, name: str, tell: Tell) -> dict[str, object]:
        return told(remove_orphans(catalog, name, older_than=age, dry_run=dry_run, progress=tell))

    settings = load_lake_settings(context, data_dir)
    catalog = open_lake(settings)
    more = []
    if not tables:
        found = remove_orphaned_artifacts(catalog, settings.resolved_warehouse, older_than=age, dry_run=dry_run)
        more = [{"table": found.place, **told(found), "refused": None}]
    each_table(catalog, tables, run, dry_run=dry_run, as_json=as_json, more=more)


@app.command()
def compact(
    context: typer.Context,
    tables: Tables = None,
    target_mb: Annotated[
        float | None, typer.Option("--target-mb", min=1, help="Size of new files, MiB; default: the table's property.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--everything", help="Also where it saves less than it costs; takes all dead rows out.")
    ] = False,
    dry_run: DryRun = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Rewrite small files and those with dead rows into fewer, while others write; what they held stays for time travel.

    Example: headrace tables compact lake.predictions --dry-run --json
    """
    from dataclasses import replace

    from iceberg.compaction import compact as run_compaction
    from iceberg.compaction_plan import EVERYTHING, CompactionPolicy

    policy = replace(
        EVERYTHING if everything else CompactionPolicy(), target_bytes=int(target_mb * 2**20) if target_mb is not None else None
    )

    def run(catalog: Catalog, name: str, tell: Tell) -> dict[str, object]:
        done = run_compaction(catalog, name, policy=policy, dry_run=dry_run, progress=tell)
        return {**asdict(done), "files_saved": done.files_saved, "bytes_saved": done.bytes_saved}

    each_table(catalog_of(context, data_dir), tables, run, dry_run=dry_run, as_json=as_json)


@app.command()
def retain(
    context: typer.Context,
    tables: Tables = None,
    set_days: Annotated[
        int | None, typer.Option("--set-days", min=0, help="First let the named tables keep so many days; 0 keeps everything.")
    ] = None,
    dry_run: DryRun = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Drop the days that are older than a table keeps (property `headrace.retention.days`; without it, everything).

    Rows count by their own time. Their bytes go when the snapshots that know them expire: `headrace tables expire`.

    Example: headrace tables retain lake.audit --set-days 400 --dry-run
    """
    from iceberg.retention import apply_retention, set_retention

    catalog = catalog_of(context, data_dir)
    if set_days is not None:
        if not tables:
            raise InvalidInputError(
                "`--set-days` needs the names of tables", fix="Name them: `headrace tables retain lake.audit`."
            )
        if not dry_run:
            for name in tables:
                set_retention(catalog, name, set_days or None)

    def run(catalog: Catalog, name: str, _tell: Tell) -> dict[str, object]:
        days = set_days if dry_run and set_days else None
        done = apply_retention(catalog, name, days=days, dry_run=dry_run)
        rows = {day.isoformat(): rows for day, rows in done.dropped.items()}
        return {"days": done.days, "before": done.before, "rows": sum(rows.values()), "files": done.files, "dropped": rows}

    each_table(catalog, tables, run, dry_run=dry_run, as_json=as_json)


@app.command()
def du(
    context: typer.Context,
    tables: Tables = None,
    columns: Annotated[bool, typer.Option("--columns", help="Bytes of each column, too.")] = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """What tables take: for their current state, for history, and for nobody.

    Example: headrace tables du --json
    """
    from iceberg.loading import table_names
    from iceberg.usage import measure_rest, measure_table

    settings = load_lake_settings(context, data_dir)
    catalog = open_lake(settings)
    found = [measure_table(catalog, name, columns=columns) for name in tables or table_names(catalog)]
    rest = None if tables else measure_rest(catalog, settings.resolved_warehouse)
    if as_json:
        print_json({"tables": [asdict(each) for each in found], "rest": asdict(rest) if rest else None})
        return
    rows = [
        {
            "table": each.table,
            "rows": each.rows,
            "snapshots": each.snapshots,
            "live": told_share(each.live),
            "historic": told_share(each.historic),
            "orphan": told_share(each.orphan),
            "missing": each.missing,
        }
        for each in found
    ]
    print_rows(rows, as_json=False)
    for each in found:
        for name, size in each.columns.items():
            typer.echo(f"{each.table}  {name}  {human_bytes(size)}")
    if rest:
        typer.echo(f"artifacts: {told_share(rest.artifacts)}; nobody names {told_share(rest.orphan_artifacts)}")
        for folder, share in rest.unclaimed.items():
            typer.echo(f"unclaimed: {folder}: {told_share(share)}")


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
    from iceberg.holds import hold as place

    catalog = catalog_of(context, data_dir)
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
    from iceberg.holds import release as lift

    catalog = catalog_of(context, data_dir)
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
    from iceberg.holds import list_holds

    found = list_holds(catalog_of(context, data_dir))
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
    from headrace.places import find_place
    from iceberg.evolution import parse_steps

    steps = parse_steps(add or (), rename or (), widen or (), drop or ())
    place = find_place(load_settings(context, data_dir=data_dir))
    done = evolve_table(place, table, steps, folders=pipelines or (), force=force, dry_run=dry_run)
    if as_json:
        print_json(done.as_json())
    else:
        typer.echo("\n".join(done.lines()))
    if done.refused:
        raise typer.Exit(1)
