"""`headrace serve`: one process in the foreground, until SIGTERM or Ctrl-C."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headrace.cli.context import DataDir, Lifeline, Root, load_settings
from headrace.lifeline import watch
from headrace.ports import parse_address

app = typer.Typer(no_args_is_help=True, help="Run one process in the foreground.")

Listen = Annotated[str | None, typer.Option("--listen", help="HOST:PORT to listen on; default: from the settings.")]


@app.command()
def broker(context: typer.Context, listen: Listen = None, data_dir: DataDir = None, lifeline: Lifeline = None) -> None:
    """Run the embedded broker (Kafka protocol).

    Example: headrace serve broker --listen 127.0.0.1:9092
    """
    from broker.main import run

    settings = load_settings(context, data_dir=data_dir, kafka=listen).settings
    host, port = parse_address(settings.kafka, setting="kafka")
    _hold(lifeline)
    run(settings.data_dir / "broker", host, port, settings.broker)


@app.command()
def engine(context: typer.Context, listen: Listen = None, data_dir: DataDir = None, lifeline: Lifeline = None) -> None:
    """Run the embedded stream database (PostgreSQL protocol).

    Example: headrace serve engine --listen 127.0.0.1:4566
    """
    from engine.main import run

    settings = load_settings(context, data_dir=data_dir).settings
    host, port = parse_address(listen or settings.database_url, setting="--listen" if listen else "database_url")
    _hold(lifeline)
    run(settings.data_dir / "engine", host, port, settings.engine_with_lake)


@app.command()
def udf(
    context: typer.Context,
    listen: Listen = None,
    functions: Annotated[
        Path | None, typer.Option("--functions", help="Folder of your own functions; default: the setting `udf_functions`.")
    ] = None,
    data_dir: DataDir = None,
    lifeline: Lifeline = None,
) -> None:
    """Run the UDF server (arrow-udf over Arrow Flight): `predict`, and the functions of a folder.

    Example: headrace serve udf --listen 127.0.0.1:8815 --functions my_functions
    """
    from udfs.server import run

    settings = load_settings(context, data_dir=data_dir, udf_functions=functions).settings
    host, port = parse_address(listen or settings.udf_url, setting="--listen" if listen else "udf_url")
    _hold(lifeline)
    run(settings, host, port, functions=settings.udf_functions)


@app.command()
def api(
    context: typer.Context,
    port: Annotated[int | None, typer.Option("--port", help="Port to listen on; default: from the settings.")] = None,
    data_dir: DataDir = None,
    lifeline: Lifeline = None,
) -> None:
    """Run the API (REST, GraphQL).

    Example: headrace serve api --port 8000
    """
    from api.main import run
    from headrace.model_commands import ModelCommands

    settings = load_settings(context, data_dir=data_dir, api_port=port).settings
    _hold(lifeline)
    root: Root = context.obj
    run(settings, model_lifecycle=ModelCommands(settings, root.environ))


@app.command()
def maintenance(
    context: typer.Context,
    port: Annotated[int | None, typer.Option("--port", help="Port of state and metrics; default: from the settings.")] = None,
    data_dir: DataDir = None,
    lifeline: Lifeline = None,
) -> None:
    """Look after the lake at intervals: compact, expire, remove orphans.

    Example: headrace serve maintenance --port 4569
    """
    from headrace.maintenance import run

    settings = load_settings(context, data_dir=data_dir, maintenance_port=port).settings
    _hold(lifeline)
    run(settings, settings.api_host, settings.maintenance_port)


def engine_alone(context: typer.Context, listen: Listen = None, data_dir: DataDir = None) -> None:
    """Run the engine alone; the same as `headrace serve engine`.

    Example: headrace engine --listen 127.0.0.1:4566 --data-dir .headrace
    """
    engine(context, listen=listen, data_dir=data_dir)


def _hold(lifeline: int | None) -> None:
    if lifeline is not None:
        watch(lifeline)
