"""`headrace bench`: figures on data of your own."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from headrace.cli.context import AsJson, load_settings
from headrace.cli.output import print_json, print_rows

app = typer.Typer(no_args_is_help=True, help="Figures on data of your own.")


@app.callback()
def bench() -> None:
    """Figures on data of your own."""


@app.command()
def anomaly(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="Folder of labelled CSV files of SKAB's shape.")],
    as_json: AsJson = False,
) -> None:
    """Send recordings through the real pipeline and score its verdicts: F1, false-alarm rate, missed-alarm rate.

    A platform of its own is started in a temporary folder on free ports, and removed again.

    Example: headrace bench anomaly recordings/ --json
    """
    from headrace.bench.anomaly import run

    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as place:
        settings = load_settings(context, data_dir=Path(place)).settings
        free = settings.model_copy(
            update={
                "kafka": "127.0.0.1:0",
                "database_url": "postgresql://root@127.0.0.1:0/dev",
                "udf_url": "http://127.0.0.1:0",
                "api_port": 0,
                "engine": settings.engine.model_copy(update={"metrics_port": 0}),
            }
        )
        result = run(free, context.obj.environ, folder, lambda text: typer.echo(text, err=True))
    if as_json:
        print_json(result)
        return
    files = result["files"]
    assert isinstance(files, dict)
    total = {name: value for name, value in result.items() if name not in ("files", "left_out", "model")}
    print_rows([{"file": name, **counts} for name, counts in files.items()] + [{"file": "all", **total}], as_json=False)
