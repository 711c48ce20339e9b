"""`headrace udfs`: functions of your own, in a folder of Python files."""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from core.errors import ConflictError, InvalidInputError, NotFoundError, UnavailableError
from headrace.cli.context import AsJson, DataDir, load_settings
from headrace.cli.output import print_json, print_rows

if TYPE_CHECKING:
    from udfs.client import UdfClient

app = typer.Typer(no_args_is_help=True, help="Functions of your own: a folder of Python files that SQL can call.")

Folder = Annotated[Path | None, typer.Option("--folder", help="Folder of functions; default: the setting `udf_functions`.")]

Url = Annotated[str | None, typer.Option("--url", help="Address of the UDF server; default: the setting `udf_url`.")]

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
    live: Annotated[bool, typer.Option("--live", help="By bare name: the version that `swap` makes live.")] = False,
    library: Annotated[bool, typer.Option("--library", help="Those that come with headrace, instead of a folder's.")] = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Print the CREATE FUNCTION statements of the folder, for a pipeline's SQL file.

    Example: headrace udfs sql --folder my_functions > pipelines/mine/05_functions.sql
    """
    from udfs.explanations.functions import CREATE_FUNCTIONS
    from udfs.functions.loading import load_folder
    from udfs.library import FOLDER as LIBRARY

    if live and library:
        raise InvalidInputError("the functions of headrace have no live version", fix="Leave --live or --library away.")
    definitions = load_folder(LIBRARY if library else _folder(context, folder, data_dir))
    if live:
        definitions = list({each.name: each for each in sorted(definitions, key=lambda d: d.options.version)}.values())
    statements = [each.create_function(link, live=live) for each in definitions]
    if library:
        statements = [*(each.replace("{link}", link) for each in CREATE_FUNCTIONS), *statements]
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


@app.command("bench")
def bench(
    context: typer.Context,
    names: Annotated[list[str] | None, typer.Argument(help="NAME@VERSION; default: all of the folder.")] = None,
    folder: Folder = None,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Rows of a call.")] = 1024,
    seconds: Annotated[float, typer.Option("--seconds", min=0.01, help="How long each way is measured.")] = 1.0,
    url: Annotated[str | None, typer.Option("--url", help="Measure calls of this UDF server too.")] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Rows a second and latency: as Python, through Arrow, and over Flight with --url. Rows come from EXAMPLES.

    Example: headrace udfs bench discount@1 --folder my_functions --batch 1024
    """
    from udfs.client import UdfClient
    from udfs.functions.bench import bench as measure
    from udfs.functions.loading import load_folder

    definitions = load_folder(_folder(context, folder, data_dir))
    wanted = set(names or [each.served_as for each in definitions])
    unknown = wanted - {each.served_as for each in definitions}
    if unknown:
        raise NotFoundError(f"there is no function `{min(unknown)}` in the folder")
    client = UdfClient(url) if url else None
    rows = [
        {"function": each.served_as, **dataclasses.asdict(timing)}
        for each in definitions
        if each.served_as in wanted
        for timing in measure(each, batch=batch, seconds=seconds, client=client)
    ]
    print_rows(rows, as_json=as_json)


