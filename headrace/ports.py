"""Addresses on this machine: parse, find a free one, see whether somebody listens."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

from core.errors import ConfigError


def parse_address(text: str, *, setting: str) -> tuple[str, int]:
    """Read `HOST:PORT`, or the host and port of a URL.

    Raises:
        ConfigError: there is no host or no port in it.
    """
    try:
        parts = urlsplit(text if "://" in text else f"//{text}")
        port = parts.port
    except ValueError:
        port = None
    else:
        if parts.hostname and port is not None:
            return parts.hostname, port
    raise ConfigError(f"`{text}` is no HOST:PORT", where=setting, fix="Write e.g. `127.0.0.1:4566`; port 0 means a free one.")


def replace_port(text: str, port: int) -> str:
    """Put another port into `HOST:PORT` or a URL, leaving the rest as it is."""
    if "://" not in text:
        return f"{text.rpartition(':')[0]}:{port}"
    parts = urlsplit(text)
    return parts._replace(netloc=f"{parts.netloc.rpartition(':')[0]}:{port}").geturl()


def free_port(host: str) -> int:
    """A port that nobody uses right now; somebody else may still take it before we do."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def accepts_connections(host: str, port: int, *, timeout_seconds: float = 0.5) -> bool:
    """Whether somebody listens there."""
    try:
        with socket.create_connection((host, port), timeout=timeout_seconds):
            return True
    except OSError:
        return False
