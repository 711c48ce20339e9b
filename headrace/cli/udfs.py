"""`headrace udfs`: functions of your own, in a folder of Python files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from core.errors import ConflictError, InvalidInputError, NotFoundError
from headrace.cli.context import AsJson, DataDir, load_settings
from headrace.cli.output import print_json, print_rows

app = typer.Typer(no_args_is_help=True, help="Functions of your own: a folder of Python files that SQL can call.")

Folder = Annotated[Path | None, typer.Option("--folder", help="Folder of functions; default: the setting `udf_functions`.")]

_TEMPLATE = '''"""{name}: say here what it is for."""

from udfs.functions import udf


@udf
def {name}(amount: float) -> float:
    """Type hints become the SQL signature; `headrace udfs sql` prints it."""
    return amount * 2.0


EXAMPLES = {{"{name}@1": [((21.0,), 42.0), ((None,), None)]}}
"""Arguments and results; `headrace udfs test` runs them."""
'''


@app.command("new")
def new(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the function, as SQL will call it.")],
    folder: Folder = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Write a file with a function to begin with.

    Example: headrace udfs new risk --folder my_functions
    """
    if not name.isidentifier() or name != name.lower():
        raise InvalidInputError(f"`{name}` is no name for a function", fix="Use lower-case letters, digits and underscores.")
    place = _folder(context, folder, data_dir)
    place.mkdir(parents=True, exist_ok=True)
    path = place / f"{name}.py"
    if path.exists():
        raise ConflictError("the file is there already", where=str(path), fix="Choose another name.")
    path.write_text(_TEMPLATE.format(name=name), encoding="utf-8")
    if as_json:
        print_json({"wrote": str(path)})
    else:
        typer.echo(f"wrote {path}")


@app.command("list")
def list_(context: typer.Context, folder: Folder = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """The functions of the folder, with their signatures.

    Example: headrace udfs list --folder my_functions --json
    """
    from udfs.functions.loading import load_folder

    rows = [
        {
            "function": each.served_as,
            "arguments": ", ".join(f"{n} {t.sql}" for n, t in zip(each.signature.names, each.signature.arguments, strict=True)),
            "returns": each.signature.result.sql,
            "where": each.where,
        }
        for each in load_folder(_folder(context, folder, data_dir))
    ]
    print_rows(rows, as_json=as_json)


@app.command("sql")
def sql(
    context: typer.Context,
    folder: Folder = None,
    link: Annotated[str, typer.Option("--link", help="Address of the UDF server.")] = "${UDF_URL}",
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Print the CREATE FUNCTION statements of the folder, for a pipeline's SQL file.

    Example: headrace udfs sql --folder my_functions > pipelines/mine/05_functions.sql
    """
    from udfs.functions.loading import load_folder

    statements = [each.create_function(link) for each in load_folder(_folder(context, folder, data_dir))]
    if as_json:
        print_json(statements)
    else:
        typer.echo("\n\n".join(statements))


@app.command("test")
def try_examples(context: typer.Context, folder: Folder = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Run each file's EXAMPLES the way the server would; exit code 1 if one differs.

    Example: headrace udfs test --folder my_functions
    """
    from udfs.functions.examples import run_examples
    from udfs.functions.loading import load_folder

    place = _folder(context, folder, data_dir)
    results = [result for each in load_folder(place) for result in run_examples(each)]
    rows = [
        {"function": r.function, "arguments": r.arguments, "expected": r.expected, "got": r.got, "ok": r.ok} for r in results
    ]
    print_rows(rows, as_json=as_json)
    if not rows:
        raise NotFoundError("there is no example", where=str(place), fix='Add EXAMPLES = {"name@1": [((arguments,), result)]}.')
    if not all(r.ok for r in results):
        raise typer.Exit(1)


def _folder(context: typer.Context, folder: Path | None, data_dir: Path | None) -> Path:
    found = folder or load_settings(context, data_dir=data_dir).settings.udf_functions
    if found is None:
        raise InvalidInputError("no folder of functions is named", fix="Give --folder FOLDER, or set `udf_functions`.")
    return found
