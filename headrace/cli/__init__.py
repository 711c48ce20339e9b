"""The command line: one module a noun. Results go to stdout, logs and errors to stderr.

Exit codes, stable: 0 done; 1 a check failed, or an error of ours; 2 wrong usage or input; 3 a wrong setting; 4 the thing
is missing or in conflict; 5 something does not answer, and trying again may help; 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from core.errors import ConfigError, ConflictError, HeadraceError, InvalidInputError, NotFoundError, UnavailableError
from headrace.cli import (
    access,
    bench,
    config,
    demo,
    dev,
    doctor,
    erase,
    features,
    lineage,
    models,
    pipeline,
    routes,
    schema,
    serve,
    sql,
    tables,
    train,
    udfs,
)
from headrace.cli.context import Root
from headrace.cli.output import print_error
from headrace.logs import LogFormat, set_up

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Stream SQL and JVM-free Python inference on a lakehouse.",
)
app.add_typer(serve.app, name="serve")
app.add_typer(pipeline.app, name="pipeline")
app.add_typer(sql.app, name="sql")
app.add_typer(udfs.app, name="udfs")
app.add_typer(train.app, name="train")
app.add_typer(routes.app, name="routes")
app.add_typer(models.app, name="models")
app.add_typer(tables.app, name="tables")
app.add_typer(features.app, name="features")
app.add_typer(access.keys, name="keys")
app.add_typer(access.tenants, name="tenants")
app.add_typer(bench.app, name="bench")
app.add_typer(config.app, name="config")
app.command("demo")(demo.demo)
app.command("dev")(dev.dev)
app.command("erase")(erase.erase)
app.command("engine")(serve.engine_alone)
app.command("doctor")(doctor.doctor)
app.command("lineage")(lineage.lineage)
app.command("schema")(schema.schema)

_EXIT_CODES: tuple[tuple[type[HeadraceError], int], ...] = (
    (InvalidInputError, 2),
    (ConfigError, 3),
    (NotFoundError, 4),
    (ConflictError, 4),
    (UnavailableError, 5),
    (HeadraceError, 1),
)


@app.callback()
def root(
    context: typer.Context,
    log_format: Annotated[
        str | None, typer.Option(help="`json` or `human`; default: human on a terminal, json elsewhere.", metavar="FORMAT")
    ] = None,
    log_level: Annotated[str, typer.Option(help="Least severity that is logged: debug, info, warning, error.")] = "info",
) -> None:
    """Read what all commands share."""
    if log_format not in (None, "json", "human"):
        raise typer.BadParameter(f"`{log_format}` is neither `json` nor `human`", param_hint="--log-format")
    if log_level not in ("debug", "info", "warning", "error"):
        raise typer.BadParameter(f"`{log_level}` is none of debug, info, warning, error", param_hint="--log-level")
    style: LogFormat = "json" if log_format == "json" or (log_format is None and not sys.stderr.isatty()) else "human"
    set_up(style, log_level)
    context.obj = Root(environ=dict(os.environ), log_format=style)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        app(given)
    except HeadraceError as error:
        print_error(error, as_json="--json" in given)
        sys.exit(exit_code(error))
    except KeyboardInterrupt:
        sys.exit(130)


def exit_code(error: HeadraceError) -> int:
    """The process exit code that stands for this error."""
    return next(code for kind, code in _EXIT_CODES if isinstance(error, kind))
