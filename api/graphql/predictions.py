"""Types of predictions, their pages and their frames."""

from __future__ import annotations

from datetime import datetime
from enum import Enum
from typing import Any

import strawberry
from strawberry.scalars import JSON

from api.graphql.context import type_info
from api.graphql.scalars import BigInt, Cursor, from_json
from api.live.changes import Row
from api.live.frames import Frame
from api.reading.predictions import Key, Page, PredictionFilter


@strawberry.enum(description="What a member of a route is there for.")
class Role(Enum):
    CHAMPION = "champion"
    CHALLENGER = "challenger"
    SHADOW = "shadow"


@strawberry.type(description="What one model of the route answered.")
class MemberPrediction:
    model: str
    version: int
    role: Role | None
    weight: float | None = strawberry.field(description="Its relative share, renormalised over the members that answered.")
    value: JSON | None = strawberry.field(description="Its own answer.")

    @staticmethod
    def of(member: dict[str, Any]) -> MemberPrediction:  # Any: JSON
        """From an entry of column `members`."""
        known = {role.value: role for role in Role}
        value = member.get("value", member.get("score"))
        return MemberPrediction(
            model=str(member.get("model")),
            version=int(member.get("version") or 0),
            role=known.get(str(member.get("role"))),
            weight=member.get("weight"),
            value=value,
        )


@strawberry.type(description="The true label of a prediction, as it came back; the last correction counts.")
class Feedback:
    label: str
    labelled_at: datetime | None
    source: str | None


@strawberry.type(description="A prediction that the stream made.")
class Prediction:
    id: strawberry.ID = strawberry.field(description="The same input and route give the same id.")
    pipeline: str | None
    tenant: str
    endpoint: str | None
    entity_id: str | None
    feature_start: datetime | None = strawberry.field(description="Begin of the feature window in event time, inclusive.")
    feature_end: datetime | None = strawberry.field(description="End of the feature window in event time, exclusive.")
    features: list[float | None] | None = strawberry.field(description="In the order of the model's signature.")
    route_epoch: BigInt | None = strawberry.field(description="The epoch of the route that chose the members.")
    label: str | None = strawberry.field(description="The predicted label; null with an error.")
    score: float | None
    members: list[MemberPrediction]
    error: JSON | None = strawberry.field(description="Why there is no label: a typed error of this row.")

    @strawberry.field(description="The true label, if it has come back.")
    async def feedback(self, info: type_info) -> Feedback | None:
        row = await info.context.labels.load(str(self.id))
        return Feedback(label=row["label"], labelled_at=row["labelled_at"], source=row["source"]) if row else None

    @staticmethod
    def of(row: Row) -> Prediction:
        """From a row of relation `predictions`."""
        return Prediction(
            id=strawberry.ID(row["prediction_id"]),
            pipeline=row["pipeline"],
            tenant=row["tenant_id"],
            endpoint=row["endpoint"],
            entity_id=row["entity_id"],
            feature_start=row["feature_start"],
            feature_end=row["feature_end"],
            features=row["features"],
            route_epoch=BigInt(row["route_epoch"]) if row["route_epoch"] is not None else None,
            label=row["label"],
            score=row["score"],
            members=[MemberPrediction.of(member) for member in from_json(row["members"]) or ()],
            error=from_json(row["error"]),
        )


@strawberry.input(name="PredictionFilter", description="Which predictions; all given conditions must hold.")
class PredictionFilterInput:
    pipeline: str | None = None
    endpoint: str | None = None
    entity_id: str | None = None
    label: str | None = None
    min_score: float | None = None
    max_score: float | None = None
    since: datetime | None = strawberry.field(default=None, description="`featureEnd` at or after it.")
    until: datetime | None = strawberry.field(default=None, description="`featureEnd` before it.")


def to_filter(given: PredictionFilterInput | None) -> PredictionFilter:
    """The filter that the readers and the hub understand."""
    return PredictionFilter() if given is None else PredictionFilter(**vars(given))


@strawberry.type(description="Where a page ends.")
class PageInfo:
    has_next_page: bool
    end_cursor: Cursor | None


@strawberry.type
class PredictionEdge:
    cursor: Cursor
    node: Prediction


@strawberry.type(description="A page of predictions, newest `featureEnd` first.")
class PredictionConnection:
    edges: list[PredictionEdge]
    page_info: PageInfo

    @strawberry.field(description="The predictions without their cursors.")
    def nodes(self) -> list[Prediction]:
        return [edge.node for edge in self.edges]

    @staticmethod
    def of(page: Page) -> PredictionConnection:
        edges = [PredictionEdge(cursor=Cursor(Key.of(row).encode()), node=Prediction.of(row)) for row in page.rows]
        return PredictionConnection(
            edges=edges, page_info=PageInfo(has_next_page=page.has_next, end_cursor=edges[-1].cursor if edges else None)
        )


@strawberry.type(
    description="Frames `from` to `to` have no message of their own, because this client was slower than the stream."
)
class FrameGap:
    from_seq: int = strawberry.field(name="from")
    to_seq: int = strawberry.field(name="to")
    count: int | None = strawberry.field(
        description="Rows of those frames that are lost to this client; null when nobody can know: changes no longer kept."
    )


@strawberry.type(
    description="What happened in one interval (100 ms). Totals of all frames add up to the rows that matched; of them "
    "`sampled` are in `rows`, `dropped` were lost because this client was slow, the others were left out by sampling."
)
class PredictionFrame:
    seq: int = strawberry.field(description="Rises by one a frame; a hole is explained by `gap`.")
    cursor: Cursor = strawberry.field(description="Subscribe with `after` set to it to go on from here.")
    total: int
    sampled: int
    dropped: int
    retracted: int = strawberry.field(description="Rows that were taken back in the interval; not part of `total`.")
    p50: float | None = strawberry.field(
        description="Median delivery lag in milliseconds, from the commit in the stream database to this frame, over all rows."
    )
    p99: float | None = strawberry.field(description="99th percentile of the same; an upper bound when frames were merged.")
    gap: FrameGap | None
    rows: list[Prediction] = strawberry.field(description="At most 40, evenly sampled.")
    frame: strawberry.Private[Frame]

    @staticmethod
    def of(frame: Frame) -> PredictionFrame:
        """The GraphQL form of a frame, made once for all clients that share it."""
        known = frame.memo.get(PredictionFrame)
        if not isinstance(known, PredictionFrame):
            known = frame.memo[PredictionFrame] = PredictionFrame._build(frame)
        return known

    @staticmethod
    def _build(frame: Frame) -> PredictionFrame:
        gap = frame.gap
        return PredictionFrame(
            frame=frame,
            seq=frame.seq,
            cursor=Cursor(frame.cursor.encode()),
            total=frame.total,
            sampled=frame.sampled,
            dropped=frame.dropped,
            retracted=frame.retracted,
            p50=frame.p50,
            p99=frame.p99,
            gap=FrameGap(from_seq=gap.first, to_seq=gap.last, count=gap.count) if gap else None,
            rows=[Prediction.of(row) for row in frame.rows],
        )
