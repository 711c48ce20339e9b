"""The command line: exit codes, where results and errors go."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from core.errors import ConfigError, ConflictError, CorruptDataError, InvalidInputError, NotFoundError, UnavailableError
from headrace.cli import app, exit_code


def headrace(*arguments: str, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "headrace", *arguments],
        cwd=cwd, env={"PATH": "", **environ}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidInputError, 2),
        (ConfigError, 3),
        (NotFoundError, 4),
        (ConflictError, 4),
        (UnavailableError, 5),
        (CorruptDataError, 1),
    ],
)
def test_exit_codes_stay_as_they_are(error: type[ConfigError], code: int) -> None:
    assert exit_code(error("x")) == code


def test_results_go_to_stdout_as_json(tmp_path: Path) -> None:
    done = headrace("config", "explain", "--json", cwd=tmp_path, HEADRACE_ENGINE__THREADS="5")
    assert done.returncode == 0, done.stderr
    threads = next(row for row in json.loads(done.stdout) if row["name"] == "engine.threads")
    assert (threads["value"], threads["origin"]) == ("5", "HEADRACE_ENGINE__THREADS")


def test_errors_go_to_stderr_with_a_stable_exit_code(tmp_path: Path) -> None:
    done = headrace("config", "explain", "--json", cwd=tmp_path, HEADRACE_NOTHING="5")
    assert (done.returncode, done.stdout) == (3, "")
    assert json.loads(done.stderr)["error"] == "ConfigError"


def test_an_unknown_pipeline_names_the_ones_that_are_there(tmp_path: Path) -> None:
    done = headrace("pipeline", "apply", "plantt", cwd=tmp_path)
    assert done.returncode == 4
    assert "plant, " in done.stderr


def test_pipeline_apply_print_fills_in_everything_and_needs_no_database(tmp_path: Path) -> None:
    done = headrace("pipeline", "apply", "plant", "--print", cwd=tmp_path, HEADRACE_KAFKA="broker:1234")
    assert done.returncode == 0, done.stderr
    assert "properties.bootstrap.server = 'broker:1234'" in done.stdout
    assert "${" not in done.stdout
    assert done.stdout.index("CREATE TABLE routes") < done.stdout.index("CREATE SOURCE plant_events")


def test_every_command_has_help_with_an_example_and_json_where_it_has_a_result() -> None:
    processes = {"serve", "engine"}  # run in the foreground, their result is their service

    def walk(command: object, path: tuple[str, ...]) -> list[tuple[tuple[str, ...], object]]:
        inner = getattr(command, "commands", None)
        return [leaf for name, each in inner.items() for leaf in walk(each, (*path, name))] if inner else [(path, command)]

    for path, command in walk(get_command(app), ()):
        assert "Example: " in (command.help or ""), path  # type: ignore[attr-defined]
        options = {name for parameter in command.params for name in parameter.opts}  # type: ignore[attr-defined]
        assert path[0] in processes or "--json" in options, path