@app.command("reload")
def reload(context: typer.Context, url: Url = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Let a running UDF server take what is new in its folder; what it serves goes on.

    Example: headrace udfs reload
    """
    with _client(context, url, data_dir) as client:
        new = client.act("reload")["new"]
    if as_json:
        print_json({"new": new})
    else:
        typer.echo(f"new: {', '.join(new)}" if new else "nothing new")


@app.command("health")
def health(context: typer.Context, url: Url = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """What a running UDF server serves, and whether it is ready; exit code 1 if it is not.

    Example: headrace udfs health --json
    """
    with _client(context, url, data_dir) as client:
        told = {**client.health(), **client.ready()}
    if as_json:
        print_json(told)
    else:
        for name, value in told.items():
            typer.echo(f"{name}: {', '.join(map(str, value)) if isinstance(value, list) else value}")
    if not told["ready"]:
        raise typer.Exit(1)


@app.command("swap")
def swap(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="NAME@VERSION that shall become the live one.")],
    dual_run: Annotated[str, typer.Option("--dual-run", help="How long both run on the same batches, e.g. 30s, 10m.")] = "30s",
    least_rows: Annotated[int, typer.Option("--least-rows", min=0, help="Refuse when fewer rows were compared.")] = 1,
    accept: Annotated[
        float, typer.Option("--accept", min=0.0, max=1.0, help="Share of rows that may differ; default: none.")
    ] = 0.0,
    tolerance: Annotated[
        float, typer.Option("--tolerance", min=0.0, help="Numbers that differ relatively by no more are equal.")
    ] = 0.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Compare, and change nothing.")] = False,
    url: Url = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Run a version beside the live one on what callers send, show the difference, and cut over in one step.

    Example: headrace udfs swap discount@2 --dual-run 10m --accept 0.01
    """
    matched = re.fullmatch(r"(\w+)@(\d+)", name)
    if matched is None:
        raise InvalidInputError(f"`{name}` is no version of a function", fix="Write NAME@VERSION, e.g. discount@2.")
    function, version = matched[1], int(matched[2])
    seconds = _seconds(dual_run)
    with _client(context, url, data_dir) as client:
        client.act("reload")
        report: dict[str, Any] = client.act("trial", function=function, version=version, tolerance=tolerance)  # Any: JSON
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(min(0.5, seconds))
            report = client.act("trial_report", function=function)
        differing = report["different"] + report["failed_in_new_only"] + report["failed_in_old_only"]
        reason = None
        if report["rows"] < least_rows:
            reason = f"{report['rows']} rows were compared, {least_rows} are asked for"
        elif report["batches_that_new_did_not_answer"] or differing > accept * report["rows"]:
            reason = f"{differing} of {report['rows']} rows differ"
        if reason is None and not dry_run:
            client.act("cut_over", function=function, version=version)
        else:
            client.act("end_trial", function=function)
    done = reason is None and not dry_run
    if as_json:
        print_json({**report, "cut_over": done, "reason": reason})
    else:
        for field, value in report.items():
            if field != "examples":
                typer.echo(f"{field}: {value}")
        print_rows(report["examples"], as_json=False)
        left = "nothing changed (dry run)" if reason is None else f"nothing changed: {reason}"
        typer.echo(f"`{function}` means {name} from now on" if done else left)
    if reason is not None:
        raise typer.Exit(1)


def _seconds(text: str) -> float:
    matched = re.fullmatch(r"(\d+(?:\.\d+)?)(s|m|h)", text)
    if matched is None:
        raise InvalidInputError(f"`{text}` is no time", fix="Write a number and s, m or h, e.g. 30s or 10m.")
    return float(matched[1]) * {"s": 1.0, "m": 60.0, "h": 3600.0}[matched[2]]


@contextmanager
def _client(context: typer.Context, url: str | None, data_dir: Path | None) -> Iterator[UdfClient]:
    import pyarrow.flight as flight

    from udfs.client import UdfClient

    address = url or load_settings(context, data_dir=data_dir).settings.udf_url
    try:
        with UdfClient(address, timeout_seconds=30.0) as client:
            yield client
    except (flight.FlightUnavailableError, flight.FlightTimedOutError) as problem:
        raise UnavailableError(
            "the UDF server does not answer", where=address, fix="Start it with `headrace serve udf`, or give --url."
        ) from problem


def _folder(context: typer.Context, folder: Path | None, data_dir: Path | None) -> Path:
    found = folder or load_settings(context, data_dir=data_dir).settings.udf_functions
    if found is None:
        raise InvalidInputError("no folder of functions is named", fix="Give --folder FOLDER, or set `udf_functions`.")
    return found
