"""`headrace tables`: look after the lake's tables."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from headrace.cli.context import AsJson, DataDir, load_settings
from headrace.cli.output import print_rows

app = typer.Typer(no_args_is_help=True, help="Look after the lake's tables: check, shrink, hold, copy.")

Tables = Annotated[list[str] | None, typer.Argument(help="E.g. `lake.predictions`; default: all.", metavar="[TABLE]...")]
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
