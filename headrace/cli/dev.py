"""`headrace dev`: everything, supervised, until Ctrl-C."""

from __future__ import annotations

from typing import Annotated

import typer

from headrace.cli.context import AsJson, DataDir, load_settings


def dev(
    context: typer.Context,
    data_dir: DataDir = None,
    port: Annotated[int | None, typer.Option("--port", help="The API's port.")] = None,
    pipelines: Annotated[
        bool, typer.Option(help="Train the models and apply the built-in pipelines if they are not there.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Run broker, engine, UDF server and API with the built-in pipelines until Ctrl-C or SIGTERM.

    Example: headrace dev --data-dir .headrace --port 8000
    """
    from headrace.dev import run

    loaded = load_settings(context, data_dir=data_dir, api_port=port)
    run(loaded, context.obj.environ, with_pipelines=pipelines, as_json=as_json)
