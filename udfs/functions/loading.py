"""Loads users' functions from a folder of Python files, by path, and keeps each version what it was.

A file is executed under a private name, so that it can be called whatever it likes; it can import what is installed, and its
neighbours not (a function is one file). The folder's lock file says what each `name@version` computes; a version whose
source changed is refused, because views hold its results.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from core.errors import ConflictError, InvalidInputError, NotFoundError
from udfs.functions.definition import Definition, definitions_of

LOCK_FILE = "functions.lock.json"


def load_folder(folder: Path) -> list[Definition]:
    """The functions of all files of a folder, by file name.

    Raises:
        NotFoundError: there is no such folder.
        InvalidInputError: a file cannot be executed, or a function has no signature.
        ConflictError: two functions have one name and version, or a version has changed since it was locked.
    """
    if not folder.is_dir():
        raise NotFoundError(f"there is no folder `{folder}`", fix="Make one with `headrace udfs new NAME --folder FOLDER`.")
    found: list[Definition] = []
    for path in sorted(folder.glob("*.py")):
        if not path.name.startswith("_"):
            found += load_file(path)
    _check_names(found)
    _check_lock(found, folder / LOCK_FILE)
    return found


def load_file(path: Path) -> list[Definition]:
    """The functions of one file; raises InvalidInputError."""
    name = f"headrace_udfs_{path.stem}_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None, "a path that ends in .py has a loader"
    assert spec.loader is not None, "as above"
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look themselves up there
    try:
        spec.loader.exec_module(module)
    except Exception as problem:
        del sys.modules[name]
        line = problem.lineno if isinstance(problem, SyntaxError) else _line_in(problem, path)
        raise InvalidInputError(
            f"the file cannot be executed: {type(problem).__name__}: {problem}", where=f"{path}:{line}", fix="Mend the file."
        ) from problem
    return definitions_of(module, str(path))


def lock(folder: Path, definitions: Sequence[Definition]) -> list[str]:
    """Write down what each version computes; returns the versions that are new."""
    path = folder / LOCK_FILE
    known = _read_lock(path)
    new = [each.served_as for each in definitions if each.served_as not in known]
    if new:
        entries = known | {each.served_as: each.digest for each in definitions}
        beside = path.with_suffix(".new")
        beside.write_text(json.dumps(entries, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        os.replace(beside, path)
    return new


def _check_names(found: Sequence[Definition]) -> None:
    seen: dict[str, Definition] = {}
    for each in found:
        other = seen.setdefault(each.served_as, each)
        if other is not each:
            raise ConflictError(
                f"`{each.served_as}` is defined twice", where=f"{other.where} and {each.where}", fix="Give one another version."
            )


def _check_lock(found: Sequence[Definition], path: Path) -> None:
    known = _read_lock(path)
    for each in found:
        if known.get(each.served_as, each.digest) != each.digest:
            raise ConflictError(
                f"`{each.served_as}` computes something else than when it was first served",
                where=each.where,
                fix=f"Restore it, and give the new one `version={each.options.version + 1}`: views hold the old one's results.",
            )


def _read_lock(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as problem:
        raise InvalidInputError(
            "the lock file is no JSON", where=str(path), fix="Restore it from version control."
        ) from problem
    if not isinstance(known, dict):
        raise InvalidInputError("the lock file is no JSON object", where=str(path), fix="Restore it from version control.")
    return known


def _line_in(problem: BaseException, path: Path) -> int:
    """The last line of the file on the way to the exception."""
    line, trace = 1, problem.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = trace.tb_lineno or line
        trace = trace.tb_next
    return line
