"""The stream database of a data folder whose platform is stopped: started for as long as somebody reads it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from core.errors import NotFoundError
from core.settings import Settings
from headrace.config import PREFIX, Loaded, to_environment
from headrace.places import find_place
from headrace.ports import accepts_connections, parse_address
from headrace.supervisor import Supervisor
from headrace.topology import process_specs, resolve_ports

_NEEDED = ("broker", "udf", "engine")
_STATE = "engine"


@contextmanager
def running_database(loaded: Loaded, environ: Mapping[str, str]) -> Iterator[Settings]:
    """The settings of a stream database that answers: the one that was named, the one that runs on the data folder, or else the
    stopped one, started meanwhile.

    Raises:
        NotFoundError: none runs, and there is no state to start one on.
        ConflictError, UnavailableError: see `Supervisor.start`.
    """
    place = find_place(loaded)
    settings = place.settings
    if place.has_database:
        yield settings
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
