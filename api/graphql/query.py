"""Queries. No argument names a tenant: it is the caller's."""

from __future__ import annotations

import asyncio
from datetime import datetime

import strawberry
from strawberry.scalars import JSON

from api.graphql.catalog import IdentityType, ModelVersionType, QuarantineConnection, RouteTable
from api.graphql.context import type_info
from api.graphql.features import FeatureRow, FeatureViewType
from api.graphql.keys import ApiKeyType
from api.graphql.models import ModelComparison, Stage
from api.graphql.predictions import Prediction, PredictionConnection, PredictionFilterInput, to_filter
from api.graphql.scalars import Cursor
from api.reading.models import read_models
from api.reading.routes import read_routes, read_routes_at
from iceberg.stages import DELETED


@strawberry.type
class Query:
    @strawberry.field(
        description="Predictions, newest first. With `asOf` from the lakehouse, as they stood at that time; else from the "
        "stream database. Follow `pageInfo.endCursor` for the next page."
    )
    async def predictions(
        self,
        info: type_info,
        filter: PredictionFilterInput | None = None,  # noqa: A002  # the contract's name
        first: int = 50,
        after: Cursor | None = None,
        as_of: datetime | None = None,
    ) -> PredictionConnection:
        page = await info.context.services.predictions.page(
            info.context.identity.tenant, to_filter(filter), first=first, after=after, as_of=as_of
        )
        return PredictionConnection.of(page)

    @strawberry.field(description="One prediction, or null if the tenant has none with that id.")
    async def prediction(self, info: type_info, id: strawberry.ID) -> Prediction | None:  # noqa: A002  # the contract's name
        row = await info.context.services.predictions.one(info.context.identity.tenant, str(id))
        return Prediction.of(row) if row is not None else None

    @strawberry.field(description="Predictions that a pipeline calls anomalies, newest first.")
    async def anomalies(
        self,
        info: type_info,
        filter: PredictionFilterInput | None = None,  # noqa: A002  # the contract's name
        first: int = 50,
        after: Cursor | None = None,
    ) -> PredictionConnection:
        page = await info.context.services.anomalies.page(
            info.context.identity.tenant, to_filter(filter), first=first, after=after, as_of=None
        )
        return PredictionConnection.of(page)

    @strawberry.field(description="Who serves what for this tenant; with `asOf` who served what then.")
    async def routes(self, info: type_info, endpoint: str | None = None, as_of: datetime | None = None) -> list[RouteTable]:
        database, tenant = info.context.services.database, info.context.identity.tenant
        if as_of is None:
            tables = await read_routes(database, tenant, endpoint)
        else:
            tables = await read_routes_at(database, tenant, endpoint, as_of)
        return [RouteTable.of(table) for table in tables]

    @strawberry.field(
        description="Sealed model versions in the registry, which all tenants share; with `asOf` those of that time, in the stages of "
        "that time. Deleted ones are left out."
    )
    async def models(
        self, info: type_info, name: str | None = None, stage: Stage | None = None, as_of: datetime | None = None
    ) -> list[ModelVersionType]:
        lake = info.context.services.lake
        _ = info.context.identity
        found = await asyncio.to_thread(read_models, lake, name, as_of)
        return [
            ModelVersionType.of(each.version, each.stage)
            for each in found
            if each.stage != DELETED and (stage is None or each.stage == stage.value)
        ]

    @strawberry.field(
        description="Two versions of a model: metrics, graphs, and their answers to the same logged traffic of this tenant (of all "
        "tenants for an admin)."
    )
    async def compare_models(self, info: type_info, name: str, a: int, b: int) -> ModelComparison:
        identity = info.context.identity
        lifecycle = info.context.services.must_decide_models()
        tenant = None if identity.may("administer") else identity.tenant
        return ModelComparison.of(await lifecycle.compare(name, a, b, tenant=tenant))

    @strawberry.field(
        description="Rows that a stream could not use. Their tenant is often unreadable, so this needs the role admin."
    )
    async def quarantine(
        self, info: type_info, stream: str, first: int = 50, after: Cursor | None = None
    ) -> QuarantineConnection:
        info.context.caller("administer")
        return QuarantineConnection.of(await info.context.services.quarantine.page(stream, first=first, after=after))

    @strawberry.field(
        description="Features of some entities: now from the stream database, or with `asOf` from the lakehouse what was known "
        "then. A key names the entity's columns but for `tenant_id`, which is the caller's."
    )
    async def features(self, info: type_info, view: str, keys: list[JSON], as_of: datetime | None = None) -> list[FeatureRow]:
        return FeatureRow.all_of(await info.context.services.features.read(info.context.identity, view, keys, as_of))

    @strawberry.field(description="The registered feature views, which all tenants share.")
    async def feature_views(self, info: type_info) -> list[FeatureViewType]:
        _ = info.context.identity
        return [FeatureViewType.of(found) for found in (await info.context.services.features.views()).values()]

    @strawberry.field(description="Keys of this tenant, the newest first; needs the role admin.")
    async def api_keys(self, info: type_info) -> list[ApiKeyType]:
        tenant = info.context.caller("administer").tenant
        return [ApiKeyType.of(key) for key in await info.context.services.keys.all(tenant)]

    @strawberry.field(description="Who you are to this API.")
    def me(self, info: type_info) -> IdentityType:
        return IdentityType.of(info.context.anybody)
