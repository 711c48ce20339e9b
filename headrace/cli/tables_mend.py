"""`headrace tables check|register|adopt`: what is wrong with the lake, and the ways back."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from headrace.cli.context import AsJson, DataDir, load_lake_settings
from headrace.cli.output import print_json, print_rows
from headrace.cli.progress import progress

if TYPE_CHECKING:
    from iceberg.checks import Report

DryRun = Annotated[bool, typer.Option("--dry-run", help="Change nothing, only tell.")]


def check(
    context: typer.Context,
    tables: Annotated[list[str] | None, typer.Argument(help="Default: all, and the registry.", metavar="[TABLE]...")] = None,
    deep: Annotated[bool, typer.Option("--deep", help="Read all rows, not only the files' footers.")] = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Look at the catalog, every file of every table and the registry; exit code 1 if something is wrong.

    Example: headrace tables check --deep --json
    """
    from iceberg.catalog import open_lake, sqlite_path, warehouse_location
    from iceberg.checks import check_lake

    settings = load_lake_settings(context, data_dir)
    with progress() as tell:
        report = check_lake(
            lambda: open_lake(settings, claims=False),
            warehouse_location(settings.resolved_warehouse),
            catalog_file=sqlite_path(settings.resolved_catalog_uri) if settings.catalog_type == "jdbc" else None,
            tables=tuple(tables or ()),
            deep=deep,
            progress=tell,
        )
    _print(report, as_json=as_json)
    if report.problems:
        raise typer.Exit(1)


def register(
    context: typer.Context,
    table: Annotated[str, typer.Argument(help="E.g. `lake.predictions`.", metavar="TABLE")],
    metadata: Annotated[str, typer.Argument(help="A `.metadata.json` file of the table.", metavar="FILE")],
    replace: Annotated[
        bool, typer.Option("--replace", help="Also if the catalog knows the table: go back, or forward.")
    ] = False,
    dry_run: DryRun = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Let the catalog know a table by a metadata file; no file is written or removed.

    Example: headrace tables register lake.predictions .headrace/warehouse/lake/predictions/metadata/00041-x.metadata.json --replace
    """
    from iceberg.catalog import open_lake
    from iceberg.registering import register_table

    catalog = open_lake(load_lake_settings(context, data_dir))
    done = register_table(catalog, table, metadata, replace=replace, dry_run=dry_run)
    print_rows([asdict(done)], as_json=as_json)


def adopt(context: typer.Context, dry_run: DryRun = False, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Register every table that lies in the warehouse, when its catalog is lost; the warehouse is this catalog's from then on.

    Example: headrace tables adopt --dry-run
    """
    from iceberg.catalog import open_lake, warehouse_location
    from iceberg.registering import adopt_tables

    settings = load_lake_settings(context, data_dir)
    catalog = open_lake(settings, claims=False)
    done = adopt_tables(catalog, warehouse_location(settings.resolved_warehouse), dry_run=dry_run)
    print_rows([asdict(each) for each in done], as_json=as_json)


def replicate(
    context: typer.Context,
    target: Annotated[str, typer.Argument(help="A folder, or `s3://BUCKET/PREFIX`.", metavar="TARGET_WAREHOUSE")],
    tables: Annotated[list[str] | None, typer.Option("--table", help="Only this one; may be given several times.")] = None,
    source: Annotated[
        str | None, typer.Option("--from", help="Read the bytes of this warehouse instead of the catalog.", metavar="WAREHOUSE")
    ] = None,
    catalog_uri: Annotated[
        str | None,
        typer.Option("--catalog-uri", help="The copy's catalog; default for a folder: `jdbc:sqlite:TARGET/catalog.db`."),
    ] = None,
    dry_run: DryRun = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Copy tables with all history, and the registry's artifacts, to a warehouse from which the platform can start.

    A second run copies what is new. Without a catalog only bytes are copied; `headrace tables adopt` makes them tables.

    Example: headrace tables replicate /mnt/second/warehouse --dry-run
    """
    from headrace.replicating import replicate_lake

    settings = load_lake_settings(context, data_dir)
    with progress() as tell:
        done = replicate_lake(
            settings, target, tables=tables or (), source=source, catalog_uri=catalog_uri, dry_run=dry_run, progress=tell
        )
    if as_json:
        print_json({"dry_run": dry_run, **done.as_json()})
    else:
        print_rows([asdict(each) for each in done.tables], as_json=False)
        typer.echo(f"artifacts: {done.artifacts}; catalog: {done.catalog_uri or 'none, run `headrace tables adopt` there'}")


def mirror(
    context: typer.Context,
    every: Annotated[
        float | None, typer.Option("--every", min=0.1, help="Look again and again, so many seconds apart.")
    ] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Bring drift events, trainings and model versions from the lake into the stream database, for the views of those names.

    `headrace dev` does so by itself. Needs pipeline `operations`.

    Example: headrace tables mirror --every 10
    """
    import signal
    import threading

    from headrace.mirroring import Mirror

    mirrored = Mirror(load_lake_settings(context, data_dir))
    done = mirrored.look()
    rows = [{"table": table, "written": written, "deleted": deleted} for table, (written, deleted) in done.items()]
    print_rows(rows, as_json=as_json)
    if every is not None:
        stop = threading.Event()
        signal.signal(signal.SIGTERM, lambda _number, _frame: stop.set())
        mirrored.keep_looking(stop, every)


def _print(report: Report, *, as_json: bool) -> None:
    counts = {
        "problems": report.problems,
        "tables": report.tables,
        "snapshots": report.snapshots,
        "files": report.files,
        "rows": report.rows,
        "deep": report.deep,
    }
    if as_json:
        print_json({**counts, "findings": [asdict(finding) for finding in report.findings]})
        return
    for finding in report.findings:
        typer.echo(f"{finding.table}: {finding.what} [{finding.problem}]\n  at {finding.where}\n  {finding.fix}")
    typer.echo(", ".join(f"{name} {count}" for name, count in counts.items()))
