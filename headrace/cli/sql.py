"""`headrace sql`: unit tests of streaming SQL, and a shell."""

from __future__ import annotations

import logging
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import typer

from core.errors import InvalidInputError
from headrace.cli.context import AsJson, DataDir, load_settings
from headrace.cli.output import print_json

app = typer.Typer(no_args_is_help=True, help="Streaming SQL: test it, and talk to the stream database.")

_MOST_JOBS = 4  # each case has an engine, a broker and some threads of its own
_QUIET = ("engine", "broker", "udfs", "iceberg")


@app.callback()
def sql() -> None:
    """Streaming SQL: test it, and talk to the stream database."""


@app.command("test")
def run_tests(
    paths: Annotated[list[Path], typer.Argument(help="Test files (`*.test.yaml`), or folders of them.", metavar="PATH...")],
    only: Annotated[str | None, typer.Option("-k", help="Only cases whose file or name holds this text.")] = None,
    update: Annotated[bool, typer.Option("--update", help="Write the rows that came in the place of those expected.")] = False,
    jobs: Annotated[
        int | None, typer.Option("--jobs", min=1, help="Cases at a time [default: as many as processors, up to 4].")
    ] = None,
    junit: Annotated[Path | None, typer.Option("--junit", help="Also write JUnit XML to this file.")] = None,
    database_url: Annotated[
        str | None, typer.Option(help="Run against this database, e.g. RisingWave, in databases made for the cases.")
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address of this machine under which the database reaches the tests' broker and functions.")
    ] = "127.0.0.1",
    udf_url: Annotated[str | None, typer.Option(help="A UDF server for functions that a case does not answer itself.")] = None,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show the log of the parts that run the tests.")] = False,
    as_json: AsJson = False,
) -> None:
    """Test SQL files: rows go in epoch by epoch, and what views show and emit is compared with what is expected.

    Exits with 0 if all passed, 1 if one failed, 2 if a test file is malformed.

    Example: headrace sql test pipelines/plant
    """
    from headrace.sqltest.reading import find, read
    from headrace.sqltest.report import Printer, write_junit
    from headrace.sqltest.report import as_json as to_json
    from headrace.sqltest.run import Where, check, run
    from headrace.sqltest.update import update as rewrite

    if not verbose:
        for name in _QUIET:
            logging.getLogger(name).setLevel(logging.CRITICAL)
    began = time.monotonic()
    where = Where(database_url, host, udf_url)
    cases = [case for path in find(paths) for case in read(path).cases if only is None or only in f"{path} {case.name}"]
    if not cases:
        raise InvalidInputError(f"no case holds `{only}` in its file or name", where="-k", fix="Leave -k out to see them all.")
    for case in cases:
        check(case, where)
    printer = Printer()
    outcomes = []
    with ThreadPoolExecutor(jobs or min(_MOST_JOBS, os.cpu_count() or 1)) as pool:
        futures = [pool.submit(run, case, where) for case in cases]
        try:
            for future in futures:
                outcomes.append(future.result())
                if not as_json:
                    printer.outcome(outcomes[-1])
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    problems = [problem for outcome in outcomes for problem in outcome.problems]
    updated, left = rewrite(problems) if update else ([], [])
    seconds = time.monotonic() - began
    if junit is not None:
        write_junit(junit, outcomes, seconds)
    if as_json:
        print_json(to_json(outcomes, seconds, updated, left))
    else:
        printer.summary(outcomes, seconds, updated, left)
    if not all(outcome.passed for outcome in outcomes):
        raise typer.Exit(1)


@app.command("shell")
def shell(
    context: typer.Context,
    command: Annotated[str | None, typer.Option("-c", "--command", help="Run these statements and leave.")] = None,
    database_url: Annotated[str | None, typer.Option(help="The database [default: from the settings].")] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Talk to the stream database: statements end with `;`, `\\d` lists what is there, `\\q` leaves.

    Reads from stdin when that is no terminal, and exits with 1 at the first statement that fails.

    Example: headrace sql shell -c "SHOW MATERIALIZED VIEWS"
    """
    from headrace.shell.shell import Shell, history

    settings = load_settings(context, data_dir=data_dir, database_url=database_url).settings
    talker = Shell(settings.database_url, as_json=as_json)
    if command is None and sys.stdin.isatty():
        with history(settings.data_dir / "shell_history"):
            talker.converse(input)
    elif not talker.run_all([command] if command is not None else sys.stdin):
        raise typer.Exit(1)
