"""The embedded platform as one thing that can be entered and left: all processes, told of each other."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from core.settings import Settings
from headrace.config import PREFIX, to_environment
from headrace.supervisor import ProcessEvent, Supervisor
from headrace.topology import process_specs, resolve_ports


@dataclass(frozen=True)
class Platform:
    """Running processes; `settings` has their real ports."""

    settings: Settings
    supervisor: Supervisor

    @property
    def api_url(self) -> str:
        return f"http://{self.settings.api_host}:{self.settings.api_port}"


@contextmanager
def running_platform(
    settings: Settings,
    environ: Mapping[str, str],
    *,
    flexible_ports: Container[str] = (),
    on_event: Callable[[ProcessEvent], None] = lambda _event: None,
) -> Iterator[Platform]:
    """Start broker, UDF server, engine and API, and stop them all at the end, whatever happens in between.

    Args:
        settings: port 0 takes a free one.
        flexible_ports: see `resolve_ports`.
        environ: what the processes inherit; every `HEADRACE_` name in it is replaced by the resolved settings.

    Raises:
        ConflictError, UnavailableError: see `Supervisor.start`.
    """
    resolved = resolve_ports(settings, flexible=flexible_ports).model_copy(update={"data_dir": settings.data_dir.absolute()})
    inherited = {name: value for name, value in environ.items() if not name.startswith(PREFIX)}
    supervisor = Supervisor(process_specs(resolved), resolved.data_dir, inherited | to_environment(resolved), on_event=on_event)
    with supervisor:
        yield Platform(resolved, supervisor)
