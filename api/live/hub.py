"""One cursor on a view for the whole process, fanned out to channels by tenant and filter.

A channel is one tenant's subscription to one filter; clients that ask the same share it, so matching and framing cost
the same for one client and for a thousand. The tenant is compared before anything else, so a row cannot reach a channel
of another tenant whatever its filter.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Hashable, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Protocol, cast

from api.database import StatementError
from api.live.changes import INSERTIONS, Change, ChangeFeed, Position, Row
from api.live.frames import Frame, FrameBuilder, Gap
from api.live.mailbox import ClosedError, Mailbox, OverflowPolicy
from core.clock import Clock
from core.errors import HeadraceError, UnavailableError
from core.ids import TenantId

logger = logging.getLogger(__name__)

FRAME_SECONDS = 0.1
REPLAY_CHANGES = 10_000  # kept for clients that reconnect: seconds to minutes at the rates of a laptop
_FIRST_RETRY_SECONDS, _LAST_RETRY_SECONDS = 0.25, 2.0


class Filter(Hashable, Protocol):
    """Which rows of a view a client wants; equal filters share a channel."""

    def matches(self, row: Row) -> bool: ...


class _Channel:
    """The frames of one tenant and filter."""

    def __init__(self, wanted: Filter, rng: random.Random) -> None:
        self.wanted = wanted
        self.mailboxes: set[Mailbox] = set()
        self._builder = FrameBuilder(rng)
        self.seq = 0
        self.lost = False  # the feed had to begin anew: nobody knows what was missed

    def take(self, change: Change) -> None:
        if self.wanted.matches(change.row):
            _put(self._builder, change)

    def flush(self, cursor: Position, now_ms: float) -> None:
        """Close the interval and give its frame, if anything happened, to every mailbox."""
        if self._builder.empty:
            return
        self.seq += 1
        frame = self._builder.build(self.seq, cursor, now_ms)
        if self.lost:
            frame, self.lost = _with_unknown_gap(frame), False
        for mailbox in self.mailboxes:
            mailbox.offer(frame)


class Subscription:
    """One client's view of a channel. Close it, however the client went."""

    def __init__(self, hub: Hub, key: tuple[TenantId, Filter], mailbox: Mailbox) -> None:
        self._hub = hub
        self._key = key
        self._mailbox = mailbox

    def __aiter__(self) -> AsyncIterator[Frame]:
        return self

    async def __anext__(self) -> Frame:
        return await self._mailbox.next()

    def close(self) -> None:
        self._hub._leave(self._key, self._mailbox)


