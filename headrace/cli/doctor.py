"""`headrace doctor`: what is missing on this machine."""

from __future__ import annotations

from dataclasses import asdict

import typer

from headrace.cli.context import AsJson, DataDir, load_settings
from headrace.cli.output import print_rows
from headrace.doctor import diagnose


def doctor(context: typer.Context, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Check versions, ports and the data folder; exit 1 if something must be mended.

    Example: headrace doctor --json
    """
    findings = diagnose(load_settings(context, data_dir=data_dir).settings)
    print_rows([asdict(finding) for finding in findings], as_json=as_json)
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)
