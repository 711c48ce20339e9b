"""Subscriptions: frames of a view's changes. See `api.live` for how they are made."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import closing

import strawberry

from api.graphql.context import Context, type_info
from api.graphql.predictions import PredictionFilterInput, PredictionFrame, to_filter
from api.graphql.scalars import Cursor
from api.live.changes import Position
from api.live.hub import Hub
from api.live.hub import Subscription as LiveSubscription
from api.live.mailbox import OverflowPolicy
from core.errors import InvalidInputError

OverflowPolicyType = strawberry.enum(
    OverflowPolicy,
    name="OverflowPolicy",
    description="For a client that reads too slowly: COALESCE merges its oldest frames, DROP_OLDEST discards their rows "
    "(both say so in `gap`), DISCONNECT ends the subscription.",
)

MAX_BUFFER = 1024  # frames; at ten a second the last minute and a half


@strawberry.type
class Subscription:
    @strawberry.subscription(
        description="New predictions in frames, ten a second at most. `buffer` is the number of frames that may wait for a "
        "slow client."
    )
    async def predictions(
        self,
        info: type_info,
        filter: PredictionFilterInput | None = None,  # noqa: A002  # the contract's name
        after: Cursor | None = None,
        buffer: int = 256,
        overflow: OverflowPolicyType = OverflowPolicy.COALESCE,  # type: ignore[valid-type]  # strawberry returns the enum
    ) -> AsyncGenerator[PredictionFrame, None]:
        context = info.context
        with _subscribe(context.services.prediction_hub, context, filter, after, buffer, overflow) as frames:
            async for frame in frames:
                _ = context.anybody  # a key may have been revoked while the socket was open
                yield PredictionFrame.of(frame)

    @strawberry.subscription(description="New anomalies in frames, as `predictions`.")
    async def anomalies(
        self,
        info: type_info,
        filter: PredictionFilterInput | None = None,  # noqa: A002  # the contract's name
        after: Cursor | None = None,
        buffer: int = 256,
        overflow: OverflowPolicyType = OverflowPolicy.COALESCE,  # type: ignore[valid-type]  # strawberry returns the enum
    ) -> AsyncGenerator[PredictionFrame, None]:
        context = info.context
        with _subscribe(context.services.anomaly_hub, context, filter, after, buffer, overflow) as frames:
            async for frame in frames:
                _ = context.anybody  # a key may have been revoked while the socket was open
                yield PredictionFrame.of(frame)


def _subscribe(
    hub: Hub, context: Context, wanted: PredictionFilterInput | None, after: str | None, buffer: int, overflow: OverflowPolicy
) -> closing[LiveSubscription]:
    """Join the hub; leaving the block leaves the hub, also when the client is gone without a word."""
    if not 1 <= buffer <= MAX_BUFFER:
        raise InvalidInputError(f"`buffer` is {buffer}", fix=f"Ask for 1 to {MAX_BUFFER} frames.")
    position = Position.parse(after) if after is not None else None
    return closing(hub.subscribe(context.identity.tenant, to_filter(wanted), after=position, capacity=buffer, policy=overflow))
