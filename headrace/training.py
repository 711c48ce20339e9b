"""Gives a freshly trained model its endpoint."""

from __future__ import annotations

from core.settings import Settings
from pipelines import deployer
from pipelines.folder import Endpoint


def serve(settings: Settings, *, tenant: str, endpoint: str, model: str, version: int) -> int:
    """Let one model version serve an endpoint alone, and return the epoch of its route.

    The new row comes before the old ones go: readers in between see both models, never none.

    Raises:
        UnavailableError: the stream database does not answer.
    """
    deployer.apply(
        settings.database_url,
        [],
        deployer.variables(settings),
        endpoints=[Endpoint(tenant_id=tenant, endpoint=endpoint)],
    )
    place = (tenant, endpoint)
    with deployer.connected(settings.database_url) as connection:
        row = connection.execute("SELECT max(epoch) FROM routes WHERE tenant_id = %s AND endpoint = %s", place).fetchone()
        epoch = (int(row[0]) if row is not None and row[0] is not None else 0) + 1
        connection.execute(
            "INSERT INTO routes (tenant_id, endpoint, model, version, role, weight, fraction, epoch)"
            " VALUES (%s, %s, %s, %s, 'champion', 1, NULL, %s)",
            (*place, model, version, epoch),
        )
        connection.execute("FLUSH")
        connection.execute(
            "DELETE FROM routes WHERE tenant_id = %s AND endpoint = %s AND NOT (model = %s AND version = %s)",
            (*place, model, version),
        )
        connection.execute("FLUSH")
    return epoch
