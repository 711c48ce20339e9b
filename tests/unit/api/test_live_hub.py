"""The hub: one feed, tenants kept apart, resume, clean-up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from api.database import StatementError
from api.live.changes import Change, Position
from api.live.hub import REPLAY_CHANGES, Hub
from api.live.mailbox import ClosedError
from api.reading.predictions import PredictionFilter
from core.errors import InvalidInputError, UnavailableError
from core.fakes import ManualClock
from core.ids import TenantId
from tests.unit.api.doubles import ScriptedFeed, eventually

ACME, GLOBEX = TenantId("acme"), TenantId("globex")
ALL = PredictionFilter()


def _change(number: int, *, tenant: str = ACME, at: int = 1000, op: str = "Insert", score: float | None = 0.5) -> Change:
    return Change({"tenant_id": tenant, "prediction_id": f"p{number:06}", "score": score}, op, at)


@pytest.fixture
async def hub(feed: ScriptedFeed, clock: ManualClock) -> AsyncIterator[Hub]:
    hub = Hub("predictions", feed, clock)
    await hub.start()
    await eventually(lambda: hub.connected)
    yield hub
    await hub.stop()


async def test_a_tenant_never_sees_rows_of_another(hub: Hub, feed: ScriptedFeed) -> None:
    acme, globex = hub.subscribe(ACME, ALL), hub.subscribe(GLOBEX, ALL)
    feed.put(_change(1), _change(2, tenant=GLOBEX), _change(3), Change({"prediction_id": "nobody's"}, "Insert", 1000))
    of_acme, of_globex = await anext(acme), await anext(globex)
    assert [row["prediction_id"] for row in of_acme.rows] == ["p000001", "p000003"]
    assert [row["prediction_id"] for row in of_globex.rows] == ["p000002"]


async def test_a_filter_is_applied_and_null_does_not_match(hub: Hub, feed: ScriptedFeed) -> None:
    high = hub.subscribe(ACME, PredictionFilter(min_score=0.8))
    feed.put(_change(1, score=0.9), _change(2, score=0.1), _change(3, score=None), _change(4, score=0.8))
    assert [row["prediction_id"] for row in (await anext(high)).rows] == ["p000001", "p000004"]


async def test_clients_with_the_same_question_share_a_channel(hub: Hub) -> None:
    first = hub.subscribe(ACME, PredictionFilter(pipeline="plant"))
    second = hub.subscribe(ACME, PredictionFilter(pipeline="plant"))
    other = hub.subscribe(GLOBEX, PredictionFilter(pipeline="plant"))
    assert (hub.subscribers, hub.channels) == (3, 2)
    for subscription in (first, second, other):
        subscription.close()
        subscription.close()  # twice is harmless
    assert (hub.subscribers, hub.channels) == (0, 0)


async def test_retractions_are_counted_and_not_shown(hub: Hub, feed: ScriptedFeed) -> None:
    subscription = hub.subscribe(ACME, ALL)
    feed.put(_change(1), _change(1, op="UpdateDelete", at=1001), _change(1, op="UpdateInsert", at=1001, score=0.7))
    frame = await anext(subscription)
    assert (frame.total, frame.retracted, [row["score"] for row in frame.rows]) == (2, 1, [0.5, 0.7])


async def test_resuming_by_cursor_gives_exactly_what_was_missed(hub: Hub, feed: ScriptedFeed) -> None:
    before = hub.subscribe(ACME, ALL)
    feed.put(_change(1), _change(2, tenant=GLOBEX))
    seen = await anext(before)
    before.close()
    feed.put(_change(3), _change(4, at=1001))  # the first belongs to the commit that was seen in part
    witness = hub.subscribe(ACME, ALL)
    await anext(witness)
    resumed = hub.subscribe(ACME, ALL, after=Position.parse(seen.cursor.encode()))
    feed.put(_change(5, at=1002))
    missed, live = await anext(resumed), await anext(resumed)
    assert [row["prediction_id"] for row in missed.rows] == ["p000003", "p000004"]
    assert missed.gap is None
    assert [row["prediction_id"] for row in live.rows] == ["p000005"]


async def test_resuming_from_before_what_is_kept_says_so(hub: Hub, feed: ScriptedFeed) -> None:
    witness = hub.subscribe(ACME, ALL)
    feed.put(*(_change(number, at=2000 + number) for number in range(REPLAY_CHANGES + 10)))
    received = 0
    while received < REPLAY_CHANGES + 10:
        received += (await anext(witness)).total
    late = await anext(hub.subscribe(ACME, ALL, after=Position(2000, 1)))
    assert late.gap is not None
    assert late.gap.count is None
    assert late.total == REPLAY_CHANGES
    in_time = await anext(hub.subscribe(ACME, ALL, after=Position(2010, 1)))
    assert (in_time.gap, in_time.total) == (None, REPLAY_CHANGES - 1)


async def test_after_a_failure_the_feed_goes_on_without_loss_or_repetition(hub: Hub, feed: ScriptedFeed) -> None:
    subscription = hub.subscribe(ACME, ALL)
    feed.put(_change(1), _change(2, at=1001))
    first = await anext(subscription)
    feed.fail(UnavailableError("the stream database is away"))
    # The commit at which it broke off comes again from its beginning, now with a change that had not arrived.
    feed.put(_change(2, at=1001), _change(3, at=1001), _change(4, at=1002))
    second = await anext(subscription)
    assert feed.asked_since == [None, 1001]
    assert [row["prediction_id"] for frame in (first, second) for row in frame.rows] == [
        "p000001", "p000002", "p000003", "p000004",
    ]  # fmt: skip
    assert second.gap is None


async def test_when_the_changes_between_are_gone_clients_are_told(hub: Hub, feed: ScriptedFeed, clock: ManualClock) -> None:
    subscription = hub.subscribe(ACME, ALL)
    feed.put(_change(1))
    await anext(subscription)
    hub._feed = refusing = _RefusingOnce(feed)
    feed.fail(UnavailableError("the stream database is away"))
    await eventually(lambda: refusing.refused and hub.connected)
    feed.put(_change(9, at=9000))
    frame = await anext(subscription)
    assert feed.asked_since == [None, None]
    assert frame.gap is not None
    assert frame.gap.count is None
    assert frame.total == 1


class _RefusingOnce:
    """Refuses the first follow, as a database does whose subscription no longer keeps that time."""

    def __init__(self, feed: ScriptedFeed) -> None:
        self._feed = feed
        self.refused = False

    async def follow(self, since_ms: int | None):  # type: ignore[no-untyped-def]  # as the port's
        if not self.refused:
            self.refused = True
            raise StatementError("the time is out of the retention", sqlstate=None)
        async for batch in self._feed.follow(since_ms):
            yield batch


async def test_stopping_ends_every_subscription(feed: ScriptedFeed, clock: ManualClock) -> None:
    hub = Hub("predictions", feed, clock)
    await hub.start()
    subscription = hub.subscribe(ACME, ALL)
    waiting = asyncio.create_task(anext(subscription))
    await asyncio.sleep(0)
    await hub.stop()
    with pytest.raises(ClosedError):
        await waiting
    with pytest.raises(UnavailableError):
        hub.subscribe(ACME, ALL)


@pytest.mark.parametrize("cursor", ["", "x", "YzE6MTox", "YzI6MTox", "é", "YzE6YTpi"])
def test_only_our_own_cursors_are_taken(cursor: str) -> None:
    if cursor == "YzE6MTox":
        assert Position.parse(cursor) == Position(1, 1)
        return
    with pytest.raises(InvalidInputError):
        Position.parse(cursor)


def test_a_filter_compares_times() -> None:
    at = datetime(2026, 1, 31, tzinfo=UTC)
    assert PredictionFilter(since=at).matches({"feature_end": at})
    assert not PredictionFilter(until=at).matches({"feature_end": at})
