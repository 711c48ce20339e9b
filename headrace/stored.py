"""The stream database of a data folder whose platform is stopped: started for as long as somebody reads it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from core.errors import NotFoundError
from core.settings import Settings
from headrace.config import PREFIX, Loaded, to_environment
from headrace.ports import accepts_connections, parse_address, replace_port
from headrace.state_folder import at_state
from headrace.supervisor import Supervisor
from headrace.topology import process_specs, resolve_ports

_NEEDED = ("broker", "udf", "engine")
_STATE = "engine"


def running(settings: Settings) -> Settings | None:
    """The settings with the ports of the platform that runs on the folder; None if none does."""
    file = settings.data_dir / "run.json"
    if not file.is_file():
        return None
    services = json.loads(file.read_text(encoding="utf-8"))["services"]
    update: dict[str, object] = {}
    for name, setting in (("engine", "database_url"), ("broker", "kafka"), ("udf", "udf_url")):
        if name in services:
            update[setting] = replace_port(getattr(settings, setting), services[name]["port"])
    found = settings.model_copy(update=update)
    host, port = parse_address(found.database_url, setting="database_url")
    return found if "database_url" in update and accepts_connections(host, port) else None


@contextmanager
def running_database(loaded: Loaded, environ: Mapping[str, str]) -> Iterator[Settings]:
    """The settings of a stream database that answers: the one that was named, the one that runs on the data folder, or else the
    stopped one, started meanwhile.

    Raises:
        NotFoundError: none runs, and there is no state to start one on.
        ConflictError, UnavailableError: see `Supervisor.start`.
    """
    if "database_url" in loaded.origins:
        yield loaded.settings
        return
    settings = at_state(loaded.settings)
    found = running(settings)
    if found is not None:
        yield found
        return
    if not (settings.data_dir / _STATE).exists():
        host, port = parse_address(settings.database_url, setting="database_url")
        if port and accepts_connections(host, port):
            yield settings
            return
        raise NotFoundError(
            "no stream database answers, and the data folder has no state of one",
            where=str(settings.data_dir),
            fix="Run headrace demo or headrace dev first, or give --data-dir.",
        )
    engine = settings.engine.model_copy(update={"metrics_port": 0})
    stopped = settings.model_copy(update={"engine": engine, "api_port": 0, "v2_grpc_port": None})
    resolved = resolve_ports(stopped, flexible=("kafka", "database_url", "udf_url"))
    inherited = {name: value for name, value in environ.items() if not name.startswith(PREFIX)}
    specs = [spec for spec in process_specs(resolved) if spec.name in _NEEDED]
    with Supervisor(specs, resolved.data_dir, inherited | to_environment(resolved)):
        yield resolved
