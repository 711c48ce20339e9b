"""How results and errors leave: JSON for programs, tables and sentences for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence

import typer
from rich.console import Console
from rich.table import Table

from core.errors import HeadraceError


def print_json(value: object) -> None:
    """Write one JSON document to stdout."""
    typer.echo(json.dumps(value, indent=2, default=str, ensure_ascii=False))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Write a table to stdout; nothing is cut off when stdout is no terminal."""
    console = Console(width=None if sys.stdout.isatty() else 200)
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    console.print(table)


def print_rows(rows: Sequence[Mapping[str, object]], *, as_json: bool) -> None:
    """Write records either way; all have the keys of the first."""
    if as_json:
        print_json(rows)
    elif rows:
        print_table(list(rows[0]), [list(row.values()) for row in rows])


def print_error(error: HeadraceError, *, as_json: bool) -> None:
    """Write an error to stderr."""
    if as_json:
        entry = {
            "error": type(error).__name__,
            "what": error.what,
            "where": error.where,
            "fix": error.fix,
            "retryable": error.retryable,
        }
        typer.echo(json.dumps(entry, ensure_ascii=False), err=True)
    else:
        typer.echo(f"{type(error).__name__}: {error}", err=True)
