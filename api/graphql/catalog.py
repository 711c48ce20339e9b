"""Types of routes, models and quarantined rows, and of the caller."""

from __future__ import annotations

import base64
from datetime import datetime

import strawberry
from strawberry.scalars import JSON

from api.graphql.predictions import PageInfo, Role
from api.graphql.scalars import BigInt, Cursor
from api.identity.identity import Identity
from api.live.changes import Row
from api.reading import routes
from api.reading.predictions import Page
from api.reading.quarantine import Place
from iceberg.registry import ModelVersion


@strawberry.type(name="Identity", description="Who you are to this API.")
class IdentityType:
    tenant: str
    roles: list[str]
    method: str = strawberry.field(
        description="How you were recognised: key, token, session, or development on a loopback listener."
    )

    @staticmethod
    def of(identity: Identity) -> IdentityType:
        return IdentityType(tenant=identity.tenant, roles=[identity.role], method=identity.method)


@strawberry.type(description="A model's place in a route.")
class RouteMember:
    model: str
    version: int
    role: Role | None
    weight: float | None = strawberry.field(description="Relative share; the weights need not sum to 1.")
    fraction: float | None = strawberry.field(description="Share of the traffic of a canary or shadow.")


@strawberry.type(description="Who serves an endpoint for this tenant.")
class RouteTable:
    endpoint: str
    strategy: str | None
    epoch: BigInt
    members: list[RouteMember]

    @staticmethod
    def of(table: routes.RouteTable) -> RouteTable:
        known = {role.value: role for role in Role}
        members = [
            RouteMember(
                model=row["model"],
                version=row["version"],
                role=known.get(row["role"]),
                weight=row["weight"],
                fraction=row["fraction"],
            )
            for row in table.members
        ]
        return RouteTable(endpoint=table.endpoint, strategy=table.strategy, epoch=BigInt(table.epoch), members=members)


@strawberry.type(name="ModelVersion", description="A sealed version of a model in the registry.")
class ModelVersionType:
    name: str
    version: int
    kind: str
    created_at: datetime
    stage: str = strawberry.field(description="`none`, `staging`, `production`, `archived`, or one of the policy's own.")
    artifact_sha256: str
    signature_hash: str
    metrics: JSON
    tags: JSON
    feature_names: list[str]
    labels: list[str]

    @staticmethod
    def of(model: ModelVersion, stage: str) -> ModelVersionType:
        return ModelVersionType(
            name=model.name,
            version=model.version,
            kind=model.kind,
            created_at=model.created_at,
            stage=stage,
            artifact_sha256=model.artifact_sha256,
            signature_hash=model.signature_hash,
            metrics=JSON(dict(model.metrics)),
            tags=JSON(dict(model.tags)),
            feature_names=list(model.signature.feature_names),
            labels=list(model.signature.labels),
        )


@strawberry.type(description="A row that a stream could not use, with its original bytes.")
class QuarantinedRow:
    stream: str
    kafka_partition: int
    kafka_offset: BigInt
    reason: str
    received_at: datetime | None
    payload: str | None = strawberry.field(description="The original bytes, base64.")
    text: str | None = strawberry.field(description="The original bytes as text, where they are UTF-8.")

    @staticmethod
    def of(row: Row) -> QuarantinedRow:
        payload = row["payload"]
        raw = payload.encode() if isinstance(payload, str) else bytes(payload) if payload is not None else None
        return QuarantinedRow(
            stream=row["stream"],
            kafka_partition=row["kafka_partition"],
            kafka_offset=BigInt(row["kafka_offset"]),
            reason=row["reason"],
            received_at=row["received_at"],
            payload=base64.b64encode(raw).decode() if raw is not None else None,
            text=_text(raw) if raw is not None else None,
        )


@strawberry.type
class QuarantineEdge:
    cursor: Cursor
    node: QuarantinedRow


@strawberry.type(description="A page of a stream's quarantine, newest first.")
class QuarantineConnection:
    edges: list[QuarantineEdge]
    page_info: PageInfo

    @staticmethod
    def of(page: Page) -> QuarantineConnection:
        edges = [
            QuarantineEdge(
                cursor=Cursor(Place(row["kafka_offset"], row["kafka_partition"]).encode()), node=QuarantinedRow.of(row)
            )
            for row in page.rows
        ]
        return QuarantineConnection(
            edges=edges, page_info=PageInfo(has_next_page=page.has_next, end_cursor=edges[-1].cursor if edges else None)
        )


def _text(raw: bytes) -> str | None:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return None
