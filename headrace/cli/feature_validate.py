"""`headrace features validate`: whether the rows of feature views meet the rules that are declared."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from core.errors import NotFoundError
from headrace.cli.context import AsJson, DataDir, load_settings
from headrace.cli.output import print_json, print_table


def validate(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="A pipeline's folder with features.yaml, or the name of one of ours.")],
    name: Annotated[str | None, typer.Option("--name", help="Only this feature view of the file.")] = None,
    examples: Annotated[int, typer.Option("--examples", min=0, help="Rows to show for each rule that is broken.")] = 3,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Look at every row that the stream database has now; exits with 1 if a rule of severity `error` is broken.

    Example: headrace features validate interactions --json
    """
    from features.reading import read_folder
    from features.violations import validate as look
    from pipelines import deployer
    from pipelines.folder import BUILT_IN, built_in_names

    where = folder if folder.is_dir() or str(folder) not in built_in_names() else BUILT_IN / folder
    views = [each.view for each in read_folder(where) if name in (None, each.view.name)]
    views = [view for view in views if view.rules or any(feature.rules for feature in view.features)]
    if not views:
        raise NotFoundError("there is no feature view with rules", where=str(where), fix="Declare `rules` in features.yaml.")
    settings = load_settings(context, data_dir=data_dir).settings
    with deployer.connected(settings.database_url) as connection:
        results = [look(connection, view, examples=examples) for view in views]
    ok = all(result.ok for result in results)
    if as_json:
        print_json({"ok": ok, "views": [{**asdict(result), "ok": result.ok} for result in results]})
    else:
        for result in results:
            typer.echo(f"{result.view}: {result.rows} rows, {len(result.broken)} rules broken")
            if result.broken:
                columns = ("severity", "rule", "wants", "violations", "on_failure", "latest")
                print_table(
                    columns,
                    [(b.severity, b.rule, b.told, b.violations, b.on_failure, _latest(b.examples)) for b in result.broken],
                )
    if not ok:
        raise typer.Exit(1)


def _latest(examples: object) -> str:
    assert isinstance(examples, tuple)
    return (
        " ".join(
            f"{key}={value}" for key, value in examples[0].items() if key not in ("rule", "told", "severity", "on_failure")
        )
        if examples
        else ""
    )
