"""Types of feature views and of what they hold on an entity."""

from __future__ import annotations

import enum
import json
from datetime import datetime

import strawberry
from strawberry.scalars import JSON

from features.online import Answer
from features.registry import Registered


@strawberry.enum(description="Whether a view has values for an entity; those of an expired row are null.")
class FeatureStatus(enum.Enum):
    PRESENT = "present"
    MISSING = "missing"
    EXPIRED = "expired"


@strawberry.type(description="What a feature view holds on one entity.")
class FeatureRow:
    entity: JSON
    values: JSON = strawberry.field(description="By feature, in the order of the declaration.")
    status: FeatureStatus
    timestamp: datetime | None = strawberry.field(description="Event time from which on the values hold.")
    age_seconds: float | None
    as_of: datetime | None = strawberry.field(description="Event time up to which the stream was read.")
    lag_seconds: float | None = strawberry.field(description="Wall-clock time less `asOf`.")
    position: JSON = strawberry.field(description="The last offset by partition that went in.")

    @staticmethod
    def all_of(answer: Answer) -> list[FeatureRow]:
        rows = []
        for row in answer.rows:
            ((name, found),) = row.views.items()
            state = answer.views[name]
            values = {column.removeprefix(f"{name}__"): _plain(value) for column, value in row.values.items()}
            rows.append(
                FeatureRow(
                    entity=JSON(dict(row.entity)),
                    values=JSON(values),
                    status=FeatureStatus(found.status),
                    timestamp=found.timestamp,
                    age_seconds=found.age_seconds,
                    as_of=state.as_of,
                    lag_seconds=state.lag_seconds,
                    position=JSON({str(partition): offset for partition, offset in state.position.items()}),
                )
            )
        return rows


@strawberry.type(description="A declared feature.")
class FeatureField:
    name: str
    type: str
    unit: str | None
    description: str
    owner: str | None
    inputs: list[str]


@strawberry.type(name="FeatureView", description="The last version of a declared feature view.")
class FeatureViewType:
    name: str
    version: int
    applied_at: datetime
    description: str
    owner: str | None
    entity: list[str]
    timestamp: str
    ttl_seconds: float
    frequency_seconds: float
    depends_on: list[str]
    features: list[FeatureField]

    @staticmethod
    def of(found: Registered) -> FeatureViewType:
        view = found.view
        return FeatureViewType(
            name=view.name,
            version=found.version,
            applied_at=found.applied_at,
            description=view.description,
            owner=view.owner,
            entity=list(view.entity),
            timestamp=view.timestamp,
            ttl_seconds=view.ttl.total_seconds(),
            frequency_seconds=view.frequency.total_seconds(),
            depends_on=list(view.depends_on),
            features=[
                FeatureField(
                    name=each.name,
                    type=each.type,
                    unit=each.unit,
                    description=each.description,
                    owner=view.owner_of(each),
                    inputs=list(each.inputs),
                )
                for each in view.features
            ],
        )


def _plain(value: object) -> object:
    """As JSON knows it: times and decimals as text."""
    return json.loads(json.dumps(value, default=str))
