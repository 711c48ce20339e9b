"""What resolvers can reach: the caller's identity and the services, built once per request or socket."""

from __future__ import annotations

from dataclasses import dataclass

from strawberry.dataloader import DataLoader
from strawberry.fastapi import BaseContext
from strawberry.types import Info

from api.database import Database
from api.graphql.models import ModelLifecycle
from api.http.problems import UnauthenticatedError
from api.identity.authenticator import Authenticator
from api.identity.identity import Identity, Permission
from api.identity.keys import KeyStore
from api.ingest.service import Ingestion
from api.live.changes import Row
from api.live.hub import Hub
from api.reading.features import Features
from api.reading.labels import read_labels
from api.reading.lake import Lake
from api.reading.predictions import Predictions
from api.reading.quarantine import Quarantine
from core.clock import Clock
from core.errors import UnavailableError


@dataclass(frozen=True)
class Services:
    """Everything that the schema's resolvers use, made by `api.app`."""

    clock: Clock
    authenticator: Authenticator
    keys: KeyStore
    database: Database
    lake: Lake
    ingestion: Ingestion
    predictions: Predictions
    anomalies: Predictions
    quarantine: Quarantine
    features: Features
    prediction_hub: Hub
    anomaly_hub: Hub
    model_lifecycle: ModelLifecycle | None = None

    def must_decide_models(self) -> ModelLifecycle:
        """Raises UnavailableError where this API was started without `headrace`."""
        if self.model_lifecycle is None:
            raise UnavailableError("this API decides nothing about models", fix="Start it with `headrace serve api`.")
        return self.model_lifecycle


class Context(BaseContext):
    """The context of one operation, or of all operations of one socket."""

    def __init__(self, services: Services, identity: Identity | None) -> None:
        super().__init__()
        self.services = services
        self._identity = identity
        # Labels may be corrected at any time, so nothing is kept from one load to the next.
        self.labels: DataLoader[str, Row | None] = DataLoader(load_fn=self._load_labels, cache=False)

    @property
    def identity(self) -> Identity:
        """Who calls, and may read.

        Raises:
            UnauthenticatedError: nobody said so (a socket before its `connection_init`).
            ForbiddenError: they may not read.
        """
        return self.caller("read")

    @identity.setter
    def identity(self, identity: Identity) -> None:
        self._identity = identity

    def caller(self, needs: Permission) -> Identity:
        """Who calls, and may do what is needed.

        Raises:
            UnauthenticatedError: nobody said so, or the credentials are not good any more.
            ForbiddenError: they may not do that.
            TooManyRequestsError: their tenant does it more often than it may.
        """
        return self.services.authenticator.admit(self.anybody, needs)

    @property
    def anybody(self) -> Identity:
        """Who calls, whatever they may.

        Raises:
            UnauthenticatedError: nobody said so, or the credentials are not good any more.
        """
        if self._identity is None:
            raise UnauthenticatedError("no credentials were given")
        if not self.services.authenticator.access.is_open(self._identity):
            raise UnauthenticatedError("the credentials are not valid any more")
        return self._identity

    async def _load_labels(self, prediction_ids: list[str]) -> list[Row | None]:
        found = await read_labels(self.services.database, self.identity.tenant, list(dict.fromkeys(prediction_ids)))
        return [found.get(prediction_id) for prediction_id in prediction_ids]


type_info = Info[Context, None]
