"""Finds the platform that belongs to a data folder: running, with the ports it really has, or stopped.

A command with `--data-dir` means the platform of that folder and no other one, so a stream database on the default port is not asked
unless `run.json` says that it is this folder's, or its address was given. A folder in which only `make demo` ran means the demo's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg

from core.errors import UnavailableError
from core.settings import Settings
from headrace.config import Loaded
from headrace.ports import replace_port
from headrace.run_file import running_ports
from headrace.state_folder import at_state
from pipelines import deployer

_SERVICES = {"broker": "kafka", "engine": "database_url", "udf": "udf_url"}


@dataclass(frozen=True)
class Place:
    """A data folder's platform; `has_database` says whether its stream database can be asked at all."""

    settings: Settings
    has_database: bool

    @contextmanager
    def connect(self) -> Iterator[psycopg.Connection]:
        """A connection to its stream database.

        Raises:
            UnavailableError: it is stopped, or does not answer.
        """
        if not self.has_database:
            raise UnavailableError(
                "the platform of this folder is stopped", where=str(self.settings.data_dir), fix="Start it with `headrace dev`."
            )
        with deployer.connected(self.settings.database_url) as connection:
            yield connection


def find_place(loaded: Loaded) -> Place:
    """The platform of the settings' data folder."""
    settings = at_state(loaded.settings)
    ports = running_ports(settings.data_dir)
    found: dict[str, object] = {
        setting: replace_port(getattr(settings, setting), ports[service])
        for service, setting in _SERVICES.items()
        if service in ports and setting not in loaded.origins
    }
    if "api" in ports and "api_port" not in loaded.origins:
        found["api_port"] = ports["api"]
    return Place(settings.model_copy(update=found), "engine" in ports or "database_url" in loaded.origins)
