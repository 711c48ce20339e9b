"""`headrace lineage`: from a prediction to its raw events, and the other way."""

from __future__ import annotations

from typing import Annotated

import typer

from headrace.cli.context import AsJson, DataDir, load_settings
from headrace.cli.output import print_json


def lineage(
    context: typer.Context,
    of: Annotated[
        str,
        typer.Argument(
            help="A prediction's id; or event:TOPIC/PARTITION/OFFSET, model:NAME@VERSION, snapshot:TABLE@ID, subject:TENANT/ENTITY.",
            metavar="ID",
        ),
    ],
    down: Annotated[bool, typer.Option("--down", help="What came of it, instead of what it came from.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, help="List so many predictions; all are counted.")] = 100,
    offline: Annotated[bool, typer.Option("--offline", help="Read the lake only, also when the platform runs.")] = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Trace a prediction to raw events, feature window, SQL text, route and models; or with --down what came of a thing.

    Works on a stopped data folder, too, as far as the lake goes; what cannot be told is said.

    Example: headrace lineage 6f1ed002ab5595859014ebf0951522d9
    """
    from headrace.lineage.trace import trace
    from headrace.places import find_place

    graph = trace(find_place(load_settings(context, data_dir=data_dir)), of, down=down, limit=limit, offline=offline)
    if as_json:
        print_json(graph.as_json())
    else:
        typer.echo("\n".join(graph.lines()))
