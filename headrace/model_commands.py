"""Decides about model stages for the API, by `headrace models` in a process of its own: checks compute for seconds, and whoever asks
`/predict` meanwhile shall not notice."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from typing import Any

import core.errors
from core.errors import HeadraceError, InvalidInputError, UnavailableError
from core.settings import Settings
from headrace.config import PREFIX, to_environment

_SECONDS = 300.0  # a load test of the user's policy may take its time


class ModelCommands:
    """The adapter of `api.graphql.models.ModelLifecycle`.

    Args:
        settings: of the platform that is meant.
        environ: what the process inherits besides.
    """

    def __init__(self, settings: Settings, environ: Mapping[str, str]) -> None:
        inherited = {name: value for name, value in environ.items() if not name.startswith(PREFIX)}
        self._environ = inherited | to_environment(settings)

    async def promote(self, name: str, version: int, to_stage: str, *, actor: str) -> Mapping[str, Any]:
        return await self._run("promote", name, str(version), "--to", to_stage, "--actor", actor)

    async def roll_back(self, name: str, to: int | None, *, actor: str) -> Mapping[str, Any]:
        return await self._run("rollback", name, *(["--to", str(to)] if to is not None else []), "--actor", actor)

    async def compare(self, name: str, a: int, b: int, *, tenant: str | None) -> Mapping[str, Any]:
        return await self._run("compare", name, str(a), str(b), *(["--tenant", tenant] if tenant is not None else []))

    async def _run(self, verb: str, *arguments: str) -> Mapping[str, Any]:
        if arguments[0].startswith("-"):
            raise InvalidInputError(f"`{arguments[0]}` is no model's name", fix="It begins with a lower case letter.")
        command = [sys.executable, "-m", "headrace", "--log-level", "error", "models", verb, "--json", *arguments]
        process = await asyncio.create_subprocess_exec(
            *command, env=self._environ, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        try:
            out, err = await asyncio.wait_for(process.communicate(), _SECONDS)
        except TimeoutError as problem:
            process.kill()
            await process.wait()
            raise UnavailableError(f"`headrace models {verb}` takes longer than {_SECONDS:g} s") from problem
        except asyncio.CancelledError:
            process.kill()
            raise
        if out:
            told: dict[str, Any] = json.loads(out)
            return told
        raise _error(err.decode(errors="replace"), verb)


def _error(text: str, verb: str) -> HeadraceError:
    """The error that the command told, as it would have been raised here."""
    for line in reversed(text.splitlines()):
        try:
            told = json.loads(line)
        except ValueError:
            continue
        if isinstance(told, dict) and "what" in told:
            kind = getattr(core.errors, str(told["error"]), HeadraceError)
            found: HeadraceError = kind(told["what"], where=told["where"], fix=told["fix"])
            return found
    return HeadraceError(f"`headrace models {verb}` failed", fix="The API's log has what it said.")
