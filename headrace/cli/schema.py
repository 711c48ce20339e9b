"""`headrace schema`: the GraphQL schema."""

from __future__ import annotations

import typer

from headrace.cli.context import AsJson
from headrace.cli.output import print_json


def schema(as_json: AsJson = False) -> None:
    """Print the GraphQL schema.

    Example: headrace schema > schema.graphql
    """
    from api.schema import export

    text = export()
    if as_json:
        print_json({"schema": text})
    else:
        typer.echo(text, nl=False)
