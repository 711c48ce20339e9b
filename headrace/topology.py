"""Which processes make up the platform with the given settings, and where each listens."""

from __future__ import annotations

import sys

from core.settings import Settings
from headrace.ports import free_port, parse_address, replace_port
from headrace.supervisor import ProcessSpec

SERVICES = ("broker", "udf", "engine", "api")
"""In the order of their start: the engine asks the UDF server when a function is created."""


def resolve_ports(settings: Settings) -> Settings:
    """Replace every port 0 by a free one, so that all processes can be told where the others are."""

    def resolved(text: str, setting: str) -> str:
        host, port = parse_address(text, setting=setting)
        return text if port else replace_port(text, free_port(host))

    return settings.model_copy(
        update={
            "kafka": resolved(settings.kafka, "kafka"),
            "database_url": resolved(settings.database_url, "database_url"),
            "udf_url": resolved(settings.udf_url, "udf_url"),
            "api_port": settings.api_port or free_port(settings.api_host),
        }
    )


def process_specs(settings: Settings) -> list[ProcessSpec]:
    """Describe the four processes; the ports must be resolved."""
    addresses = {
        "broker": parse_address(settings.kafka, setting="kafka"),
        "engine": parse_address(settings.database_url, setting="database_url"),
        "udf": parse_address(settings.udf_url, setting="udf_url"),
        "api": (settings.api_host, settings.api_port),
    }
    headrace = (sys.executable, "-m", "headrace", "--log-format", "json")
    return [ProcessSpec(name, (*headrace, "serve", name), *addresses[name]) for name in SERVICES]
