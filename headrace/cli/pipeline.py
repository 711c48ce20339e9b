"""`headrace pipeline`: folders of SQL and the stream database."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from headrace.cli.context import AsJson, DataDir, load_settings
from headrace.cli.output import print_json

app = typer.Typer(no_args_is_help=True, help="Folders of SQL: apply them to the stream database.")

Folders = Annotated[
    list[str], typer.Argument(help="Folders of SQL files, or names of the built-in pipelines.", metavar="FOLDER...")
]


@app.callback()
def pipeline() -> None:
    """Folders of SQL: apply them to the stream database."""


@app.command("apply")
def apply_(
    context: typer.Context,
    folders: Folders,
    print_only: Annotated[
        bool, typer.Option("--print", help="Print the SQL with everything filled in, and apply nothing.")
    ] = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Create what the folders describe and is not there yet; `00_shared` comes first, always.

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
    applied = deployer.apply(settings.database_url, chosen, values)
    if as_json:
        print_json(asdict(applied))
    else:
        typer.echo(
            f"created {len(applied.created)}, rebuilt {len(applied.rebuilt)}, unchanged {len(applied.unchanged)}; "
            f"{applied.endpoints} endpoints and {applied.routes} routes inserted"
        )
