"""`headrace features`: feature views."""

from __future__ import annotations

import typer

from headrace.cli import feature_templates

app = typer.Typer(no_args_is_help=True, help="Feature views.")
app.add_typer(feature_templates.app, name="template")


@app.callback()
def features() -> None:
    """Feature views."""