class Hub:
    """Follows one view and serves all its subscribers.

    Args:
        view: for log lines and health.
        feed: where the changes come from; followed from `start` to `stop`, and again after every failure.
        clock: tells the frame's time for the delivery lag.
        seed: of the row sampling.
    """

    def __init__(self, view: str, feed: ChangeFeed, clock: Clock, *, seed: int = 0) -> None:
        self.view = view
        self._feed = feed
        self._clock = clock
        self._rng = random.Random(seed)  # noqa: S311  # sampling, no secret
        self._channels: defaultdict[TenantId, dict[Filter, _Channel]] = defaultdict(dict)
        self._position = Position(0, 0)
        self._begun: Position | None = None  # the first place that the kept changes reach back to
        self._kept: deque[tuple[Position, Change]] = deque(maxlen=REPLAY_CHANGES)
        self._tasks: list[asyncio.Task[None]] = []
        self._stopped = False
        self.connected = False

    async def start(self) -> None:
        """Begin to follow the view, in the background."""
        self._tasks = [asyncio.create_task(self._follow()), asyncio.create_task(self._tick())]

    async def stop(self) -> None:
        """Stop following and end every subscription."""
        self._stopped = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for channels in self._channels.values():
            for channel in channels.values():
                for mailbox in channel.mailboxes:
                    mailbox.fail(ClosedError("the server is shutting down", fix="Subscribe again in a moment."))

    @property
    def subscribers(self) -> int:
        return sum(len(channel.mailboxes) for channels in self._channels.values() for channel in channels.values())

    @property
    def channels(self) -> int:
        return sum(len(channels) for channels in self._channels.values())

    def subscribe(
        self,
        tenant: TenantId,
        wanted: Filter,
        *,
        after: Position | None = None,
        capacity: int = 256,
        policy: OverflowPolicy = OverflowPolicy.COALESCE,
    ) -> Subscription:
        """Join a channel.

        Args:
            after: resume there: what was missed comes as the first frame, or as a gap of unknown size when the process
                no longer (or, after a restart, not yet) knows the changes between.
            capacity: frames that may wait for the client.
        """
        if self._stopped:
            raise UnavailableError("the server is shutting down")
        channel = self._channels[tenant].setdefault(wanted, _Channel(wanted, self._rng))
        channel.flush(self._position, self._now_ms())  # so that the newcomer begins exactly at the hub's position
        mailbox = Mailbox(capacity, policy)
        if after is not None:
            missed = self._missed(tenant, wanted, after, channel.seq)
            if missed is not None:
                mailbox.offer(missed)
        channel.mailboxes.add(mailbox)
        return Subscription(self, (tenant, wanted), mailbox)

    def _leave(self, key: tuple[TenantId, Filter], mailbox: Mailbox) -> None:
        tenant, wanted = key
        channels = self._channels.get(tenant, {})
        channel = channels.get(wanted)
        if channel is None:
            return
        channel.mailboxes.discard(mailbox)
        if not channel.mailboxes:
            del channels[wanted]
            if not channels:
                del self._channels[tenant]

    def _missed(self, tenant: TenantId, wanted: Filter, after: Position, seq: int) -> Frame | None:
        builder = FrameBuilder(self._rng)
        for position, change in self._kept:
            if position > after and change.row.get("tenant_id") == tenant and wanted.matches(change.row):
                _put(builder, change)
        reaches_back = self._begun is not None and after >= self._begun
        if builder.empty and reaches_back:
            return None
        frame = builder.build(seq, self._position, self._now_ms())
        return frame if reaches_back else _with_unknown_gap(frame)

    def publish(self, changes: Sequence[Change]) -> None:
        """Take changes in commit order and hand them to the channels of their tenants."""
        if changes and self._begun is None:
            self._begun = Position(changes[0].committed_at_ms, 0)
        for change in changes:
            ordinal = self._position.ordinal + 1 if change.committed_at_ms == self._position.committed_at_ms else 1
            if len(self._kept) == REPLAY_CHANGES:
                self._begun = self._kept[0][0]
            self._position = Position(change.committed_at_ms, ordinal)
            self._kept.append((self._position, change))
            tenant = cast(TenantId, change.row.get("tenant_id"))  # a view's column has no type here
            for channel in self._channels.get(tenant, {}).values():
                channel.take(change)

    def flush(self) -> None:
        """Close the interval of every channel."""
        now_ms = self._now_ms()
        for channels in self._channels.values():
            for channel in channels.values():
                channel.flush(self._position, now_ms)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(FRAME_SECONDS)
            self.flush()

    async def _follow(self) -> None:
        """Follow the feed for ever; after a failure go on where it broke off."""
        retry_seconds = _FIRST_RETRY_SECONDS
        while True:
            since_ms = self._position.committed_at_ms or None
            try:
                await self._follow_once(since_ms)
            except HeadraceError as error:
                if self.connected or retry_seconds == _FIRST_RETRY_SECONDS:
                    logger.warning("change feed lost, retrying", extra={"view": self.view, "reason": str(error)})
                if isinstance(error, StatementError) and since_ms is not None and not self.connected:
                    self._forget()  # what we ask for is no longer kept, or the view was built anew: begin now
            if self.connected:
                retry_seconds = _FIRST_RETRY_SECONDS
            self.connected = False
            await asyncio.sleep(retry_seconds)
            retry_seconds = min(retry_seconds * 2, _LAST_RETRY_SECONDS)

    async def _follow_once(self, since_ms: int | None) -> None:
        # The commit at which we broke off comes again from its beginning; its first changes are known.
        known = self._position.ordinal if since_ms is not None else 0
        async with aclosing(self._feed.follow(since_ms)) as batches:
            async for batch in batches:
                if not self.connected:
                    self.connected = True
                    logger.info("change feed connected", extra={"view": self.view, "since_ms": since_ms})
                fresh = batch
                if known:
                    repeated = sum(1 for change in batch[:known] if change.committed_at_ms == since_ms)
                    fresh = batch[repeated:]
                    known = known - repeated if repeated == len(batch) else 0
                self.publish(fresh)

    def _forget(self) -> None:
        self._kept.clear()
        self._begun = None
        self._position = Position(0, 0)
        for channels in self._channels.values():
            for channel in channels.values():
                channel.lost = True

    def _now_ms(self) -> float:
        return self._clock.now().timestamp() * 1000.0


def _put(builder: FrameBuilder, change: Change) -> None:
    if change.op in INSERTIONS:
        builder.insert(change.row, change.committed_at_ms)
    else:
        builder.retract()


def _with_unknown_gap(frame: Frame) -> Frame:
    return replace(frame, gap=Gap(frame.seq, frame.seq, None))
