"""Gets a version ready on every server before a route names it: the old one serves until the new one is acknowledged.

Servers read `model_events` and acknowledge in `model_acks` (`udfs.watching`); those whose address answers are asked directly, too,
which is faster. One that neither answers nor acknowledges in time is named in the record and not waited for: it loads the version when
it is asked first. But somebody has to be ready.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psycopg
import pyarrow.flight as flight

from core.clock import Clock
from core.errors import HeadraceError, UnavailableError
from iceberg.stages import StageChange
from pipelines.routing import Connection
from udfs.client import UdfClient

ACK_SECONDS = 10.0
_LOOK_SECONDS = 0.05


@dataclass(frozen=True)
class Readiness:
    """What servers said: by id, None for ready, else why not; `silent` said nothing."""

    ready: tuple[str, ...]
    refused: dict[str, str]
    silent: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        return {"ready": list(self.ready), "refused": self.refused, "silent": list(self.silent)}


def must_be_applied(connection: Connection) -> None:
    """Raises UnavailableError while no pipeline is applied: then nobody serves, and there is nowhere to tell it."""
    try:
        connection.execute("SELECT promotion_id FROM model_events LIMIT 1")
    except psycopg.errors.UndefinedTable as problem:
        raise UnavailableError("no pipeline of this version is applied", fix="Run `headrace pipeline apply`.") from problem


def tell_stream(connection: Connection, change: StageChange) -> Mapping[str, Any]:
    """Put the decision where servers and subscribers see it; telling it twice changes nothing."""
    connection.execute(
        "INSERT INTO model_events (promotion_id, sequence, kind, name, version, from_stage, to_stage, actor, decided_at)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
        (
            change.promotion_id,
            change.sequence,
            change.kind,
            change.name,
            change.version,
            change.from_stage,
            change.to_stage,
            change.actor,
            change.at,
        ),
    )
    connection.execute("FLUSH")
    return {"relation": "model_events"}


def warm(
    connection: Connection, change: StageChange, udf_url: str, clock: Clock, *, ack_seconds: float = ACK_SECONDS
) -> Readiness:
    """Let every server load the version, and wait for what they say.

    Args:
        udf_url: a server that is asked also if it is not in `model_servers`.

    Raises:
        UnavailableError: nobody is ready, and nobody refused; try again.
    """
    rows = connection.execute("SELECT server_id, url FROM model_servers").fetchall()
    servers = {str(row[0]): str(row[1]) for row in rows}
    if udf_url not in servers.values():
        servers[udf_url] = udf_url
    said: dict[str, str | None] = {}
    for server, url in servers.items():
        try:
            with UdfClient(url) as client:
                answer = client.load_model(change.name, change.version)
            said[server] = None if answer["ready"] else str(answer["message"])
        except (flight.FlightError, HeadraceError, OSError):
            continue  # it may acknowledge by itself
    _record(connection, change.promotion_id, said)
    deadline = clock.monotonic_seconds() + ack_seconds
    while missing := [server for server in servers if server not in said]:
        acks = connection.execute(
            "SELECT server_id, ready, message FROM model_acks WHERE promotion_id = %s", (change.promotion_id,)
        ).fetchall()
        said |= {row[0]: None if row[1] else str(row[2]) for row in acks if row[0] in missing}
        if clock.monotonic_seconds() >= deadline:
            break
        time.sleep(_LOOK_SECONDS)
    found = Readiness(
        ready=tuple(server for server, why in said.items() if why is None),
        refused={server: why for server, why in said.items() if why is not None},
        silent=tuple(server for server in servers if server not in said),
    )
    if not found.ready and not found.refused:
        raise UnavailableError(
            f"no server is ready for `{change.name}@{change.version}`: none of {', '.join(servers)} answers",
            fix="Start one (`headrace serve udf`); `headrace models deliver` goes on then.",
        )
    return found


def _record(connection: Connection, promotion_id: str, said: dict[str, str | None]) -> None:
    for server, why in said.items():
        connection.execute(
            "INSERT INTO model_acks (promotion_id, server_id, ready, message) VALUES (%s, %s, %s, %s)",
            (promotion_id, server, why is None, why),
        )
