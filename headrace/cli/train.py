"""`headrace train`: models from labelled rows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headrace.cli.context import AsJson, DataDir, load_settings
from headrace.cli.output import print_json

app = typer.Typer(no_args_is_help=True, help="Train models and give them to endpoints.")


@app.callback()
def _group() -> None:
    """Keeps `run` a command of its own while it is the only one."""


@app.command()
def run(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help='CSV with a column of labels, or JSON {"features": [[...]], "labels": [...]}.')],
    endpoint: Annotated[str, typer.Option("--endpoint", help="Endpoint that the model will serve.")] = "default",
    tenant: Annotated[str, typer.Option("--tenant", help="Tenant whose endpoint it is.")] = "default",
    model: Annotated[str | None, typer.Option("--model", help="Name of the model [default: the endpoint's name].")] = None,
    label: Annotated[str, typer.Option("--label", help="Column of labels in a CSV file.")] = "label",
    trees: Annotated[int, typer.Option("--trees", min=1, help="Trees of the forest.")] = 100,
    depth: Annotated[int, typer.Option("--depth", min=1, help="Their greatest depth.")] = 10,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the forest.")] = 0,
    transforms: Annotated[
        Path | None, typer.Option("--transforms", help="YAML file of transformations, fitted and put in front of the model.")
    ] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Train a forest on labelled rows, register it as the next version, and let it serve an endpoint.

    Example: headrace train run labelled.csv --label outcome --transforms transforms.yaml
    """
    from core.clock import SystemClock
    from headrace.training import serve
    from iceberg.registry import open_registry
    from learning.tabular import load_tabular, train_tabular
    from learning.train import register
    from learning.transforms.declaration import read_declaration

    settings = load_settings(context, data_dir=data_dir).settings
    data = load_tabular(file, label=label)
    name = model or endpoint
    declared = read_declaration(transforms) if transforms is not None else None
    trained = train_tabular(
        data, name=name, source=file.name, clock=SystemClock(), seed=seed, trees=trees, depth=depth, transforms=declared
    )
    (version,) = register(open_registry(settings), [trained])[name]  # type: ignore[arg-type]  # learning asks for **properties
    epoch = serve(settings, tenant=tenant, endpoint=endpoint, model=name, version=version)
    told = {
        "tenant": tenant,
        "endpoint": endpoint,
        "model": name,
        "version": version,
        "epoch": epoch,
        **trained.tags,
        **trained.metrics,
    }
    if as_json:
        print_json(told)
    else:
        measured = f", accuracy {told['accuracy']:.3f} on rows it never saw" if "accuracy" in told else ""
        typer.echo(f"{name}@{version} serves endpoint {endpoint} of tenant {tenant} from route epoch {epoch}{measured}")
