"""Gives a freshly trained model its endpoint."""

from __future__ import annotations

from core.settings import Settings
from pipelines import deployer
from pipelines.routing import RouteMember, change_route


def serve(settings: Settings, *, tenant: str, endpoint: str, model: str, version: int) -> int:
    """Let one model version serve an endpoint alone, and return the epoch of its route.

    Raises:
        UnavailableError: the stream database does not answer.
        ConflictError: somebody else changed the route at the same moment.
    """
    deployer.apply(settings.database_url, [], deployer.variables(settings))
    with deployer.connected(settings.database_url) as connection:
        changed = change_route(
            connection,
            tenant,
            endpoint,
            "ensemble_mean",
            [RouteMember(model, version)],
            changed_by="train",
            reason=f"trained {model}@{version}",
        )
    return changed.epoch
