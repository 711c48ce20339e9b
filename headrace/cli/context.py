"""What every command can reach: the environment, read once, and the settings made from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from core.settings import Settings
from headrace.config import Loaded, load
from headrace.logs import LogFormat
from headrace.state_folder import at_state

DataDir = Annotated[Path | None, typer.Option("--data-dir", help="Folder that holds all state [default: .headrace].")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
Lifeline = Annotated[int | None, typer.Option("--lifeline", hidden=True, help="File descriptor that the supervisor holds.")]


@dataclass(frozen=True)
class Root:
    """Made by the root callback, found in `typer.Context.obj`."""

    environ: Mapping[str, str]
    log_format: LogFormat


def load_settings(context: typer.Context, **overrides: object) -> Loaded:
    """Read the settings; overrides come from the command line, None means not given."""
    root: Root = context.obj
    return load(root.environ, directory=Path.cwd(), overrides=overrides)


def load_lake_settings(context: typer.Context, data_dir: Path | None) -> Settings:
    """Read the settings for a command on the lake.

    `headrace demo` keeps its lake in the folder `demo` of the data folder: where the data folder has none of its own and the
    settings name no other, that one is meant, and it is said so.
    """
    return at_state(load_settings(context, data_dir=data_dir).settings)
