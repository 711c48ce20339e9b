"""`headrace demo`: the main job, bounded, checks itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headrace.cli.context import AsJson, DataDir, load_settings


def demo(
    context: typer.Context,
    data: Annotated[
        Path | None, typer.Option("--data", help="Folder of CSV files (SKAB's or NAB's shape) to replay instead.")
    ] = None,
    data_dir: DataDir = None,
    seconds: Annotated[float, typer.Option("--seconds", min=20, max=300, help="How long the streams are replayed.")] = 60.0,
    only: Annotated[list[str] | None, typer.Option("--only", help="Just this built-in pipeline; may be repeated.")] = None,
    as_json: AsJson = False,
) -> None:
    """Start everything, replay three streams, kill the engine once, and check every result independently.

    Exits with 1 if any check failed.

    Example: headrace demo --json
    """
    from headrace.demo.run import run

    loaded = load_settings(context, data_dir=data_dir)
    summary = run(loaded, context.obj.environ, data=data, replay_seconds=seconds, only=only or None, as_json=as_json)
    if not summary.ok:
        raise typer.Exit(1)
