"""Which processes make up the platform with the given settings, and where each listens."""

from __future__ import annotations

import json
import sys
from collections.abc import Container
from typing import Any

from core.settings import Settings
from headrace.ports import accepts_connections, free_port, parse_address, replace_port
from headrace.supervisor import ProcessSpec

SERVICES = ("broker", "udf", "engine", "api")
"""Stopped in the reverse order: who asks stops before who answers."""


MAINTENANCE = "maintenance"

_NICENESS = {"engine": 5, MAINTENANCE: 19}
"""Who waits for an answer goes before the next epoch. Measured at 500 calls of /predict a second, everything on two cores: p99 of
19 ms, and of 146 ms without it."""

PORTS_FILE = "ports.json"
_ADDRESSES = ("kafka", "database_url", "udf_url", "api_port", "v2_grpc_port", "maintenance_port")
_PORTS = frozenset({"api_port", "v2_grpc_port", "maintenance_port"})


def resolve_ports(settings: Settings, *, flexible: Container[str] = ()) -> Settings:
    """Choose every port, so that all processes can be told where the others are.

    A port that was chosen here is remembered in the data folder and taken again, because the objects in the stream
    database name the broker's and the UDF server's.

    Args:
        settings: a port 0 takes a free one.
        flexible: names of settings whose port nobody asked for: if it is taken, a free one will do.
    """
    file = settings.data_dir / PORTS_FILE
    remembered: dict[str, int] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    chosen: dict[str, int] = {}
    update: dict[str, object] = {}
    for name in _ADDRESSES:
        value: Any = settings.resolved_v2_grpc_port if name == "v2_grpc_port" else getattr(settings, name)  # Any: text or port
        if value is None:
            continue
        host, port = (settings.api_host, value) if name in _PORTS else parse_address(value, setting=name)
        free_choice = port == 0 or (name in flexible and accepts_connections(host, port))
        if name in remembered and (port == 0 or name in flexible):
            port = remembered[name]
        elif free_choice:
            port = free_port(host)
        if name in remembered or free_choice:
            chosen[name] = port
        update[name] = port if name in _PORTS else replace_port(value, port)
    if chosen:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(chosen) + "\n", encoding="utf-8")
    return settings.model_copy(update=update)


def process_specs(settings: Settings) -> list[ProcessSpec]:
    """Describe the four processes, and the one that looks after the lake; the ports must be resolved."""
    addresses = {
        "broker": parse_address(settings.kafka, setting="kafka"),
        "engine": parse_address(settings.database_url, setting="database_url"),
        "udf": parse_address(settings.udf_url, setting="udf_url"),
        "api": (settings.api_host, settings.api_port),
        MAINTENANCE: (settings.api_host, settings.maintenance_port),
    }
    names = (*SERVICES, MAINTENANCE) if settings.maintenance.enabled else SERVICES
    headrace = (sys.executable, "-m", "headrace", "--log-format", "json")
    return [ProcessSpec(name, (*headrace, "serve", name), *addresses[name], _NICENESS.get(name, 0)) for name in names]
