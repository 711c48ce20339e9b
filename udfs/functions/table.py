"""Which functions are served: all versions under `name@version`, and one of each under the bare name, the live one.

A pinned name never changes what it computes. A live name is moved by `headrace udfs swap`, in one step: a batch is answered by
one version. Which versions are live stands in `functions.live.json` beside the functions, so a restart changes nothing; a name
that is not there yet gets its highest version, and keeps it when a higher one comes.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from arrow_udf import UserDefinedFunction

from core.errors import ConflictError, InvalidInputError, NotFoundError
from udfs.functions.definition import Definition
from udfs.functions.loading import load_folder, lock
from udfs.functions.rows import UserFunction

LIVE_FILE = "functions.live.json"


class FunctionTable:
    """What a server looks names up in; reading takes no lock, since a table is replaced as a whole.

    Args:
        fixed: functions that are always there, under their own names (`predict`, `explain@1` ...).
        users: definitions of users, and of headrace's own library.
        folder: where users' functions are loaded again from, and where the live versions are noted; None without such.
    """

    def __init__(
        self, fixed: Sequence[UserDefinedFunction], users: Sequence[Definition] = (), folder: Path | None = None
    ) -> None:
        self._folder = folder
        self._changing = threading.Lock()
        self._fixed = {function._name: function for function in fixed}
        self._users: dict[str, UserFunction] = {}
        self._live: Mapping[str, int] = _read_live(folder)
        self._served: Mapping[str, UserDefinedFunction] = {}
        with self._changing:
            self._add(users)

    def get(self, name: str) -> UserDefinedFunction | None:
        """The function that answers to a name now."""
        return self._served.get(name)

    def names(self) -> list[str]:
        """All names that are answered, sorted."""
        return sorted(self._served)

    def live(self) -> dict[str, int]:
        """The live version of each function of users."""
        return dict(sorted(self._live.items()))

    def must_get_version(self, name: str, version: int) -> UserFunction:
        """A version of a user's function; raises NotFoundError."""
        found = self._users.get(f"{name}@{version}")
        if found is None:
            known = ", ".join(served for served in sorted(self._users) if served.startswith(f"{name}@"))
            fix = f"There are {known}." if known else "Write it with `headrace udfs new`, then reload."
            raise NotFoundError(f"there is no function `{name}@{version}`", fix=fix)
        return found

    def reload(self) -> list[str]:
        """Load the folder again; returns the versions that came. What is served already goes on, untouched.

        Raises:
            ConflictError: a version computes something else than before.
            InvalidInputError: a file cannot be executed; nothing changed. Or there is no folder.
        """
        if self._folder is None:
            raise InvalidInputError("this server has no folder of functions", fix="Start it with --functions FOLDER.")
        definitions = load_folder(self._folder)
        with self._changing:
            new = [each for each in definitions if each.served_as not in self._users]
            lock(self._folder, definitions)
            self._add(new)
        return [each.served_as for each in new]

    def cut_over(self, name: str, version: int) -> int:
        """Let a name mean another version, from the next batch on; returns the version that it meant.

        Raises:
            NotFoundError: there is no such version.
            InvalidInputError: its signature is another one, so statements that use the name would not fit.
        """
        with self._changing:
            new = self.must_get_version(name, version)
            before = self._live[name]
            check_same_signature(self.must_get_version(name, before), new)
            self._publish({**self._live, name: version})
            return before

    def close(self) -> None:
        for function in self._users.values():
            function.close()

    def _add(self, definitions: Sequence[Definition]) -> None:
        for each in definitions:
            if each.served_as in self._users or each.served_as in self._fixed or each.name in self._fixed:
                raise ConflictError(
                    f"`{each.served_as}` is the name of a function that is there already",
                    where=each.where,
                    fix="Give it another name.",
                )
        self._users |= {each.served_as: UserFunction(each) for each in definitions}
        highest: dict[str, int] = {}
        for function in self._users.values():
            definition = function.definition
            highest[definition.name] = max(highest.get(definition.name, 0), definition.options.version)
        kept = {name: version for name, version in self._live.items() if f"{name}@{version}" in self._users}
        self._publish(highest | kept)

    def _publish(self, live: Mapping[str, int]) -> None:
        """One assignment makes it visible, after it is on disk."""
        served: dict[str, UserDefinedFunction] = {**self._fixed, **self._users}
        served |= {name: self._users[f"{name}@{version}"] for name, version in live.items()}
        if live != self._live:
            _write_live(self._folder, live)
        self._live, self._served = live, served


def check_same_signature(old: UserFunction, new: UserFunction) -> None:
    """Raises InvalidInputError where one version cannot take the place of the other."""
    if (old._input_schema.types, old._result_schema.types) != (new._input_schema.types, new._result_schema.types):
        raise InvalidInputError(
            f"`{new._name}` has another signature than `{old._name}`",
            where=new.definition.where,
            fix="Create a function of its own for it (`headrace udfs sql`), and move the views that use it.",
        )


def _read_live(folder: Path | None) -> dict[str, int]:
    path = None if folder is None else folder / LIVE_FILE
    if path is None or not path.is_file():
        return {}
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): int(version) for name, version in told.items()}
    except (ValueError, AttributeError, TypeError) as problem:
        raise InvalidInputError(
            "the file of live versions is no JSON object of numbers", where=str(path), fix="Mend or remove it."
        ) from problem


def _write_live(folder: Path | None, live: Mapping[str, int]) -> None:
    if folder is None:
        return
    beside = folder / f".{LIVE_FILE}.{os.getpid()}"
    with beside.open("w", encoding="utf-8") as file:
        file.write(json.dumps(dict(sorted(live.items())), indent=2) + "\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, folder / LIVE_FILE)
