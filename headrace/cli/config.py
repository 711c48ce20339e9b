"""`headrace config`: where each setting came from."""

from __future__ import annotations

from dataclasses import asdict

import typer

from headrace.cli.context import AsJson, DataDir, load_settings
from headrace.cli.output import print_rows

app = typer.Typer(no_args_is_help=True, help="Settings.")


@app.callback()
def config() -> None:
    """Settings."""


@app.command()
def explain(context: typer.Context, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Print each setting, its value, its origin and its meaning; secrets are masked.

    Example: HEADRACE_ENGINE__THREADS=4 headrace config explain
    """
    loaded = load_settings(context, data_dir=data_dir)
    print_rows([asdict(row) for row in loaded.explain()], as_json=as_json)
